"""Real World Value Mapping objects as HTML and text, and their icon."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from starlette.testclient import TestClient

from dicomweb.rendering.content_text import as_text
from dicomweb.rendering.mappings import MOST_LINES, mapping
from storage.archive import Archive
from tests.support import made, web
from tests.support.corpus import corpus_file
from tests.support.states import item

RWVM = "1.2.840.10008.5.1.4.1.1.67"
PATH = "studies/1.2.3/series/1.2.3.4/instances/1.2.3.4.1"


@pytest.fixture
def client(archive: Archive) -> Iterator[TestClient]:
    with web.client(archive) as client:
        yield client


def stored(client: TestClient, *groups: Dataset, **attributes: Any) -> None:
    known: dict[str, Any] = {"Modality": "RWV", "ReferencedImageRealWorldValueMappingSequence": list(groups), **attributes}
    answer = web.stow(client, [made.instance(1, sop_class=RWVM, pixels=False, **known)])
    assert answer.status_code == 200, answer.text


def got(client: TestClient, accept: str, path: str = PATH) -> str:
    answer = client.get(f"{path}/rendered", headers={"Accept": accept})
    assert answer.status_code == 200, answer.text
    return answer.text


def test_a_mapping_to_suv_is_told_in_words(client: TestClient) -> None:
    """Of 191 images of a PET; one of them is linked."""
    file = corpus_file("derived/rwvm.dcm")
    uids = dcmread(file)
    assert web.stow(client, [file.read_bytes()]).status_code == 200
    path = f"studies/{uids.StudyInstanceUID}/series/{uids.SeriesInstanceUID}/instances/{uids.SOPInstanceUID}"
    lines = [line.strip() for line in got(client, "text/plain", path).splitlines()]
    assert lines[lines.index("# 191 images") :][2:] == [
        "# {SUVbw}g/ml: Standardized Uptake Value body weight",
        "Quantity: Standardized Uptake Value (126400, DCM)",
        "Measurement Method: SUV body weight calculation method (126410, DCM)",
        "Units: Standardized Uptake Value body weight ({SUVbw}g/ml, UCUM)",
        "Stored values: 0 to 32761",
        "Real values: 0.000375125 × stored value",
    ]
    middle = uids.ReferencedImageRealWorldValueMappingSequence[0].ReferencedImageSequence[95].ReferencedSOPInstanceUID
    series = uids.ReferencedSeriesSequence[0].SeriesInstanceUID
    html = got(client, "text/html", path)
    assert f"/studies/{uids.StudyInstanceUID}/series/{series}/instances/{middle}/rendered" in html


# An item of the Real World Value Mapping Sequence, and the lines that it gives.
MAPPINGS: tuple[tuple[Dataset, list[str]], ...] = (
    (item(LUTLabel="T1", RealWorldValueSlope=0.5, RealWorldValueIntercept=-10.0), ["# T1", "Real values: 0.5 × stored value - 10"]),
    (
        item(LUTLabel="ADC", DoubleFloatRealWorldValueFirstValueMapped=0.0, DoubleFloatRealWorldValueLastValueMapped=1.5, RealWorldValueSlope=1.0, RealWorldValueIntercept=0.0),
        ["# ADC", "Stored values: 0 to 1.5", "Real values: 1 × stored value"],
    ),
    (item(LUTExplanation="thickness", RealWorldValueLUTData=[1.0, 2.0, 4.5]), ["# thickness", "Real values: by a table of 3 entries, from 1 to 4.5"]),
    (item(MeasurementUnitsCodeSequence=[item(CodeValue="mm", CodingSchemeDesignator="UCUM")]), ["# Mapping", "Units: mm, UCUM"]),
    (item(LUTLabel="<b>&"), ["# <b>&"]),
    (item(), ["# Mapping"]),
)


@pytest.mark.parametrize(("made_of", "expected"), MAPPINGS)
def test_how_real_values_come_of_stored_ones(client: TestClient, made_of: Dataset, expected: list[str]) -> None:
    images = [item(ReferencedSOPClassUID="1.2", ReferencedSOPInstanceUID="1.9.1")]
    stored(client, item(RealWorldValueMappingSequence=[made_of], ReferencedImageSequence=images))
    lines = [line.strip() for line in got(client, "text/plain").splitlines()]
    assert lines[lines.index("# 1 image") :] == ["# 1 image", "It: image 1.9.1", *expected]
    assert "<b>" not in got(client, "text/html")


def test_an_empty_object_says_what_it_is(client: TestClient) -> None:
    stored(client)
    assert "Real World Value Mapping" in got(client, "text/html")
    icon = client.get(f"{PATH}/thumbnail", headers={"Accept": "image/png"})
    assert Image.open(io.BytesIO(icon.content)).size == (128, 128)
    page = client.get(f"{PATH}/rendered", headers={"Accept": "image/png"})
    assert page.status_code == 200
    assert min(Image.open(io.BytesIO(page.content)).size) > 400


def test_an_object_without_end_ends() -> None:
    one = item(ReferencedImageRealWorldValueMappingSequence=[item(RealWorldValueMappingSequence=[item() for _ in range(MOST_LINES + 5)])])
    found = mapping(one.to_json_dict())
    assert (len(found.lines), str(MOST_LINES) in found.left_out) == (MOST_LINES, True)
    assert as_text(found)
