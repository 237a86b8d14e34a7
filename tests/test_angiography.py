"""XA/XRF presentation states: what they subtract from each frame, moved by regions, filtered and covered (PS3.3 C.11.19 to C.11.21)."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from starlette.testclient import TestClient

from dicomweb.rendering.angiography import sharpened, subtraction
from dicomweb.rendering.masks import Region, Subtraction
from dicomweb.rendering.subtraction import Scale, difference, logarithms
from dicomweb.settings import WebSettings
from storage.archive import Archive
from storage.errors import CannotDecode
from tests.support import states, web
from tests.support.runs import COLUMNS, EXACT, NATIVE, ROWS, anatomy, averaged, ends, run, tid, vessel
from tests.support.states import ANGIOGRAPHY, VARIABLE, image, item, state, store

STATE = states.STATE_PATH

Pixels = np.ndarray[Any, Any]


@pytest.fixture
def client(archive: Archive) -> Iterator[TestClient]:
    with web.client(archive, WebSettings(layout_cache_seconds=-1)) as client:
        yield client


def frame(client: TestClient, number: int) -> Pixels:
    """A frame of the run, which its state shows in their order."""
    answer = client.get(f"{STATE}/frames/{number}/rendered", headers={"Accept": "image/png"})
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def of(run: Dataset, *masks: Dataset, **attributes: Any) -> Dataset:
    """A state of a run, in the window of differences."""
    made: dict[str, Any] = {"SoftcopyVOILUTSequence": [item(**EXACT)], "MaskSubtractionSequence": list(masks), **attributes}
    return state(run, sop_class=ANGIOGRAPHY, PresentationLUTShape="IDENTITY", **made)


def displayed(*ranges: Dataset, **attributes: Any) -> dict[str, Any]:
    """How ranges of frames are viewed."""
    return {"MultiFramePresentationSequence": [item(FrameDisplaySequence=list(ranges), **attributes)]}


def viewed(first: int, last: int, mode: str = "SUB", **attributes: Any) -> Dataset:
    return item(StartTrim=first, StopTrim=last, RecommendedViewingMode=mode, **attributes)


def shifts(first: int, last: int, *regions: Dataset) -> Dataset:
    return item(PixelShiftFrameRange=[first, last], RegionPixelShiftSequence=list(regions))


def region(down: float, left: float, *corners: int) -> Dataset:
    found = item(MaskSubPixelShift=[down, left])
    if corners:
        found.VerticesOfTheRegion = list(corners)
    return found


def naming(dataset: Dataset) -> dict[str, Any]:
    return {"ReferencedImageSequence": [item(ReferencedSOPClassUID=dataset.SOPClassUID, ReferencedSOPInstanceUID=dataset.SOPInstanceUID)]}


RUN, OTHER = run(), run(SOPInstanceUID="1.2.3.4.9")
TRIANGLE = (1, 1, 1, 64, 48, 64)
MOVED = averaged(1, PixelShiftSequence=[shifts(2, 3, region(1, 2), region(0.5, 0, *TRIANGLE)), shifts(4, 4, region(0, 1, *TRIANGLE), region(3, 0))])
CORNERS = ((1, 1), (1, 64), (48, 64))

# A state, a frame of a run of four, and what is subtracted from it.
WANTED: tuple[tuple[Dataset, int, Subtraction | None], ...] = (
    (of(RUN, averaged(1)), 2, Subtraction((2,), (1,))),
    (of(RUN, averaged(1, ApplicableFrameRange=[2, 3])), 4, None),
    (of(RUN, averaged(1, ApplicableFrameRange=[2, 3]), averaged(2, ApplicableFrameRange=[4, 4])), 4, Subtraction((4,), (2,))),
    (of(RUN, averaged(1, ContrastFrameAveraging=2, ApplicableFrameRange=[2, 3])), 2, Subtraction((2, 3), (1,))),
    (of(RUN, tid(2)), 4, Subtraction((4,), (2,))),
    (of(RUN, tid(2)), 2, None),
    (of(RUN, tid(1, "REV_TID", ApplicableFrameRange=[3, 4])), 4, Subtraction((4,), (1,))),
    (of(RUN, tid(1, "NONE")), 4, None),
    (of(RUN, averaged(1), **displayed(viewed(1, 1, "NAT"), viewed(2, 4))), 1, None),
    (of(RUN, averaged(1), **displayed(viewed(1, 1, "NAT"), viewed(2, 4))), 2, Subtraction((2,), (1,))),
    (of(RUN, averaged(1), **displayed(viewed(1, 4, "SOMETHING"))), 2, None),
    (of(RUN, averaged(1), **displayed(viewed(1, 4, MaskVisibilityPercentage=25))), 2, Subtraction((2,), (1,), visible=0.25)),
    (of(RUN, averaged(1), **displayed(viewed(1, 4, "NAT"), **naming(OTHER))), 2, Subtraction((2,), (1,))),
    (of(RUN, averaged(1, **naming(OTHER)), averaged(2, **naming(RUN))), 4, Subtraction((4,), (2,))),
    (of(RUN, averaged(1, **naming(OTHER))), 4, None),
    (of(RUN), 2, None),
    (of(RUN, MOVED), 2, Subtraction((2,), (1,), (1, -2), (Region(CORNERS, (0.5, 0)),))),
    (of(RUN, MOVED), 4, Subtraction((4,), (1,), (3, 0))),
    (of(RUN, MOVED), 1, Subtraction((1,), (1,))),
)  # fmt: skip


@pytest.mark.parametrize(("shown", "number", "expected"), WANTED)
def test_what_is_subtracted_from_a_frame(shown: Dataset, number: int, expected: Subtraction | None) -> None:
    assert subtraction(shown.to_json_dict(), states.IMAGE, number, 4) == expected


@pytest.mark.parametrize("mask", [averaged(9), tid(3, ApplicableFrameRange=[2, 4]), item(MaskOperation="REVERSE")])
def test_a_mask_that_the_image_has_not_is_refused(mask: Dataset) -> None:
    with pytest.raises(CannotDecode, match="subtracts from frame 2"):
        subtraction(of(RUN, mask).to_json_dict(), states.IMAGE, 2, 4)


def test_the_mask_of_the_state_is_taken_away_frame_by_frame(client: TestClient) -> None:
    """Frame 1 is the mask, and viewed as it is stored; the image itself wants none of this."""
    of_image = run(averaged(4), mode="NAT", **NATIVE)
    shown = of(of_image, averaged(1, ApplicableFrameRange=[2, 4]), **displayed(viewed(1, 1, "NAT"), viewed(2, 4)))
    shown.SoftcopyVOILUTSequence = [
        item(**NATIVE, ReferencedImageSequence=[item(ReferencedSOPInstanceUID=states.IMAGE, ReferencedFrameNumber=[1])]),
        item(**EXACT, ReferencedImageSequence=[item(ReferencedSOPInstanceUID=states.IMAGE, ReferencedFrameNumber=[2, 3, 4])]),
    ]
    store(client, of_image, shown)
    assert frame(client, 1)[0, [0, -1]].tolist() == pytest.approx([1000 / 4095 * 255, 3000 / 4095 * 255], abs=1)
    assert [ends(frame(client, number)) for number in (2, 3)] == [(128, 64), (128, 0)]
    assert np.unique(frame(client, 4)).tolist() == [130]


def test_a_mask_in_part_leaves_the_anatomy_in_part(client: TestClient) -> None:
    """At 10 percent a tenth of the mask stays: 100 at the left, 300 at the right of the upper half."""
    store(client, RUN, of(RUN, averaged(1), **displayed(viewed(1, 4, MaskVisibilityPercentage=10))))
    found = frame(client, 2)
    assert found[0, [0, -1]].tolist() == pytest.approx([(100 / 800 + 0.5) * 255, (300 / 800 + 0.5) * 255], abs=1)
    assert int(found[9, 20]) - int(found[10, 20]) == pytest.approx(200 / 800 * 255, abs=1)


def test_each_region_has_the_mask_where_its_own_shift_puts_it(client: TestClient) -> None:
    """Two patches have moved, one up by 2 and one to the right by 3: each region follows its own, and nothing is left of either."""
    mask = np.full((ROWS, COLUMNS), 2000, "<u2")
    contrast = mask.copy()
    mask[10:14, 10:14], contrast[8:12, 10:14] = 2300, 2300
    mask[30:34, 40:44], contrast[30:34, 43:47] = 2300, 2300
    moved = run(values=np.stack([mask, contrast]))
    one, other = region(-2, 0, 1, 1, 1, 32, 24, 32, 24, 1), region(0, -3, 25, 33, 25, 64, 48, 64, 48, 33)
    store(client, moved, of(moved, averaged(1, PixelShiftSequence=[shifts(2, 2, one, other)])))
    assert np.unique(frame(client, 2)).tolist() == [128]


def test_outside_the_regions_nothing_is_moved_and_the_last_region_counts() -> None:
    mask = np.zeros((4, 4), np.uint16)
    mask[1, 1] = 100
    stored = {1: mask, 2: np.zeros((4, 4), np.uint16)}
    lower, whole = ((3, 1), (3, 4), (4, 4), (4, 1)), ((1, 1), (1, 4), (4, 4), (4, 1))
    for regions, at in (((Region(lower, (1, 0)),), [[1, 1], [2, 1]]), ((Region(lower, (1, 0)), Region(whole, (0, 2))), [[1, 3]])):
        found = difference(Subtraction((2,), (1,), regions=regions), stored.__getitem__, Scale(12))
        assert np.argwhere(found.values == -100).tolist() == at


def logarithmic(**attributes: Any) -> Dataset:
    """log(1 + value) of 12 bits, over 16."""
    table = item(LUTDescriptor=[4096, 0, 16], LUTData=logarithms(12).entries, LUTFunction="TO_LOG", **attributes)
    table["LUTData"].VR = "OW"
    return table


@pytest.mark.parametrize("beside", [False, True], ids=["in the mask item", "beside it"])
def test_linear_values_go_through_the_logarithms_of_the_state(client: TestClient, beside: bool) -> None:
    """A vessel that lets half of the beam through, whatever bone is behind it: 65535 / 12 less."""
    mask = anatomy()
    half = np.where(vessel(), mask // 2, mask).astype("<u2")
    linear = run(values=np.stack([mask, half]), PixelIntensityRelationship="LIN")
    luts: dict[str, Any] = {"PixelIntensityRelationshipLUTSequence": [logarithmic()]}
    wide = {"SoftcopyVOILUTSequence": [item(WindowCenter=0, WindowWidth=20000, VOILUTFunction="LINEAR_EXACT")]}
    store(client, linear, of(linear, averaged(1, **({} if beside else luts)), **wide, **(luts if beside else {})))
    found = frame(client, 2)
    assert np.unique(found[~vessel()]).tolist() == [128]
    assert found[vessel()].astype(int) == pytest.approx(round((0.5 - 65535 / 12 / 20000) * 255), abs=1)


def test_the_mask_may_have_other_logarithms_than_the_contrast(client: TestClient) -> None:
    """The table of the mask is for half as bright an exposure: it doubles values first."""
    doubled = item(LUTDescriptor=[2048, 0, 16], LUTData=logarithms(12).table[::2].tobytes(), LUTFunction="TO_LOG", LUTFrameRange=[1, 1])
    doubled["LUTData"].VR = "OW"
    faint = run(values=np.stack([anatomy() // 2, anatomy()]), PixelIntensityRelationship="LIN")
    luts = {"PixelIntensityRelationshipLUTSequence": [doubled, logarithmic(LUTFrameRange=[2, 2])]}
    wide = {"SoftcopyVOILUTSequence": [item(WindowCenter=0, WindowWidth=20000, VOILUTFunction="LINEAR_EXACT")]}
    store(client, faint, of(faint, averaged(1, **luts), **wide))
    assert np.unique(frame(client, 2)).tolist() == [128]


def test_frames_have_their_own_shutters(client: TestClient) -> None:
    """Covered in the value of the state, or that of the item."""
    edges = {"ShutterLeftVerticalEdge": 11, "ShutterRightVerticalEdge": 54, "ShutterUpperHorizontalEdge": 6, "ShutterLowerHorizontalEdge": 43}
    named: dict[str, Any] = {"ReferencedImageSequence": [item(ReferencedSOPInstanceUID=states.IMAGE, ReferencedFrameNumber=[2])]}
    first = item(ShutterShape="RECTANGULAR", **edges, **named)
    named = {"ReferencedImageSequence": [item(ReferencedSOPInstanceUID=states.IMAGE, ReferencedFrameNumber=[3])]}
    second = item(ShutterShape="CIRCULAR", CenterOfCircularShutter=[24, 32], RadiusOfCircularShutter=10, ShutterPresentationValue=0xFFFF, **named)
    store(client, RUN, of(RUN, averaged(1), FrameDisplayShutterSequence=[first, second], ShutterPresentationValue=0x2000))
    covered = np.full((ROWS, COLUMNS), True)
    covered[5:43, 10:54] = False
    assert np.array_equal(frame(client, 2) == 0x20, covered)
    round_one = frame(client, 3)
    assert (round_one == 0xFF).sum() == ROWS * COLUMNS - sum((row - 24) ** 2 + (column - 32) ** 2 <= 100 for row in range(1, 49) for column in range(1, 65))
    assert not np.isin(frame(client, 4), (0x20, 0xFF)).any()


def test_more_regions_or_shutters_than_can_be_drawn_are_refused_in_words(client: TestClient) -> None:
    """Each costs a pass over the frame; the most that are drawn are drawn."""
    shutter = item(ShutterShape="RECTANGULAR", ShutterLeftVerticalEdge=1, ShutterRightVerticalEdge=64, ShutterUpperHorizontalEdge=1, ShutterLowerHorizontalEdge=48)
    for number in (64, 65):
        moved = averaged(1, PixelShiftSequence=[shifts(1, 4, *[region(1, 0, *TRIANGLE)] * number)])
        for shown, what in ((of(RUN, moved), "regions"), (of(RUN, averaged(1), FrameDisplayShutterSequence=[shutter] * number), "shutters")):
            client.delete(f"studies/{states.STUDY}")
            store(client, RUN, shown)
            answer = client.get(f"{STATE}/frames/2/rendered", headers={"Accept": "image/png"})
            assert answer.status_code == (200 if number == 64 else 406), answer.text[:200]
            assert number == 64 or f"65 {what}" in answer.json()["error"]


def test_the_filter_makes_edges_steeper_and_leaves_what_is_flat() -> None:
    """A step of 100: two pixels off the edge a fifth of the 5 x 5 around is beyond it, beside the edge two fifths."""
    step = np.tile(np.repeat([1000, 1100], 8).astype(np.uint16), (9, 1))
    found = sharpened(step, 0.5, 0, 4095)
    assert found.dtype == np.uint16
    assert found[4, 4:12].tolist() == [1000, 1000, 990, 980, 1120, 1110, 1100, 1100]
    assert sharpened(step, 1.0, 0, 1120)[4, 8] == 1120, "no farther than values reach"
    assert sharpened(step, 0.0, 0, 4095) is step


def test_the_filter_is_that_of_the_frame(client: TestClient) -> None:
    store(client, RUN, of(RUN, averaged(1), **displayed(viewed(1, 2, DisplayFilterPercentage=100), viewed(3, 4, DisplayFilterPercentage=None))))
    assert ends(frame(client, 3)) == (128, 0)
    found = frame(client, 2)
    # The vessel is four rows high: above it a fifth and two fifths of it are in the mean around a pixel, in it one pixel of five.
    assert found[7:12, 30].tolist() == [round((0.5 + part * 200 / 800) * 255) for part in (0, 0.2, 0.4, -1.4, -1.2)]


def test_a_native_frame_is_filtered_too(client: TestClient) -> None:
    native = displayed(viewed(1, 4, "NAT", DisplayFilterPercentage=100))
    store(client, RUN, of(RUN, averaged(1), **native, SoftcopyVOILUTSequence=[item(**NATIVE)]))
    column = frame(client, 1)[:, 20].astype(int)
    steps = np.diff(column)
    # The step of 100 between the halves is 180 now, with a dent on either side.
    assert steps[ROWS // 2 - 1] == pytest.approx(180 / 4095 * 255, abs=1)
    assert steps[ROWS // 2] < 0


def test_graphics_and_turns_are_those_of_any_state(client: TestClient) -> None:
    store(client, RUN, of(RUN, averaged(1), ImageRotation=90, ImageHorizontalFlip="N"))
    found = frame(client, 2)
    assert found.shape == (COLUMNS, ROWS)
    assert ends(np.rot90(found)) == (128, 64)


def test_every_image_has_the_modality_lut_that_a_variable_state_has_for_it(client: TestClient) -> None:
    """PS3.3 C.11.35: 2 x 500 + 100 and 500 / 2 are 1100 and 250 of 2000; a third, which no item names, stays as it is stored."""
    images = [image(np.full((8, 8), 500, "<u2"), uid=f"1.2.3.4.{number}", InstanceNumber=number, RescaleSlope=7, RescaleIntercept=9) for number in (1, 2, 3)]
    luts = [item(RescaleSlope=slope, RescaleIntercept=more, RescaleType="US", **naming(one)) for one, slope, more in zip(images, (2, 0.5), (100, 0), strict=False)]
    voi = item(WindowCenter=1000, WindowWidth=2000, VOILUTFunction="LINEAR_EXACT")
    shown = state(*images, sop_class=VARIABLE, VariableModalityLUTSequence=luts, SoftcopyVOILUTSequence=[voi], PresentationLUTShape="IDENTITY")
    store(client, *images, shown)
    assert [int(frame(client, number)[0, 0]) for number in (1, 2, 3)] == [round(value / 2000 * 255) for value in (1100, 250, 500)]


VOLUMETRIC = ("6", "7", "9", "10", "11")


@pytest.mark.parametrize("number", VOLUMETRIC)
def test_a_view_into_a_volume_says_that_it_is_none_here(client: TestClient, number: str) -> None:
    store(client, RUN, state(RUN, sop_class=f"1.2.840.10008.5.1.4.1.1.11.{number}"))
    answer = client.get(f"{STATE}/rendered", headers={"Accept": "image/png"})
    assert answer.status_code == 406
    error = answer.json()["error"]
    assert "Volumetric Presentation State Storage" in error
    assert "view into a volume" in error
    icon = client.get(f"{STATE}/thumbnail", headers={"Accept": "image/png"})
    assert Image.open(io.BytesIO(icon.content)).size == (128, 128)


def test_an_own_mask_may_be_visible_in_part(client: TestClient) -> None:
    """The XA/XRF Multi-frame Presentation module of an image has the same percentage (PS3.3 C.8.19.7)."""
    shown = run(averaged(1), FrameDisplaySequence=[viewed(2, 4, MaskVisibilityPercentage=10)], **EXACT)
    store(client, shown)
    path = f"studies/{states.STUDY}/series/{states.SERIES}/instances/{states.IMAGE}/frames/2/rendered"
    found = np.asarray(Image.open(io.BytesIO(client.get(path, headers={"Accept": "image/png"}).content)))
    assert found[0, [0, -1]].tolist() == pytest.approx([(100 / 800 + 0.5) * 255, (300 / 800 + 0.5) * 255], abs=1)


