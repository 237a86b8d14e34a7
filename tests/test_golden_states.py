"""Presentation states as pictures that a person has looked at (tests/golden): an F, which shows how it is turned."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from starlette.testclient import TestClient

from dicomweb.settings import WebSettings
from storage.archive import Archive
from tests.support import runs, states, web
from tests.support.golden import assert_as_seen, sheet
from tests.support.states import (
    ANGIOGRAPHY,
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
    window,
    words,
)

Pixels = np.ndarray[Any, Any]
Draw = Callable[..., Pixels]

STATE = states.STATE_PATH
VOI: dict[str, Any] = {"SoftcopyVOILUTSequence": [window(1500, 3600)]}
RED, GREEN, YELLOW = [34885, 53485, 50171], [57402, 10803, 54199], [62000, 28000, 58000]


@pytest.fixture
def draw(archive: Archive) -> Draw:
    """Stores a state with its images in place of the last ones, and gives its picture."""

    def drawn(shown: Dataset, *images: Dataset, query: str = "", frame: int = 1) -> Pixels:
        with web.client(archive, WebSettings(layout_cache_seconds=-1)) as client:
            return _drawn(client, shown, images or (image(),), query, frame)

    return drawn


def _drawn(client: TestClient, shown: Dataset, images: tuple[Dataset, ...], query: str, frame: int) -> Pixels:
    client.delete(f"studies/{states.STUDY}")
    states.store(client, *images, shown)
    answer = client.get(f"{STATE}/frames/{frame}/rendered{query}", headers={"Accept": "image/png"})
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def test_turns_and_flips(draw: Draw, tmp_path: Path) -> None:
    """The upper row turned clockwise by 0, 90, 180 and 270 degrees; the lower one the same, then flipped left to right (PS3.3 C.10.6)."""
    rows = [[draw(state(ImageRotation=turn, ImageHorizontalFlip=flip, **VOI)) for turn in (0, 90, 180, 270)] for flip in "NY"]
    assert_as_seen(sheet(rows), "turns.png", tmp_path, drawn=False)


AREAS: dict[str, tuple[Dataset, dict[str, Any], str]] = {
    "all of it": (displayed(), {}, ""),
    "the upper arm of the F": (displayed(25, 9, 96, 60), {}, ""),
    "that, scaled to fit": (displayed(25, 9, 96, 60), {}, "?viewport=120,120"),
    "that, magnified": (displayed(25, 9, 96, 60, PresentationSizeMode="MAGNIFY", PresentationPixelMagnificationRatio=2), {}, ""),
    "that, of true size": (displayed(25, 9, 96, 60, PresentationSizeMode="TRUE SIZE", PresentationPixelSpacing=[0.5, 0.5]), {}, ""),
    "pixels twice as high as wide": (displayed(25, 9, 96, 60, PresentationPixelAspectRatio=[2, 1]), {}, ""),
    "turned to the right": (displayed(25, 9, 96, 60), {"ImageRotation": 90, "ImageHorizontalFlip": "N"}, ""),
    "beyond the image at the left and below": (displayed(-20, 9, 96, 120), {}, ""),
}


def test_displayed_areas(draw: Draw, tmp_path: Path) -> None:
    """In the order of AREAS, four in a row (PS3.3 C.10.4)."""
    found = [draw(state(area=area, **more, **VOI), query=query) for area, more, query in AREAS.values()]
    assert_as_seen(sheet([found[:4], found[4:]]), "areas.png", tmp_path, drawn=False)


RECTANGLE: dict[str, Any] = {"ShutterLeftVerticalEdge": 21, "ShutterRightVerticalEdge": 100, "ShutterUpperHorizontalEdge": 11, "ShutterLowerHorizontalEdge": 84}
CIRCLE: dict[str, Any] = {"CenterOfCircularShutter": [48, 60], "RadiusOfCircularShutter": 40}
# Rows before columns: a tip at the top left.
POLYGON: dict[str, Any] = {"VerticesOfThePolygonalShutter": [6, 24, 30, 110, 90, 60, 84, 20]}
COVER: dict[str, Any] = {"ShutterPresentationValue": 0x8000}


def bitmap() -> Dataset:
    """Covered is what is set: a triangle at the lower right."""
    bits = np.add.outer(np.arange(ROWS) / ROWS, np.arange(COLUMNS) / COLUMNS) > 1.25
    shown = state(ShutterShape="BITMAP", ShutterOverlayGroup=0x6002, **COVER, **VOI)
    for element, vr, value in ((0x10, "US", ROWS), (0x11, "US", COLUMNS), (0x50, "SS", [1, 1]), (0x100, "US", 1), (0x102, "US", 0)):
        shown.add_new((0x6002, element), vr, value)
    shown.add_new((0x6002, 0x40), "CS", "G")
    shown.add_new((0x6002, 0x3000), "OW", np.packbits(bits.ravel(), bitorder="little").tobytes())
    return shown


def test_shutters(draw: Draw, tmp_path: Path) -> None:
    """A rectangle, a circle, a polygon; a bitmap, all three at once, and in red on a picture in colour (PS3.3 C.7.6.11, C.7.6.15)."""
    single = [draw(state(ShutterShape=name, **shape, **COVER, **VOI)) for name, shape in (("RECTANGULAR", RECTANGLE), ("CIRCULAR", CIRCLE), ("POLYGONAL", POLYGON))]
    together = draw(state(ShutterShape=["RECTANGULAR", "CIRCULAR", "POLYGONAL"], **RECTANGLE, **CIRCLE, **POLYGON, **COVER, **VOI))
    colour = draw(state(sop_class=PSEUDO, ShutterShape="CIRCULAR", ShutterPresentationColorCIELabValue=RED, **CIRCLE, **COVER, **VOI, **palette()))
    assert_as_seen(sheet([single, [draw(bitmap()), together, colour]]), "shutters.png", tmp_path, drawn=False)


def palette() -> dict[str, Any]:
    """Hot iron: black, red, yellow, white."""
    ramp = np.arange(256)
    channels = (np.clip(ramp * 2, 0, 255), np.clip((ramp - 128) * 2, 0, 255), np.clip((ramp - 192) * 4, 0, 255))
    made: dict[str, Any] = {f"{name}PaletteColorLookupTableDescriptor": [256, 0, 16] for name in ("Red", "Green", "Blue")}
    return made | {
        f"{name}PaletteColorLookupTableData": (channel * 257).astype("<u2").tobytes() for name, channel in zip(("Red", "Green", "Blue"), channels, strict=True)
    }


def large() -> Dataset:
    """The F twice as large, without its ramp."""
    values = states.letter()
    values[:, :8] = values[0, -1]
    return image(np.kron(values, np.ones((2, 2), "<u2")))


def marked(*annotations: Dataset, **attributes: Any) -> Dataset:
    layers = [item(GraphicLayer=name, GraphicLayerOrder=order, **colour) for order, (name, colour) in enumerate(LAYERS.items())]
    return state(large(), GraphicLayerSequence=layers, GraphicAnnotationSequence=list(annotations), **{**VOI, **attributes})


LAYERS: dict[str, dict[str, Any]] = {
    "IMAGE": {"GraphicLayerRecommendedDisplayCIELabValue": YELLOW},
    "SCREEN": {"GraphicLayerRecommendedDisplayCIELabValue": GREEN},
}


def in_both_units(**attributes: Any) -> Dataset:
    """In yellow what is told in pixels of the image and turns with it, in green what is told in parts of the screen and does not."""
    return marked(
        annotation(
            "IMAGE",
            graphic("POLYLINE", 56, 164, 94, 164),
            graphic("CIRCLE", 74, 44, 94, 44),
            graphic("ELLIPSE", 120, 44, 188, 44, 154, 32, 154, 56),
            graphic("INTERPOLATED", 100, 108, 126, 88, 154, 128, 180, 100),
            graphic("POINT", 212, 160),
            words("foot of the F", [100, 157, 200, 172]),
        ),
        annotation(
            "SCREEN",
            graphic("POLYLINE", 0.02, 0.02, 0.2, 0.02, 0.02, 0.2, 0.02, 0.02, units="DISPLAY", GraphicFilled="Y"),
            graphic("ELLIPSE", 0.8, 0.9, 0.98, 0.9, 0.89, 0.85, 0.89, 0.95, units="DISPLAY"),
            words("top right", [0.6, 0.02, 0.98, 0.1], "DISPLAY", BoundingBoxTextHorizontalJustification="RIGHT"),
        ),
        **attributes,
    )


def test_graphics_and_words_in_both_units(draw: Draw, tmp_path: Path) -> None:
    """Upright, turned clockwise by 90 degrees, and flipped: yellow goes with the F, green stays, and words can be read (PS3.3 C.10.5)."""
    turns: tuple[dict[str, Any], ...] = ({}, {"ImageRotation": 90, "ImageHorizontalFlip": "N"}, {"ImageRotation": 0, "ImageHorizontalFlip": "Y"})
    assert_as_seen(sheet([[draw(in_both_units(**turn), large()) for turn in turns]]), "graphics.png", tmp_path, drawn=True)


def test_compound_graphics(draw: Draw, tmp_path: Path) -> None:
    """At the left an arrow by the line, the head and the words that come with it; at the right one that comes without is named (PS3.4 N.3)."""
    own: dict[str, Any] = {"CompoundGraphicInstanceID": 1}
    arrow = item(CompoundGraphicType="ARROW", CompoundGraphicUnits="PIXEL", GraphicDimensions=2, NumberOfGraphicPoints=2, GraphicData=[200, 40, 132, 100], **own)
    parts = (
        graphic("POLYLINE", 200, 40, 132, 100, **own),
        graphic("POLYLINE", 132, 100, 150, 94, 140, 82, 132, 100, GraphicFilled="Y", **own),
        words("nidus", [192, 22, 240, 38], **own),
    )
    whole = marked(annotation("IMAGE", *parts, CompoundGraphicSequence=[arrow]))
    alone = marked(annotation("IMAGE", CompoundGraphicSequence=[arrow]))
    assert_as_seen(sheet([[draw(whole, large()), draw(alone, large())]]), "compound.png", tmp_path, drawn=True)


def table(entries: Pixels) -> Dataset:
    made = item(LUTDescriptor=[256, 0, 16], LUTData=(entries.clip(0, 255) * 257).astype("<u2").tobytes())
    made["LUTData"].VR = "OW"
    return made


def test_what_is_white(draw: Draw, tmp_path: Path) -> None:
    """IDENTITY, INVERSE, a LUT of four steps; below the same of a MONOCHROME1 image, whose word does not count (PS3.3 C.11.6)."""
    steps = table(np.arange(256) // 64 * 85)
    rows = []
    for interpretation in ("MONOCHROME2", "MONOCHROME1"):
        of = image(PhotometricInterpretation=interpretation)
        stepped = state(PresentationLUTSequence=[steps], **VOI)
        del stepped.PresentationLUTShape
        rows.append([draw(state(PresentationLUTShape=shape, **VOI), of) for shape in ("IDENTITY", "INVERSE")] + [draw(stepped, of)])
    assert_as_seen(sheet(rows), "white.png", tmp_path, drawn=False)


def test_states_in_colour(draw: Draw, tmp_path: Path) -> None:
    """A colour image turned and flipped, with a shutter and a line; a grey one in hot iron, and the same inverted by its window's LUT."""
    values = np.zeros((ROWS, COLUMNS, 3), np.uint8)
    values[..., 0], values[..., 2] = 40, 120
    values[16:80, 30:44] = values[16:28, 30:90] = values[42:54, 30:74] = (250, 200, 60)
    of = image(values)
    line = annotation("X", graphic("POLYLINE", 30, 84, 90, 84))
    layer = item(GraphicLayer="X", GraphicLayerOrder=1, GraphicLayerRecommendedDisplayCIELabValue=GREEN)
    cover = {"ShutterShape": "CIRCULAR", "ShutterPresentationColorCIELabValue": RED, **CIRCLE, **COVER}
    colour = state(of, sop_class=COLOUR, ImageRotation=90, ImageHorizontalFlip="Y", GraphicLayerSequence=[layer], GraphicAnnotationSequence=[line], **cover)
    falling = item(VOILUTSequence=[item(LUTDescriptor=[4096, 0, 16], LUTData=np.linspace(65535, 0, 4096).astype("<u2").tobytes())])
    falling.VOILUTSequence[0]["LUTData"].VR = "OW"
    iron = [draw(state(sop_class=PSEUDO, SoftcopyVOILUTSequence=[voi], **palette())) for voi in (window(1500, 3600), falling)]
    assert_as_seen(sheet([[draw(colour, of), *iron]]), "colours.png", tmp_path, drawn=True)


