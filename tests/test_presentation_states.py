"""Presentation states as pictures: compared with DCMTK where that draws them, else by where things are."""

from __future__ import annotations

import io
import itertools
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from starlette.testclient import TestClient

from dicomweb.rendering.spaces import profile
from dicomweb.settings import WebSettings
from storage.archive import Archive
from tests.support import states, web
from tests.support.corpus import corpus_file
from tests.support.states import (
    COLOUR,
    COLUMNS,
    PSEUDO,
    ROWS,
    annotation,
    displayed,
    graphic,
    image,
    item,
    state,
    store,
    window,
    words,
)

STATE = states.STATE_PATH
MIDDLE = window(1500, 2000)

Pixels = np.ndarray[Any, Any]


@pytest.fixture
def client(archive: Archive) -> Iterator[TestClient]:
    with web.client(archive, WebSettings(layout_cache_seconds=-1)) as client:
        yield client


def get(client: TestClient, path: str = f"{STATE}/rendered", accept: str = "image/png", **headers: str) -> httpx2.Response:
    return client.get(path, headers={"Accept": accept, **headers})


def pixels(answer: httpx2.Response) -> Pixels:
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def drawn(client: TestClient, shown: Dataset, *images: Dataset, query: str = "") -> Pixels:
    """The picture of a state, stored with its images."""
    store(client, *(images or (image(),)), shown)
    return pixels(get(client, f"{STATE}/rendered{query}"))


def by_dcmtk(folder: Path, shown: Path, of: Path) -> Pixels:
    made = folder / "picture.pgm"
    subprocess.run(["dcmp2pgm", "-p", shown, of, made], check=True, capture_output=True)
    return np.asarray(Image.open(made))


LIKE_DCMTK: dict[str, tuple[Dataset, Dataset]] = {
    "nothing": (image(), state()),
    "window": (image(), state(SoftcopyVOILUTSequence=[MIDDLE])),
    "the image's own window is not asked": (image(WindowCenter=100, WindowWidth=50), state()),
    "the image's own rescale is not asked": (image(RescaleSlope=3, RescaleIntercept=-1000), state(SoftcopyVOILUTSequence=[MIDDLE])),
    "rescale": (image(), state(RescaleSlope=2, RescaleIntercept=-1000, RescaleType="US", SoftcopyVOILUTSequence=[MIDDLE])),
    "rescale alone": (image(), state(RescaleSlope=2, RescaleIntercept=-1000, RescaleType="US")),
    "inverse": (image(), state(SoftcopyVOILUTSequence=[MIDDLE], PresentationLUTShape="INVERSE")),
    "monochrome 1": (image(PhotometricInterpretation="MONOCHROME1"), state(SoftcopyVOILUTSequence=[MIDDLE])),
    "window of another image": (image(), state(SoftcopyVOILUTSequence=[window(9, 9, ReferencedImageSequence=[item(ReferencedSOPClassUID="1.2", ReferencedSOPInstanceUID="1.9")])])),
    **{
        f"turned by {rotation}, flipped {flip}": (image(), state(ImageRotation=rotation, ImageHorizontalFlip=flip))
        for rotation, flip in itertools.product((0, 90, 180, 270), "NY")
    },
}


@pytest.mark.skipif(shutil.which("dcmp2pgm") is None, reason="DCMTK's dcmp2pgm is not installed: states are not compared with it")
@pytest.mark.parametrize("name", LIKE_DCMTK)
def test_states_look_as_dcmtk_shows_them(client: TestClient, tmp_path: Path, name: str) -> None:
    of, shown = LIKE_DCMTK[name]
    files = tmp_path / "state.dcm", tmp_path / "image.dcm"
    files[0].write_bytes(states.encoded(shown))
    files[1].write_bytes(states.encoded(of))
    expected = by_dcmtk(tmp_path, *files)
    found = drawn(client, shown, of)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1
    assert len(np.unique(found)) > 2


