"""Windows and VOI LUTs of an image by their names (PS3.3 C.11.2, Window Center & Width Explanation and LUT Explanation)."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import UID
from starlette.testclient import TestClient

from dicomweb.settings import WebSettings
from pacs.viewer import is_in_viewer
from storage.archive import Archive
from storage.preset_file import built_in
from storage.presets import PERCENT
from tests.support import states, web
from tests.support.states import image, item

PATH = f"studies/{states.STUDY}/series/{states.SERIES}/instances/{states.IMAGE}"
VALUES = [0, 500, 1000, 2000]
NAMED: dict[str, Any] = {"WindowCenter": [500, 1000], "WindowWidth": [1000, 2000], "WindowCenterWidthExplanation": ["Narrow", "WIDE  one"], "VOILUTFunction": "LINEAR_EXACT"}
NARROW, WIDE = [0, 128, 255, 255], [0, 64, 128, 255]


@pytest.fixture
def client(archive: Archive) -> Iterator[TestClient]:
    with web.client(archive, WebSettings(layout_cache_seconds=-1)) as client:
        yield client


def made(frames: int = 1, modality: str = "MR", **attributes: Any) -> Dataset:
    values = np.kron(np.array([VALUES], "<u2"), np.ones((8, 8), "<u2"))
    found = image(values if frames == 1 else np.stack([values] * frames), **attributes)
    found.Modality = modality
    return found


def levels(client: TestClient, window: str, path: str = "rendered") -> list[int]:
    answer = client.get(f"{PATH}/{path}", params={"window": window} if window else {}, headers={"Accept": "image/png"})
    assert answer.status_code == 200, answer.text
    found: list[int] = np.asarray(Image.open(io.BytesIO(answer.content)))[4, 4::8].tolist()
    return found


def stored(client: TestClient, dataset: Dataset) -> None:
    assert web.stow(client, [states.encoded(dataset)]).status_code == 200


@pytest.mark.parametrize(("window", "expected"), [("", NARROW), ("narrow", NARROW), ("Wide One", WIDE), (" wide one ", WIDE)])
def test_a_window_is_had_by_its_name_in_any_case(client: TestClient, window: str, expected: list[int]) -> None:
    stored(client, made(**NAMED))
    assert levels(client, window) == expected
    assert levels(client, window, "thumbnail") == expected


def test_a_voi_lut_is_had_by_its_name(client: TestClient) -> None:
    """As mammograms have them: NORMAL, HARDER, SOFTER."""
    tables = [
        item(LUTDescriptor=[4, 0, 8], LUTData=np.array(entries, "<u2").tobytes(), LUTExplanation=name)
        for name, entries in (("NORMAL", [0, 85, 170, 255]), ("HARDER", [0, 10, 245, 255]))
    ]
    for table in tables:
        table["LUTDescriptor"].VR, table["LUTData"].VR = "US", "OW"
    found = made(VOILUTSequence=tables)
    found.PixelData = np.kron(np.array([[0, 1, 2, 3]], "<u2"), np.ones((8, 8), "<u2")).tobytes()
    stored(client, found)
    assert levels(client, "") == [0, 85, 170, 255]
    assert levels(client, "harder") == [0, 10, 245, 255]


def test_each_frame_has_its_own(client: TestClient) -> None:
    groups = [
        item(FrameVOILUTSequence=[item(WindowCenter=center, WindowWidth=2 * center, WindowCenterWidthExplanation="A", VOILUTFunction="LINEAR_EXACT")])
        for center in (500, 1000)
    ]
    groups.append(item(FrameVOILUTSequence=[item(WindowCenter=1, WindowWidth=2, WindowCenterWidthExplanation="B")]))
    stored(client, made(3, PerFrameFunctionalGroupsSequence=groups))
    assert [levels(client, "a", f"frames/{number}/rendered") for number in (1, 2)] == [NARROW, WIDE]
    answer = client.get(f"{PATH}/frames/3/rendered?window=a")
    assert (answer.status_code, "it has: B" in answer.text) == (400, True), answer.text


def test_a_preset_of_the_modality_is_before_it_and_one_of_another_behind(client: TestClient) -> None:
    """Lung is a preset of CT: the same name is the same picture there, in the viewer and here."""
    named = NAMED | {"WindowCenterWidthExplanation": ["Narrow", "Lung"]}
    stored(client, made(**named))
    assert levels(client, "lung") == WIDE
    stored(client, _as(made(modality="CT", **named), "1.2.3.4.2"))
    answer = client.get(PATH.replace(states.IMAGE, "1.2.3.4.2") + "/rendered?window=lung", headers={"Accept": "image/png"})
    assert np.asarray(Image.open(io.BytesIO(answer.content)))[4, 4::8].tolist() == [230, 255, 255, 255]


def _as(dataset: Dataset, uid: str) -> Dataset:
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(uid)
    return dataset


@pytest.mark.parametrize(
    ("window", "changes", "says"),
    [
        ("bright", {}, "the image's own windows: Narrow, WIDE  one"),
        ("narrow", {"WindowWidth": [0, 2000]}, "impossible width in the image, 0"),
        ("narrow", {"WindowWidth": [1000]}, "name of a preset"),
    ],
)
def test_what_cannot_be_had_is_refused_with_the_names_there_are(client: TestClient, window: str, changes: dict[str, Any], says: str) -> None:
    stored(client, made(**(NAMED | changes)))
    answer = client.get(f"{PATH}/rendered", params={"window": window})
    assert (answer.status_code, says in answer.text) == (400, True), answer.text


@pytest.mark.parametrize(
    ("changes", "query", "warned"),
    [
        ({"WindowWidth": [0, -1]}, "", True),
        ({"WindowWidth": [0, 2000]}, "", False),
        ({"WindowWidth": [0, 0]}, "?window=500,1000", False),
        ({"WindowWidth": [0.5, 0.5]}, "", False),
        ({"WindowWidth": [0.5, 0.5], "VOILUTFunction": "LINEAR"}, "", True),
    ],
)
@pytest.mark.parametrize("path", ["rendered", "frames/1/rendered", "thumbnail"])
def test_a_picture_whose_own_window_cannot_be_says_so(client: TestClient, path: str, changes: dict[str, Any], query: str, warned: bool) -> None:
    stored(client, made(**(NAMED | changes)))
    answer = client.get(f"{PATH}/{path}{query}")
    assert answer.status_code == 200
    assert ("Window Width (0028,1051) of the image is" in answer.headers.get("Warning", "")) is warned


@pytest.mark.parametrize("modality", ["MR", "CR"])
def test_auto_is_the_picture_that_the_image_has_without_a_window(client: TestClient, modality: str) -> None:
    stored(client, made(modality=modality))
    automatic = levels(client, "")
    stored(client, _as(made(modality=modality, **NAMED), "1.2.3.4.2"))
    other = PATH.replace(states.IMAGE, "1.2.3.4.2")
    answers = [client.get(f"{other}/{path}?window=auto", headers={"Accept": "image/png"}) for path in ("rendered", "thumbnail")]
    found = [np.asarray(Image.open(io.BytesIO(one.content)))[4, 4::8].tolist() for one in answers]
    assert found == [automatic, automatic]
    assert automatic == [0, 64, 128, 255] != NARROW


def test_auto_does_not_flicker_in_a_moving_picture(client: TestClient) -> None:
    """Both frames are shown in the window of one, the first."""
    found = made(2)
    bright = np.frombuffer(found.PixelData, "<u2").reshape(2, 8, -1).copy()
    bright[1] *= 2
    found.PixelData = bright.tobytes()
    stored(client, found)
    moving = Image.open(io.BytesIO(client.get(f"{PATH}/rendered?window=auto", headers={"Accept": "image/gif"}).content))
    moving.seek(1)
    assert np.asarray(moving.convert("L"))[4, 4::8].tolist() == [0, 128, 255, 255]


def test_the_viewer_is_not_offered_what_it_cannot_show() -> None:
    """OHIF's presets are numbers; a site's default in percentiles is one for images without a window all the same."""
    auto = [one for one in built_in() if one.units == PERCENT]
    assert [(one.id, is_in_viewer(one)) for one in auto] == [("mr-auto", False), ("cr-auto", False)]


def test_a_thumbnail_of_what_is_described_as_no_image_is_an_icon_all_the_same(client: TestClient) -> None:
    found = made(**NAMED)
    del found.Columns
    assert web.stow(client, [states.encoded(found)]).status_code == 202
    assert client.get(f"{PATH}/thumbnail").status_code == 200