def test_angiography(draw: Draw, tmp_path: Path) -> None:
    """A vessel before bone: as it is stored; subtracted; with a third of the mask, and filtered; with the right half of the mask moved, under a shutter."""
    stored = np.kron(runs.frames(), np.ones((1, 2, 2), "<u2"))
    of = runs.run(values=stored)
    mask: dict[str, Any] = {"MaskSubtractionSequence": [runs.averaged(1)]}
    half = item(VerticesOfTheRegion=[1, 65, 1, 128, 96, 128, 96, 65], MaskSubPixelShift=[0, 12])
    moved = {"MaskSubtractionSequence": [runs.averaged(1, PixelShiftSequence=[item(PixelShiftFrameRange=[2, 4], RegionPixelShiftSequence=[half])])]}
    shutter = {"FrameDisplayShutterSequence": [item(ShutterShape="CIRCULAR", ShutterPresentationValue=0x3000, **CIRCLE)]}

    def display(**attributes: Any) -> dict[str, Any]:
        return {"MultiFramePresentationSequence": [item(FrameDisplaySequence=[item(StartTrim=1, StopTrim=4, **attributes)])]}

    exact, native = {"SoftcopyVOILUTSequence": [item(**runs.EXACT)]}, {"SoftcopyVOILUTSequence": [window(2000, 2600)]}
    part = {"SoftcopyVOILUTSequence": [item(WindowCenter=600, WindowWidth=1600, VOILUTFunction="LINEAR_EXACT")]}
    shown = [
        {**mask, **native, **display(RecommendedViewingMode="NAT")},
        {**mask, **exact, **display(RecommendedViewingMode="SUB")},
        {**mask, **part, **display(RecommendedViewingMode="SUB", MaskVisibilityPercentage=33, DisplayFilterPercentage=100)},
        {**moved, **exact, **shutter},
    ]
    found = [draw(state(of, sop_class=ANGIOGRAPHY, PresentationLUTShape="IDENTITY", **one), of, frame=3) for one in shown]
    assert_as_seen(sheet([found[:2], found[2:]]), "angiography.png", tmp_path, drawn=False)