@pytest.mark.skipif(shutil.which("dcmp2pgm") is None, reason="DCMTK's dcmp2pgm is not installed: states are not compared with it")
def test_three_tables_one_after_the_other_give_what_dcmtk_gives(client: TestClient, tmp_path: Path) -> None:
    """Modality, VOI and presentation LUT, all scrambled: any that is left out, or out of order, changes every pixel."""
    shown, of = corpus_file("luts-overlays/prLUTs.dcm"), corpus_file("luts-overlays/imageForPrLUTs.dcm")
    assert web.stow(client, [shown.read_bytes(), of.read_bytes()]).status_code == 200
    uids = pydicom.dcmread(shown)
    path = f"studies/{uids.StudyInstanceUID}/series/{uids.SeriesInstanceUID}/instances/{uids.SOPInstanceUID}/rendered"
    assert np.array_equal(pixels(get(client, path)), by_dcmtk(tmp_path, shown, of))


def test_overlays_are_shown_where_a_layer_activates_them(client: TestClient) -> None:
    """Six: in the pixels' unused bits, in the image, in the state. The picture has been looked at: six lines of text."""
    shown, of = corpus_file("luts-overlays/prOverlay.dcm"), corpus_file("luts-overlays/ovly_p01.dcm")
    assert web.stow(client, [shown.read_bytes(), of.read_bytes()]).status_code == 200
    uids = pydicom.dcmread(shown)
    path = f"studies/{uids.StudyInstanceUID}/series/{uids.SeriesInstanceUID}/instances/{uids.SOPInstanceUID}/rendered"
    found = pixels(get(client, path))
    lines = [(found[top : top + 18, 100:400] > 200).sum() for top in (134, 176, 218, 260, 302, 345)]
    assert min(lines) > 300, lines


RECTANGLE: dict[str, Any] = {
    "ShutterShape": "RECTANGULAR",
    "ShutterLeftVerticalEdge": 21,
    "ShutterRightVerticalEdge": 100,
    "ShutterUpperHorizontalEdge": 11,
    "ShutterLowerHorizontalEdge": 84,
}


def test_a_shutter_of_the_state_covers(client: TestClient) -> None:
    found = drawn(client, state(ShutterPresentationValue=0x8000, **RECTANGLE))
    covered = np.full((ROWS, COLUMNS), True)
    covered[10:84, 20:100] = False
    assert (found[covered] == 0x80).all()
    assert not (found[~covered] == 0x80).any()


