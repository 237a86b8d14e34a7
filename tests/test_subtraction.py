"""Mask subtraction of images and presentation states: three frames whose difference is known by hand."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from starlette.testclient import TestClient

from dicomweb.rendering.masks import Subtraction, own_subtraction, stated_subtraction
from dicomweb.rendering.subtraction import Scale, difference, logarithms
from dicomweb.settings import WebSettings
from storage.archive import Archive
from storage.errors import CannotDecode
from tests.support import states, web
from tests.support.corpus import corpus_file
from tests.support.runs import EXACT, NATIVE, anatomy, averaged, ends, frames, run, tid, vessel
from tests.support.states import item, state, store

IMAGE = f"studies/{states.STUDY}/series/{states.SERIES}/instances/{states.IMAGE}"
STATE = states.STATE_PATH
Pixels = np.ndarray[Any, Any]

TWO: dict[str, Any] = {"ApplicableFrameRange": [2, 3, 6, 7]}
BY_ID: dict[str, Any] = {"PerFrameFunctionalGroupsSequence": [item(), item(FramePixelShiftSequence=[item(SubtractionItemID=7, MaskSubPixelShift=[0.5, -1])])]}

# An image of eight frames, a frame, and what is subtracted from it.
WANTED: tuple[tuple[Dataset, int, Subtraction | None], ...] = (
    (run(averaged(1), mode="NAT"), 2, None),
    (run(averaged(1)), 2, Subtraction((2,), (1,))),
    (run(averaged(1)), 1, None),
    (run(averaged(1, MaskSubPixelShift=[0, 1])), 1, Subtraction((1,), (1,), (0, -1))),
    (run(averaged(1, 2)), 4, Subtraction((4,), (1, 2))),
    (run(averaged(1, 9)), 4, None),
    (run(averaged(1, **TWO)), 3, Subtraction((3,), (1,))),
    (run(averaged(1, **TWO)), 4, None),
    (run(averaged(1, **TWO), averaged(5, ApplicableFrameRange=[4, 4])), 4, Subtraction((4,), (5,))),
    (run(averaged(1, ContrastFrameAveraging=3)), 6, Subtraction((6, 7, 8), (1,))),
    (run(averaged(1, ContrastFrameAveraging=3)), 7, None),
    (run(averaged(1, ContrastFrameAveraging=3, ApplicableFrameRange=[2, 8])), 7, Subtraction((7, 8), (1,))),
    (run(tid()), 5, Subtraction((5,), (4,))),
    (run(tid()), 1, None),
    (run(tid(3)), 5, Subtraction((5,), (2,))),
    (run(tid(-2)), 5, Subtraction((5,), (7,))),
    (run(tid(2, "REV_TID", ApplicableFrameRange=[4, 6])), 6, None),
    (run(tid(1, "REV_TID", ApplicableFrameRange=[4, 6])), 5, Subtraction((5,), (2,))),
    (run(tid(1, "NONE")), 5, None),
    (run(averaged(1, SubtractionItemID=7), **BY_ID), 2, Subtraction((2,), (1,), (0.5, 1))),
    (run(averaged(1, SubtractionItemID=8), **BY_ID), 2, Subtraction((2,), (1,))),
    (run(averaged(1), FrameDisplaySequence=[item(StartTrim=2, StopTrim=3, RecommendedViewingMode="NAT")]), 3, None),
    (run(averaged(1), mode="NAT", FrameDisplaySequence=[item(StartTrim=2, StopTrim=3, RecommendedViewingMode="SUB")]), 3, Subtraction((3,), (1,))),
)  # fmt: skip


@pytest.mark.parametrize(("dataset", "frame", "expected"), WANTED)
def test_which_frames_are_subtracted(dataset: Dataset, frame: int, expected: Subtraction | None) -> None:
    assert own_subtraction(dataset.to_json_dict(), frame, 8) == expected


def test_too_many_frames_are_not_averaged() -> None:
    with pytest.raises(CannotDecode, match="at most 64"):
        own_subtraction(run(averaged(*range(1, 70))).to_json_dict(), 2, 80)


def test_a_state_that_cannot_be_followed_is_refused() -> None:
    for one in (averaged(9), tid(), item(MaskOperation="REVERSE")):
        with pytest.raises(CannotDecode, match=r"subtracts from frame 1"):
            stated_subtraction(item(MaskSubtractionSequence=[one]).to_json_dict(), {}, 1, 4)


# Frames of one row each, what is wanted, and the difference that comes of it, worked by hand.
ARITHMETIC: tuple[tuple[list[list[int]], Subtraction, list[float]], ...] = (
    ([[10, 20, 30], [13, 18, 30]], Subtraction((2,), (1,)), [3, -2, 0]),
    ([[0, 0, 4095], [4095, 0, 0]], Subtraction((2,), (1,)), [4095, 0, -4095]),
    # The means 11, 20, 30 and 13, 17.5, 30.
    ([[10, 20, 30], [12, 20, 30], [13, 15, 30], [13, 20, 30]], Subtraction((3, 4), (1, 2)), [2, -2.5, 0]),
    # Thirds: 10 less 10 1/3.
    ([[10], [10], [11], [10]], Subtraction((4,), (1, 2, 3)), [-1 / 3]),
    # To the right: the mask is 10, 10, 20; to the left 20, 30, 30.
    ([[10, 20, 30], [10, 20, 30]], Subtraction((2,), (1,), (0, 1)), [0, 10, 10]),
    ([[10, 20, 30], [10, 20, 30]], Subtraction((2,), (1,), (0, -1)), [-10, -10, 0]),
    # By half a pixel: 10, 15, 25; by a quarter to the left: 12.5, 22.5, 30.
    ([[10, 20, 30], [10, 20, 30]], Subtraction((2,), (1,), (0, 0.5)), [0, 5, 5]),
    ([[10, 20, 30], [10, 20, 30]], Subtraction((2,), (1,), (0, -0.25)), [-2.5, -2.5, 0]),
)  # fmt: skip


@pytest.mark.parametrize(("rows", "wanted", "expected"), ARITHMETIC)
def test_differences_are_those_worked_by_hand(rows: list[list[int]], wanted: Subtraction, expected: list[float]) -> None:
    stored = np.array(rows, np.uint16)[:, None, :]
    found = difference(wanted, lambda number: stored[number - 1], Scale(12))
    assert found.ends == 4095
    assert found.values.dtype == np.int32
    assert np.abs(found.values).max() <= found.reach
    assert (found.values[0] * found.unit).tolist() == pytest.approx(expected)
    # The same of columns, where the shift is that of rows.
    turned = Subtraction(wanted.contrast, wanted.mask, wanted.shift[::-1])
    down = difference(turned, lambda number: stored[number - 1].T, Scale(12))
    assert (down.values[:, 0] * down.unit).tolist() == pytest.approx(expected)


def test_many_frames_of_many_bits_are_rounded_to_a_table_that_stays_small() -> None:
    stored = np.array([[[65535]], *[[[0]]] * 40], np.uint16)
    found = difference(Subtraction((1,), tuple(range(2, 42))), lambda number: stored[number - 1], Scale(16))
    assert found.reach <= 1 << 20
    assert found.values[0, 0] * found.unit == pytest.approx(65535, abs=found.unit)


def test_linear_intensities_are_subtracted_as_logarithms() -> None:
    """Half of the beam is half of the beam, wherever it is: the same difference behind bone and behind air."""
    entries = logarithms(12).table
    assert (entries[0], entries[4095]) == (0, 65535)
    assert int(entries[2047]) - int(entries[1023]) == pytest.approx(65535 / 12, abs=1)
    assert int(entries[255]) - int(entries[127]) == pytest.approx(65535 / 12, abs=1)


@pytest.fixture
def client(archive: Archive) -> Iterator[TestClient]:
    with web.client(archive, WebSettings(layout_cache_seconds=-1)) as client:
        yield client


def get(client: TestClient, path: str, accept: str = "image/png") -> httpx2.Response:
    return client.get(path, headers={"Accept": accept})


def pixels(answer: httpx2.Response) -> Pixels:
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def test_the_anatomy_goes_and_the_vessel_stays(client: TestClient) -> None:
    store(client, run(averaged(1), **EXACT))
    assert ends(pixels(get(client, f"{IMAGE}/frames/2/rendered"))) == (128, 64)
    assert ends(pixels(get(client, f"{IMAGE}/frames/3/rendered"))) == (128, 0)
    assert len(np.unique(pixels(get(client, f"{IMAGE}/frames/1/rendered")))) > 20, "the mask is as it is stored"
    asked = pixels(get(client, f"{IMAGE}/frames/2/rendered?window=0,1600,linear-exact"))
    assert ends(asked) == (128, 96)
    # (8 / 800 + 1/2) * 255: what is all over is not taken away.
    assert np.unique(pixels(get(client, f"{IMAGE}/frames/4/rendered"))).tolist() == [130]


@pytest.mark.parametrize("attributes", [{}, NATIVE])
def test_without_a_window_of_differences_zero_is_in_the_middle(client: TestClient, attributes: dict[str, Any]) -> None:
    """The vessel is more than a half percent of the image: black."""
    store(client, run(averaged(1), **attributes))
    assert ends(pixels(get(client, f"{IMAGE}/frames/3/rendered"))) == (128, 0)


def test_a_shifted_mask_is_moved_down_and_to_the_left(client: TestClient) -> None:
    """PS3.3 C.7.6.10.1.2. The patient has moved by two rows down and three columns to the left; the mask follows."""
    mask = frames()[0]
    mask[20:24, 30:36] = 3500
    moved = np.roll(mask, (2, -3), axis=(0, 1))
    store(client, run(averaged(1, MaskSubPixelShift=[2, 3]), values=np.stack([mask, moved]), **EXACT))
    shown = pixels(get(client, f"{IMAGE}/frames/2/rendered"))
    # But for the rim, and the step in the middle of the ramp that has gone round.
    assert np.unique(shown[2:, :-3]).tolist() == [128]


def test_natively_where_nothing_else_is_recommended(client: TestClient) -> None:
    store(client, run(averaged(1), mode="NAT", **NATIVE))
    shown = pixels(get(client, f"{IMAGE}/frames/3/rendered"))
    assert shown[0, 0] == pytest.approx(1000 / 4095 * 255, abs=1)
    assert shown[0, -1] == pytest.approx(3000 / 4095 * 255, abs=1)


def test_the_modality_lut_of_logarithms_is_for_linear_values_only(client: TestClient) -> None:
    """PS3.3 C.8.7.1.1.2: it undoes the logarithm; with it differences would not be those of the vessel alone."""
    table = item(LUTDescriptor=[4096, 0, 16], LUTData=(np.arange(4096, dtype="<u2") ** 2 // 256).tobytes(), ModalityLUTType="US")
    table["LUTData"].VR = "OW"
    store(client, run(averaged(1), ModalityLUTSequence=[table], **EXACT))
    assert ends(pixels(get(client, f"{IMAGE}/frames/2/rendered"))) == (128, 64)


LINEAR: tuple[dict[str, Any], ...] = (
    {"PixelIntensityRelationship": "LIN"},
    # An enhanced image says it of its frames.
    {"PixelIntensityRelationship": None, "SharedFunctionalGroupsSequence": [item(FramePixelDataPropertiesSequence=[item(PixelIntensityRelationship="LIN")])]},
)


@pytest.mark.parametrize("attributes", LINEAR)
def test_linear_values_lose_their_anatomy_too(client: TestClient, attributes: dict[str, Any]) -> None:
    """A vessel that lets half of the beam through, behind which there is more or less bone."""
    mask = anatomy()
    half = np.where(vessel(), mask // 2, mask).astype("<u2")
    store(client, run(averaged(1), values=np.stack([mask, half]), **attributes, **NATIVE))
    shown = pixels(get(client, f"{IMAGE}/frames/2/rendered?window=0,1000,linear-exact"))
    assert np.unique(shown[~vessel()]).tolist() == [128]
    # log 2 of log 4096 is a twelfth of 4095: 341.25 of 1000 below the middle.
    assert shown[vessel()].astype(int) == pytest.approx(round((0.5 - 0.34125) * 255), abs=1)


def test_the_film_is_subtracted_in_one_window(client: TestClient) -> None:
    store(client, run(averaged(1)))
    film = Image.open(io.BytesIO(get(client, f"{IMAGE}/rendered", "image/gif").content))
    found = []
    for number in (1, 2):
        film.seek(number)
        found.append(np.asarray(film.convert("L")))
    assert [int(np.median(one[~vessel()])) for one in found] == [128, 128]
    # The window is that of the middle one of those that are subtracted: 400 to either side.
    assert [int(np.median(one[vessel()])) for one in found] == pytest.approx([64, 0], abs=2)


def test_a_state_subtracts_what_the_image_does_not(client: TestClient) -> None:
    shown = run(averaged(3), mode="NAT", **NATIVE)
    of = state(shown, frames=[2, 3], MaskSubtractionSequence=[averaged(1)], RecommendedViewingMode="SUB", SoftcopyVOILUTSequence=[item(**EXACT)])
    store(client, shown, of)
    assert ends(pixels(get(client, f"{STATE}/rendered"))) == (128, 64)
    assert ends(pixels(get(client, f"{STATE}/frames/2/rendered"))) == (128, 0)


def test_a_state_without_a_window_shows_every_difference_that_can_be(client: TestClient) -> None:
    shown = run()
    store(client, shown, state(shown, frames=[3], MaskSubtractionSequence=[tid(1)], RecommendedViewingMode="SUB"))
    # Of -4095 to 4095: 200 less.
    assert ends(pixels(get(client, f"{STATE}/rendered"))) == (128, round((0.5 - 200 / 8190) * 255))


def test_a_state_without_a_mask_shows_the_image_as_it_is_stored(client: TestClient) -> None:
    shown = run(averaged(1))
    store(client, shown, state(shown, frames=[2]))
    picture = pixels(get(client, f"{STATE}/rendered"))
    assert picture[0, 0] == pytest.approx(1000 / 4095 * 255, abs=1)


def test_the_modality_lut_of_the_state_comes_before_the_mask_and_its_shape_after(client: TestClient) -> None:
    shown = run()
    rescale: dict[str, Any] = {"RescaleSlope": 2, "RescaleIntercept": 500, "RescaleType": "US"}
    mask: dict[str, Any] = {"MaskSubtractionSequence": [averaged(1)], "RecommendedViewingMode": "SUB", "SoftcopyVOILUTSequence": [item(**EXACT)]}
    store(client, shown, state(shown, frames=[2], **mask, **rescale, PresentationLUTShape="INVERSE"))
    # 200 is 400 after the rescale, which is black, and white when inverted.
    assert ends(pixels(get(client, f"{STATE}/rendered"))) == (127, 255)


def test_a_state_that_names_a_mask_that_is_not_there_says_so(client: TestClient) -> None:
    shown = run()
    store(client, shown, state(shown, MaskSubtractionSequence=[averaged(12)], RecommendedViewingMode="SUB"))
    answer = get(client, f"{STATE}/rendered")
    assert answer.status_code == 406
    assert "subtracts from frame 1" in answer.json()["error"]


def test_a_real_run_is_quieter_with_its_mask(client: TestClient) -> None:
    """96 frames of a coronary run, stored for native viewing; as if it were for subtraction, its rim and spine are gone."""
    real = dcmread(corpus_file("radiography/jpeg8bit.dcm"))
    real.RecommendedViewingMode = "SUB"
    real.MaskSubtractionSequence = [averaged(1)]
    whole = io.BytesIO()
    real.save_as(whole)
    assert web.stow(client, [whole.getvalue()]).status_code == 200
    path = f"studies/{real.StudyInstanceUID}/series/{real.SeriesInstanceUID}/instances/{real.SOPInstanceUID}"
    subtracted, native = (pixels(get(client, f"{path}/frames/{number}/rendered")).astype(float) for number in (40, 1))
    left, right = (slice(200, 300), slice(60, 90)), (slice(200, 300), slice(300, 330))
    assert native[left].mean() - native[right].mean() > 100, "the spine is dark"
    assert abs(subtracted[left].mean() - subtracted[right].mean()) < 25, "and taken away"
    # The right coronary artery, which the mask has not.
    assert subtracted[270:290, 113:121].mean() < subtracted[left].mean() - 60
