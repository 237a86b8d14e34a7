"""Blending presentation states as pictures: colours calculated by hand, and the images brought together by where they are."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import UID
from starlette.testclient import TestClient

from dicomweb.settings import WebSettings
from storage.archive import Archive
from tests.support import states, web
from tests.support.corpus import corpus_file
from tests.support.states import displayed, image, item, window

STATE = f"studies/{states.STUDY}/series/{states.STATE_SERIES}/instances/{states.STATE}"
ADVANCED = "1.2.840.10008.5.1.4.1.1.11.8"
ROWS, COLUMNS = 24, 32
WHOLE = window(2048, 4096)
BELOW, ABOVE = "1.2.3.4.1", "1.2.3.5.1"
# All red, from none to full; 256 entries of 16 bits.
RAMP = np.linspace(0, 65535, 256).astype("<u2").tobytes()
NOTHING = bytes(512)

Inputs = tuple[tuple[Dataset, dict[str, Any]], ...]


@pytest.fixture
def client(archive: Archive) -> Iterator[TestClient]:
    with web.client(archive, WebSettings(layout_cache_seconds=-1)) as client:
        yield client


def palette(red: bytes = RAMP, green: bytes = NOTHING, blue: bytes = NOTHING) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for colour, data in (("Red", red), ("Green", green), ("Blue", blue)):
        found[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        found[f"{colour}PaletteColorLookupTableData"] = data
    return found


def slice_of(values: Any, uid: str, *, spacing: float = 1, z: float = 0, left: float = 0, frame: str = "1.9", **attributes: Any) -> Dataset:
    made = image(
        np.asarray(values, "<u2"), uid, FrameOfReferenceUID=frame, ImagePositionPatient=[left, 0, z], ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        PixelSpacing=[spacing, spacing], SliceThickness=2, **attributes,
    )  # fmt: skip
    made.SeriesInstanceUID = uid.rpartition(".")[0]
    return made


def named(one: Dataset) -> dict[str, Any]:
    reference = item(ReferencedSOPClassUID=one.SOPClassUID, ReferencedSOPInstanceUID=one.SOPInstanceUID)
    return {"SeriesInstanceUID": one.SeriesInstanceUID, "ReferencedImageSequence": [reference]}


def blending(below: Dataset, above: Dataset, opacity: float = 0.25, **attributes: Any) -> Dataset:
    """The state of PS3.3 A.33.4."""
    parts = [
        item(BlendingPosition=where, StudyInstanceUID=states.STUDY, ReferencedSeriesSequence=[item(**named(one))], SoftcopyVOILUTSequence=[WHOLE])
        for where, one in (("UNDERLYING", below), ("SUPERIMPOSED", above))
    ]
    given = {"BlendingSequence": parts, "RelativeOpacity": opacity, **palette(), **attributes}
    made = states.state(below, sop_class=states.BLENDING, area=displayed(right=below.Columns, bottom=below.Rows), **given)
    del made.ReferencedSeriesSequence
    return made


def advanced(steps: list[Dataset], *inputs: tuple[Dataset, dict[str, Any]], **attributes: Any) -> Dataset:
    """The state of PS3.3 A.33.8."""
    parts = [
        item(BlendingInputNumber=number, StudyInstanceUID=states.STUDY, SoftcopyVOILUTSequence=[WHOLE], **named(one), **more)
        for number, (one, more) in enumerate(inputs, 1)
    ]
    below = inputs[0][0]
    made = states.state(
        below, sop_class=ADVANCED, area=displayed(right=below.Columns, bottom=below.Rows), AdvancedBlendingSequence=parts, BlendingDisplaySequence=steps, **attributes
    )  # fmt: skip
    del made.ReferencedSeriesSequence
    return made


def step(mode: str, *inputs: int, opacity: float | None = None, result: int | None = None) -> Dataset:
    made = item(BlendingMode=mode, BlendingDisplayInputSequence=[item(BlendingInputNumber=one) for one in inputs])
    if opacity is not None:
        made.RelativeOpacity = opacity
    if result is not None:
        made.BlendingInputNumber = result
    return made


def drawn(client: TestClient, *datasets: Dataset, path: str = f"{STATE}/rendered") -> Any:
    answer = web.stow(client, [states.encoded(one) for one in datasets])
    assert answer.status_code == 200, answer.text
    answer = client.get(path, headers={"Accept": "image/png"})
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content))).astype(int)


def flat(value: int, rows: int = ROWS, columns: int = COLUMNS) -> Any:
    return np.full((rows, columns), value)


def test_colour_over_grey(client: TestClient) -> None:
    """PS3.4 N.2.4.3 with opacity 1/4: 1024 of 4096 is grey 64; 3072 of 4096 is red 191: (191/4 + 3/4 64, 48, 48)."""
    below, above = slice_of(flat(1024), BELOW), slice_of(flat(3072), ABOVE)
    found = drawn(client, below, above, blending(below, above))
    assert found.shape == (ROWS, COLUMNS, 3)
    assert np.abs(found - (96, 48, 48)).max() <= 1


@pytest.mark.parametrize(("opacity", "expected"), [(0, (64, 64, 64)), (1, (191, 0, 0)), (0.5, (128, 32, 32))])
def test_opacity(client: TestClient, opacity: float, expected: tuple[int, int, int]) -> None:
    below, above = slice_of(flat(1024), BELOW), slice_of(flat(3072), ABOVE)
    assert np.abs(drawn(client, below, above, blending(below, above, opacity)) - expected).max() <= 1


def test_a_coarser_image_is_where_the_patient_has_it_and_ends_where_it_ends(client: TestClient) -> None:
    """Pixels of 4 mm from 8 mm to the right on: only there is anything red, brighter to the right; beyond, the grey is whole."""
    values = np.tile(np.array([800, 1600, 2400, 3200]), (ROWS // 4, 1))
    below, above = slice_of(flat(1024), BELOW), slice_of(values, ABOVE, spacing=4, left=9.5)
    found = drawn(client, below, above, blending(below, above, 1.0))
    red = found[ROWS // 2, :, 0] - found[ROWS // 2, :, 1]
    # The first pixel of 4 mm is from 7.5 to 11.5, so that it covers columns 8 to 11, and the last up to column 23.
    assert np.array_equal(np.flatnonzero(red > 20), np.arange(8, 24))
    assert (np.diff(red[8:24]) >= 0).all()
    assert red[23] > red[8] + 100
    assert np.abs(found[:, :8] - 64).max() <= 1
    assert np.abs(found[:, 24:] - 64).max() <= 1


def test_padding_is_transparent(client: TestClient) -> None:
    values = flat(3072)
    values[:, :10] = 0
    below, above = slice_of(flat(1024), BELOW), slice_of(values, ABOVE, PixelPaddingValue=0)
    found = drawn(client, below, above, blending(below, above))
    assert np.abs(found[:, :10] - 64).max() <= 1
    assert np.abs(found[:, 10:] - (96, 48, 48)).max() <= 1


def test_the_slice_that_lies_there_is_taken(client: TestClient) -> None:
    below, far, near = slice_of(flat(1024), BELOW, z=5), slice_of(flat(4095), ABOVE, z=8), slice_of(flat(3072), "1.2.3.5.2", z=5.5)
    shown = blending(below, far)
    shown.BlendingSequence[1].ReferencedSeriesSequence[0].ReferencedImageSequence += named(near)["ReferencedImageSequence"]
    assert np.abs(drawn(client, below, far, near, shown) - (96, 48, 48)).max() <= 1
    # The whole series, where no images are named.
    del shown.BlendingSequence[1].ReferencedSeriesSequence[0].ReferencedImageSequence
    shown.SOPInstanceUID = shown.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3.9.2")
    whole = drawn(client, shown, path=STATE.replace(states.STATE, "1.2.3.9.2") + "/rendered")
    assert np.abs(whole - (96, 48, 48)).max() <= 1


def test_graphics_turns_and_the_displayed_area_are_those_of_the_image_below(client: TestClient) -> None:
    below, above = slice_of(flat(1024), BELOW), slice_of(flat(3072), ABOVE)
    line = states.annotation("MARKS", states.graphic("POLYLINE", 4, 0, 4, ROWS))
    found = drawn(client, below, above, blending(below, above, ImageRotation=90, GraphicAnnotationSequence=[line]))
    assert found.shape == (COLUMNS, ROWS, 3)
    assert (found[4, 2:-2].min(axis=-1) > 100).all()


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        # (red 191 + grey 64) / 2
        ([step("EQUAL", 1, 2)], (128, 32, 32)),
        ([step("FOREGROUND", 1, 2, opacity=0.75)], (159, 16, 16)),
        ([step("FOREGROUND", 2, 1, opacity=0.75)], (96, 48, 48)),
        # Half of what came of the first step, half grey.
        ([step("EQUAL", 1, 2, result=3), step("EQUAL", 3, 2)], (96, 48, 48)),
        ([step("EQUAL", 1)], (191, 0, 0)),
    ],
)
def test_advanced_blending(client: TestClient, steps: list[Dataset], expected: tuple[int, int, int]) -> None:
    """PS3.4 N.2.6."""
    red, grey = slice_of(flat(3072), BELOW), slice_of(flat(1024), ABOVE)
    inputs: Inputs = (red, {"PaletteColorLookupTableSequence": [item(**palette())]}), (grey, {})
    assert np.abs(drawn(client, red, grey, advanced(steps, *inputs)) - expected).max() <= 1


def test_advanced_blending_where_one_has_padding(client: TestClient) -> None:
    values = flat(3072)
    values[:, :10] = 0
    red, grey = slice_of(values, BELOW, PixelPaddingValue=0), slice_of(flat(1024), ABOVE)
    inputs: Inputs = (red, {"PaletteColorLookupTableSequence": [item(**palette())]}), (grey, {})
    found = drawn(client, red, grey, advanced([step("EQUAL", 1, 2)], *inputs))
    assert np.abs(found[:, :10] - 64).max() <= 1
    assert np.abs(found[:, 10:] - (128, 32, 32)).max() <= 1


def test_a_state_of_another_program(client: TestClient) -> None:
    """By highdicom, of sixteen slices of a wrist, twice in each picture, in two palettes. It has been looked at."""
    shown = corpus_file("derived/synthetic/advanced_blending_ps_mr.dcm")
    state = pydicom.dcmread(shown)
    wanted = {one.ReferencedSOPInstanceUID for part in state.AdvancedBlendingSequence for one in part.ReferencedImageSequence}
    rows = (shown.parents[2] / "MANIFEST.tsv").read_text().splitlines()
    images = [corpus_file(row.split("\t")[0]) for row in rows if wanted & set(row.split("\t"))]
    assert len(images) == len(wanted)
    assert web.stow(client, [shown.read_bytes(), *(path.read_bytes() for path in images)]).status_code == 200
    answer = client.get(
        f"studies/{state.StudyInstanceUID}/series/{state.SeriesInstanceUID}/instances/{state.SOPInstanceUID}/rendered", headers={"Accept": "image/png"}
    )
    assert answer.status_code == 200, answer.text
    assert np.ptp(np.asarray(Image.open(io.BytesIO(answer.content))).astype(int), axis=-1).max() > 60


def other_frame() -> tuple[Dataset, ...]:
    below, above = slice_of(flat(1024), BELOW), slice_of(flat(3072), ABOVE, frame="1.10")
    return below, above, blending(below, above)


def missing() -> tuple[Dataset, ...]:
    below, above = slice_of(flat(1024), BELOW), slice_of(flat(3072), ABOVE)
    return below, blending(below, above)


def no_opacity() -> tuple[Dataset, ...]:
    below, above = slice_of(flat(1024), BELOW), slice_of(flat(3072), ABOVE)
    shown = blending(below, above)
    del shown.RelativeOpacity
    return below, above, shown


def with_steps(*steps: Dataset, **more: Any) -> tuple[Dataset, ...]:
    below, above = slice_of(flat(1024), BELOW), slice_of(flat(3072), ABOVE)
    return below, above, advanced(list(steps), (below, more), (above, {}))


@pytest.mark.parametrize(
    ("datasets", "status", "names"),
    [
        (other_frame(), 406, "frames of reference"),
        (missing(), 404, ABOVE),
        (no_opacity(), 406, "opaque"),
        (with_steps(step("EQUAL", 1, 7)), 406, "input 7"),
        (with_steps(step("EQUAL", 1, 2, result=3)), 406, "last"),
        (with_steps(step("FOREGROUND", 1, 2)), 406, "opacity"),
        (with_steps(), 406, "nothing to be blended"),
        (with_steps(step("EQUAL", 1, 2), ThresholdSequence=[item(ThresholdType="RANGE_INCL")]), 406, "thresholds"),
        (with_steps(step("EQUAL", 1, 2), TimeSeriesBlending="TRUE"), 406, "time series"),
    ],
)
def test_what_cannot_be_blended_says_why(client: TestClient, datasets: tuple[Dataset, ...], status: int, names: str) -> None:
    assert web.stow(client, [states.encoded(one) for one in datasets]).status_code == 200
    answer = client.get(f"{STATE}/rendered", headers={"Accept": "image/png"})
    assert (answer.status_code, names in answer.json()["error"]) == (status, True), answer.text


def test_the_picture_is_another_when_another_image_comes(client: TestClient) -> None:
    """Its ETag is that of all images in it: what lies nearer comes after the state has been looked at, and takes the place of what was there."""
    below, far, near = slice_of(flat(1024), BELOW, z=5), slice_of(flat(0), ABOVE, z=6), slice_of(flat(3072), "1.2.3.5.2", z=5)
    shown = blending(below, far)
    del shown.BlendingSequence[1].ReferencedSeriesSequence[0].ReferencedImageSequence
    png = {"Accept": "image/png"}
    assert np.abs(drawn(client, below, far, shown) - 48).max() <= 1
    paths = f"{STATE}/rendered", f"{STATE}/thumbnail"
    etags = [client.get(path, headers=png).headers["etag"] for path in paths]
    for path, etag in zip(paths, etags, strict=True):
        assert client.get(path, headers={**png, "If-None-Match": etag}).status_code == 304
    assert np.abs(drawn(client, near) - (96, 48, 48)).max() <= 1
    for path, etag in zip(paths, etags, strict=True):
        answer = client.get(path, headers={**png, "If-None-Match": etag})
        assert (answer.status_code, answer.headers["etag"] != etag) == (200, True), path
        colours = np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB")).astype(int)
        assert np.abs(colours[ROWS // 2, COLUMNS // 2] - (96, 48, 48)).max() <= 1, path