def test_a_shutter_in_a_picture_of_colours_has_its_colour(client: TestClient) -> None:
    """PS3.3 C.11.12: the grey value is for monochrome displays."""
    cover: dict[str, Any] = {"ShutterPresentationValue": 0x8000, "ShutterPresentationColorCIELabValue": GREEN}
    found = drawn(client, state(sop_class=PSEUDO, **RECTANGLE, **cover, **palette()))
    assert (found[5, 60] // 64).tolist() == [0, 3, 0]
    assert (found[40, 60] // 64).tolist() != [0, 3, 0]


def test_a_shutter_of_the_image_does_not_cover(client: TestClient) -> None:
    found = drawn(client, state(), image(**RECTANGLE))
    assert len(np.unique(found[:, 0])) > 90


def test_a_bitmap_shutter_covers_where_its_overlay_is_set(client: TestClient) -> None:
    bits = np.zeros((ROWS, COLUMNS), np.uint8)
    bits[40:] = 1
    shown = state(ShutterShape="BITMAP", ShutterOverlayGroup=0x6002, ShutterPresentationValue=0x8000)
    for element, vr, value in ((0x10, "US", ROWS), (0x11, "US", COLUMNS), (0x50, "SS", [1, 1]), (0x100, "US", 1), (0x102, "US", 0)):
        shown.add_new((0x6002, element), vr, value)
    shown.add_new((0x6002, 0x40), "CS", "G")
    shown.add_new((0x6002, 0x3000), "OW", np.packbits(bits.ravel(), bitorder="little").tobytes())
    found = drawn(client, shown)
    assert (found[40:] == 0x80).all()
    assert not (found[:40] == 0x80).any()


AREAS: tuple[tuple[Dataset, dict[str, Any], str, tuple[int, int]], ...] = (
    # The area in columns and rows from 1, what else the state says, the query, and the size that comes.
    (displayed(), {}, "", (96, 128)),
    (displayed(21, 11, 100, 60), {}, "", (50, 80)),
    (displayed(21, 11, 100, 60), {"ImageRotation": 90, "ImageHorizontalFlip": "N"}, "", (80, 50)),
    (displayed(), {}, "?viewport=256,256", (192, 256)),
    (displayed(), {"ImageRotation": 90, "ImageHorizontalFlip": "N"}, "?viewport=256,256", (256, 192)),
    (displayed(PresentationSizeMode="MAGNIFY", PresentationPixelMagnificationRatio=2), {}, "", (192, 256)),
    (displayed(PresentationSizeMode="TRUE SIZE", PresentationPixelSpacing=[0.5, 0.5]), {}, "", (96, 128)),
    (displayed(PresentationPixelAspectRatio=[2, 1]), {}, "", (192, 128)),
    (displayed(-127, 1, 128, 96), {}, "", (96, 256)),
)


@pytest.mark.parametrize(("area", "more", "query", "size"), AREAS)
def test_the_displayed_area_is_what_is_seen(client: TestClient, area: Dataset, more: dict[str, Any], query: str, size: tuple[int, int]) -> None:
    assert drawn(client, state(area=area, **more), query=query).shape == size


def test_an_area_beyond_the_image_is_black_there(client: TestClient) -> None:
    found = drawn(client, state(area=displayed(-127, 1, 128, 96), SoftcopyVOILUTSequence=[window(0, 100)]))
    assert (found[:, :128] == 0).all()
    assert (found[:, 140:] == 255).all()


RED, GREEN = [34885, 53485, 50171], [57402, 10803, 54199]


def shapes(*objects: Dataset, **layer: Any) -> Dataset:
    """A state with objects in one layer on a dark picture."""
    return state(
        SoftcopyVOILUTSequence=[window(40000, 1000)],
        GraphicLayerSequence=[item(GraphicLayer="ONE", GraphicLayerOrder=1, **layer)],
        GraphicAnnotationSequence=[annotation("ONE", *objects)],
    )


MARKS = {
    # What is drawn, where it must be seen (column, row), and where not.
    "polyline": (graphic("POLYLINE", 20, 20, 100, 20, 100, 80), [(60, 20), (100, 50)], [(60, 50)]),
    "filled": (graphic("POLYLINE", 20, 20, 100, 20, 100, 80, 20, 80, 20, 20, GraphicFilled="Y"), [(60, 50)], [(10, 50)]),
    "circle": (graphic("CIRCLE", 64, 48, 94, 48), [(94, 48), (34, 48), (64, 18), (64, 78)], [(64, 48), (78, 34)]),
    "ellipse": (graphic("ELLIPSE", 24, 48, 104, 48, 64, 28, 64, 68), [(24, 48), (104, 48), (64, 28), (64, 68)], [(64, 48), (24, 28)]),
    "interpolated": (graphic("INTERPOLATED", 20, 48, 50, 20, 80, 76, 110, 48), [(50, 20), (80, 76), (110, 48)], [(65, 20)]),
    "point": (graphic("POINT", 64, 48), [(64, 48)], [(64, 60)]),
    "in parts of the display": (graphic("POLYLINE", 0.25, 0.5, 0.75, 0.5, units="DISPLAY"), [(64, 48)], [(20, 48), (110, 48)]),
}


@pytest.mark.parametrize("name", MARKS)
def test_graphics_are_where_their_points_are(client: TestClient, name: str) -> None:
    made, seen, unseen = MARKS[name]
    found = drawn(client, shapes(made))
    around = {at: found[at[1] - 1 : at[1] + 2, at[0] - 1 : at[0] + 2].max() for at in (*seen, *unseen)}
    assert all(around[at] > 180 for at in seen), around
    assert all(around[at] == 0 for at in unseen), around


def test_graphics_turn_with_the_image_and_words_stay_upright(client: TestClient) -> None:
    """The mark at the foot of the F stays at its foot. Words are wider than high, however the image is turned."""
    shown = shapes(graphic("POINT", 37, 79), words("WIDE WORDS", [50, 60, 120, 90]))
    shown.ImageRotation, shown.ImageHorizontalFlip = 90, "N"
    found = drawn(client, shown)
    assert found.shape == (COLUMNS, ROWS)
    # Clockwise: column 37, row 79 goes to column 96 - 79, row 37.
    assert found[36:39, 16:19].max() > 180
    rows, columns = np.nonzero(found[50:120, 5:36] > 180)
    assert rows.size
    assert np.ptp(columns) > np.ptp(rows)


PLACES = {
    # How words stand in a box of 100 by 60 pixels, and in which third of its width and height they are.
    "LEFT TOP": (0, 0),
    "CENTER CENTER": (1, 1),
    "RIGHT BOTTOM": (2, 2),
}


@pytest.mark.parametrize("name", PLACES)
def test_words_stand_in_their_box_as_their_style_says(client: TestClient, name: str) -> None:
    """It has the last word on what the box says too."""
    across, down = name.split()
    style = item(HorizontalAlignment=across, VerticalAlignment=down, TextColorCIELabValue=GREEN)
    found = drawn(client, shapes(words("ww", [14, 18, 114, 78], TextStyleSequence=[style], BoundingBoxTextHorizontalJustification="CENTER")))
    rows, columns = np.nonzero(found[..., 1] > 180)
    assert (int((columns.mean() - 14) // (100 / 3)), int((rows.mean() - 18) // 20)) == PLACES[name]


def test_colours_of_layers_lines_and_areas(client: TestClient) -> None:
    line = item(PatternOnColorCIELabValue=GREEN, LineThickness=3, LineDashingStyle="SOLID")
    shown = shapes(
        graphic("POLYLINE", 20, 20, 100, 20, LineStyleSequence=[line]),
        graphic("POLYLINE", 20, 60, 100, 60, 100, 80, 20, 80, 20, 60, GraphicFilled="Y"),
        GraphicLayerRecommendedDisplayCIELabValue=RED,
    )
    found = drawn(client, shown)
    assert found.shape == (ROWS, COLUMNS, 3)
    assert (found[20, 60] // 64).tolist() == [0, 3, 0]
    assert (found[70, 60] // 64).tolist() == [3, 0, 0]


def test_layers_lie_in_their_order(client: TestClient) -> None:
    square = (20, 20, 100, 20, 100, 80, 20, 80, 20, 20)
    below = item(GraphicLayer="BELOW", GraphicLayerOrder=1, GraphicLayerRecommendedDisplayGrayscaleValue=0x4000)
    above = item(GraphicLayer="ABOVE", GraphicLayerOrder=2, GraphicLayerRecommendedDisplayGrayscaleValue=0xC000)
    shown = state(
        GraphicLayerSequence=[above, below],
        GraphicAnnotationSequence=[
            annotation("ABOVE", graphic("POLYLINE", *square, GraphicFilled="Y")),
            annotation("BELOW", graphic("POLYLINE", *square, GraphicFilled="Y")),
        ],
    )
    assert drawn(client, shown)[50, 60] == 0xC0


def test_what_is_for_another_image_is_not_drawn_on_this(client: TestClient) -> None:
    first, second = image(), image(uid="1.2.3.4.2", InstanceNumber=2)
    reference = item(ReferencedSOPClassUID=second.SOPClassUID, ReferencedSOPInstanceUID=second.SOPInstanceUID)
    shown = state(
        first,
        second,
        SoftcopyVOILUTSequence=[window(40000, 1000)],
        GraphicAnnotationSequence=[annotation("X", graphic("POLYLINE", 20, 20, 100, 20), ReferencedImageSequence=[reference])],
    )
    store(client, first, second, shown)
    one, other = (pixels(get(client, f"{STATE}/frames/{number}/rendered")) for number in (1, 2))
    assert one.max() == 0
    assert other[19:21, 60].max() > 180
    answer = get(client, accept='multipart/related; type="image/png"')
    parts = [np.asarray(Image.open(io.BytesIO(part.content))) for part in web.parts(answer)]
    assert [part.tolist() for part in parts] == [one.tolist(), other.tolist()]
    assert get(client, f"{STATE}/frames/3/rendered").status_code == 404


def test_frames_that_are_referred_to_are_the_pictures(client: TestClient) -> None:
    frames = np.stack([np.full((ROWS, COLUMNS), value, "<u2") for value in (0, 1365, 2730, 4095)])
    of = image(frames)
    shown = state(of, frames=[2, 4])
    assert (drawn(client, shown, of) == 85).all()
    assert (pixels(get(client, f"{STATE}/frames/2/rendered")) == 255).all()
    wado = f"http://testserver/wado?requestType=WADO&studyUID=1.2.3&seriesUID=1.2.3.4&objectUID={states.IMAGE}"
    through = f"{wado}&presentationUID={states.STATE}&presentationSeriesUID={states.STATE_SERIES}"
    assert (pixels(get(client, f"{through}&frameNumber=4")) == 255).all()
    assert (pixels(get(client, through)) == 85).all()
    refused = get(client, f"{through}&frameNumber=3")
    assert (refused.status_code, "frame 3" in refused.json()["error"]) == (400, True)


def palette() -> dict[str, Any]:
    """Black to red in 256 steps of 16 bits."""
    ramp = (np.arange(256, dtype="<u2") * 257).tobytes()
    empty = bytes(512)
    made: dict[str, Any] = {f"{name}PaletteColorLookupTableDescriptor": [256, 0, 16] for name in ("Red", "Green", "Blue")}
    return made | {f"{name}PaletteColorLookupTableData": data for name, data in (("Red", ramp), ("Green", empty), ("Blue", empty))}


def test_pseudo_colour_spreads_the_palette_over_the_window(client: TestClient) -> None:
    found = drawn(client, state(sop_class=PSEUDO, SoftcopyVOILUTSequence=[window(2048, 4096)], **palette()))
    assert (found[..., 1:] == 0).all()
    expected = letter_levels()
    assert np.abs(found[..., 0].astype(int) - expected).max() <= 1


def letter_levels() -> Pixels:
    levels: Pixels = np.rint(states.letter() / 4095 * 255).astype(int)
    return levels


def test_colour_images_keep_their_colours(client: TestClient) -> None:
    values = np.zeros((ROWS, COLUMNS, 3), np.uint8)
    values[:, : COLUMNS // 2] = (200, 10, 30)
    of = image(values)
    shown = state(of, sop_class=COLOUR, ImageRotation=0, ImageHorizontalFlip="Y")
    found = drawn(client, shown, of)
    assert found[0, -1].tolist() == [200, 10, 30]
    assert found[0, 0].tolist() == [0, 0, 0]


def test_the_image_that_is_missing_is_named_and_its_coming_changes_the_thumbnail(client: TestClient) -> None:
    store(client, state())
    answer = get(client)
    assert answer.status_code == 404
    assert all(uid in answer.json()["error"] for uid in (states.IMAGE, states.SERIES))
    icon = get(client, f"{STATE}/thumbnail")
    assert pixels(icon).shape[:2] == (128, 128)
    store(client, image())
    small = get(client, f"{STATE}/thumbnail", **{"If-None-Match": icon.headers["etag"]})
    assert pixels(small).shape == (ROWS, COLUMNS)
    assert get(client, f"{STATE}/thumbnail", **{"If-None-Match": small.headers["etag"]}).status_code == 304


REFUSED = (
    (state(), "?window=1,2", 400, "window"),
    (state(ImageRotation=45, ImageHorizontalFlip="N"), "", 406, "Image Rotation is 45"),
    (state(area=displayed(1, 1, 2_000_000_000, 2_000_000_000)), "", 406, "viewport"),
    (state(sop_class="1.2.840.10008.5.1.4.1.1.11.6"), "", 406, "11.6"),
    (state(ReferencedSeriesSequence=[]), "", 404, "Referenced Series Sequence"),
    (state(PresentationLUTSequence=[item(LUTDescriptor=[256, 0, 8], LUTData=bytes(2))]), "", 406, "LUT"),
)


@pytest.mark.parametrize(("shown", "query", "status", "names"), REFUSED)
def test_what_cannot_be_shown_is_refused_and_has_an_icon(client: TestClient, shown: Dataset, query: str, status: int, names: str) -> None:
    store(client, image(), shown)
    answer = get(client, f"{STATE}/rendered{query}")
    assert (answer.status_code, names in answer.json()["error"]) == (status, True), answer.text
    assert pixels(get(client, f"{STATE}/thumbnail")).size


BROKEN = (
    graphic("POLYLINE", 20, 20),
    graphic("CIRCLE", 20, 20, 30),
    graphic("ELLIPSE", 20, 20, 30, 30),
    graphic("SPIRAL", 20, 20, 30, 30),
    graphic("POLYLINE", 20, 20, 1e30, 30),
    graphic("POLYLINE", 20, 20, 30, 30, units="MATRIX"),
    item(UnformattedTextValue="lost"),
)


@pytest.mark.parametrize("made", BROKEN)
def test_a_mark_that_cannot_be_drawn_is_named_on_the_picture(client: TestClient, made: Dataset) -> None:
    """A picture without it would be taken for all there is."""
    found = drawn(client, shapes(made), query="?viewport=512,512")
    assert (found[-40:] > 180).sum() > 200
    assert (found[:-40] > 180).sum() == 0


def test_pictures_of_states_are_kept(client: TestClient) -> None:
    store(client, image(), state())
    first = get(client)
    assert get(client, **{"If-None-Match": first.headers["etag"]}).status_code == 304
    assert get(client, f"{STATE}/rendered?viewport=20,20").headers["etag"] != first.headers["etag"]


def gathered() -> tuple[Dataset, Dataset]:
    """Everything at once: a round shutter, two layers, every kind of mark, words in three scripts with an anchor."""
    of = image(np.kron(states.letter(), np.ones((4, 4), "<u2")))
    red = item(PatternOnColorCIELabValue=RED, PatternOnOpacity=0.4)
    dashed = item(LineThickness=2, LineDashingStyle="DASHED")
    anchored: dict[str, Any] = {"AnchorPoint": [250, 180], "AnchorPointVisibility": "Y", "AnchorPointAnnotationUnits": "PIXEL"}
    coloured = annotation(
        "A",
        graphic("CIRCLE", 148, 88, 240, 88),
        graphic("ELLIPSE", 120, 240, 440, 240, 280, 200, 280, 288),
        graphic("INTERPOLATED", 80, 120, 160, 80, 280, 160, 400, 80, 440, 200, 80, 120),
        graphic("POLYLINE", 240, 280, 360, 280, 360, 360, 240, 360, 240, 280, GraphicFilled="Y", FillStyleSequence=[red]),
        words("Läsion 3,5 mm\r\n結節 右肺", [360, 80, 500, 130], **anchored),
    )
    white = annotation(
        "B",
        graphic("POINT", 256, 192),
        graphic("POLYLINE", 20, 360, 480, 20, LineStyleSequence=[dashed]),
        words("Ödem [R]", [0.02, 0.02, 0.3, 0.1], "DISPLAY"),
        words("right justified", [0.5, 0.9, 0.98, 0.98], "DISPLAY", BoundingBoxTextHorizontalJustification="RIGHT"),
    )
    yellow = item(GraphicLayer="A", GraphicLayerOrder=1, GraphicLayerRecommendedDisplayCIELabValue=[50000, 30000, 60000])
    shown = state(
        of,
        SpecificCharacterSet="ISO_IR 192",
        SoftcopyVOILUTSequence=[window(2000, 3500)],
        ShutterShape="CIRCULAR",
        CenterOfCircularShutter=[192, 256],
        RadiusOfCircularShutter=230,
        ShutterPresentationValue=0x2000,
        GraphicLayerSequence=[yellow, item(GraphicLayer="B", GraphicLayerOrder=2)],
        GraphicAnnotationSequence=[coloured, white],
    )
    return of, shown


def test_everything_at_once_looks_as_it_did_when_it_was_looked_at(client: TestClient) -> None:
    """Somebody has looked at the picture. Fonts are drawn a little differently by every version of their library."""
    of, shown = gathered()
    expected = np.asarray(Image.open(Path(__file__).parent / "golden" / "presentation_state.png")).astype(int)
    found = drawn(client, shown, of).astype(int)
    assert found.shape == expected.shape
    assert (np.abs(found - expected).max(axis=-1) > 48).mean() < 0.002


def test_colours_are_those_of_the_profile_of_the_state(client: TestClient) -> None:
    """The red of Adobe RGB (200, 30, 40) is (233, 24, 36) in sRGB; the image alone is taken for sRGB already (PS3.4 N.2.2.1)."""
    of = image(np.full((ROWS, COLUMNS, 3), (200, 30, 40), np.uint8))
    found = drawn(client, state(of, sop_class=COLOUR, ICCProfile=profile("adobergb")), of, query="?iccprofile=srgb")
    assert found[0, 0].tolist() == [233, 24, 36]
    plain = get(client, f"studies/{states.STUDY}/series/{states.SERIES}/instances/{states.IMAGE}/rendered?iccprofile=srgb")
    assert pixels(plain)[0, 0].tolist() == [200, 30, 40]
    own = get(client, f"{STATE}/rendered?iccprofile=yes")
    assert Image.open(io.BytesIO(own.content)).info["icc_profile"] == profile("adobergb")
    assert "warning" not in own.headers


def test_greyscale_states_say_that_they_have_no_profile(client: TestClient) -> None:
    store(client, image(), state())
    answer = get(client, f"{STATE}/rendered?iccprofile=srgb")
    assert answer.headers["warning"].endswith("iccprofile")
