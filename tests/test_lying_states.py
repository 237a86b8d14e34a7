"""Presentation states whose values lie: a picture or a refusal with a reason comes of each, and no other error (warnings are errors here)."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicomweb.rendering import RenderRequest, Viewport, frame_picture
from dicomweb.rendering.blending import plan
from dicomweb.rendering.content_html import as_html
from dicomweb.rendering.mappings import mapping
from dicomweb.rendering.presentation import Shown, presented
from storage.codecs import PixelDescription, decode_here
from storage.errors import CannotDecode, NotAcceptable
from storage.transfer_syntaxes import EXPLICIT_LITTLE
from tests import test_angiography as angiography
from tests import test_blending as blending
from tests import test_golden_states as golden
from tests import test_presentation_states as states
from tests.support import runs
from tests.support.odd import lying
from tests.support.states import IMAGE, PSEUDO, displayed, image, item, state

RUN = runs.run()
FILTERED = angiography.displayed(angiography.viewed(1, 4, DisplayFilterPercentage=50, MaskVisibilityPercentage=20))
ROUND = item(ShutterShape="CIRCULAR", ShutterPresentationValue=0x3000, **golden.CIRCLE)
SHUTTERS: dict[str, Any] = {"ShutterShape": ["RECTANGULAR", "CIRCULAR", "POLYGONAL"], **golden.RECTANGLE, **golden.CIRCLE, **golden.POLYGON, **golden.COVER}

TIMES = 200

# A state and its image.
STATES: dict[str, Callable[[], tuple[Dataset, Dataset]]] = {
    "everything": lambda: states.gathered()[::-1],
    "graphics": lambda: (golden.in_both_units(), golden.large()),
    "shutters": lambda: (state(**SHUTTERS, **golden.VOI), image()),
    "a bitmap": lambda: (golden.bitmap(), image()),
    "pseudo-colour": lambda: (state(sop_class=PSEUDO, **SHUTTERS, ShutterPresentationColorCIELabValue=golden.RED, **golden.palette(), RescaleSlope=2, RescaleIntercept=3), image()),
    "an area": lambda: (state(area=displayed(25, 9, 96, 60, PresentationSizeMode="MAGNIFY", PresentationPixelMagnificationRatio=2), ImageRotation=90), image()),
    "angiography": lambda: (angiography.of(RUN, angiography.MOVED, **FILTERED, FrameDisplayShutterSequence=[ROUND]), RUN),
    "logarithms": lambda: (angiography.of(RUN, runs.averaged(1, PixelIntensityRelationshipLUTSequence=[angiography.logarithmic()])), RUN),
}


@pytest.mark.parametrize("name", STATES)
def test_a_state_that_lies_gives_a_picture_or_a_refusal(name: str) -> None:
    shown, of = (one.to_json_dict() for one in STATES[name]())
    values = STATES[name]()[1].pixel_array
    chance = random.Random(name)
    pictures, refused = 0, 0
    for _ in range(TIMES):
        number = chance.choice((1, 2, 3)) if values.shape[0] == 4 else 1

        def samples(_pixels: PixelDescription, _every: bool, number: int = number) -> np.ndarray[Any, Any]:
            return np.asarray(values[number - 1] if values.shape[0] == 4 else values)

        frame = Shown(of, IMAGE, EXPLICIT_LITTLE, number, samples, others=lambda _pixels, other: values[other - 1])
        request = RenderRequest(viewport=chance.choice((None, Viewport(50, 50))))
        try:
            pictures += bool(presented(lying(shown, chance, but=("00080016",)), frame, request).size)
        except CannotDecode as error:
            refused += bool(str(error))
    assert pictures > TIMES // 5
    assert pictures + refused == TIMES


MASKS: dict[str, Any] = {"MaskSubtractionSequence": [runs.averaged(1, MaskSubPixelShift=[0.5, 1]), runs.tid(2)], "RecommendedViewingMode": "SUB"}
OWN: dict[str, Dataset] = {
    "a run with its mask": image(runs.frames(), Modality="XA", PixelIntensityRelationship="LIN", **MASKS, **SHUTTERS, **FILTERED, **runs.EXACT),
    "a shuttered image": image(**SHUTTERS, **runs.NATIVE, RescaleSlope=2, RescaleIntercept=-1000, PixelPaddingValue=5, PresentationLUTShape="IDENTITY"),
}


@pytest.mark.parametrize("name", OWN)
def test_an_image_that_lies_gives_a_picture_or_a_refusal(name: str) -> None:
    of = OWN[name]
    shown, values = of.to_json_dict(), of.pixel_array.reshape(-1, of.Rows, of.Columns)
    chance = random.Random(name)
    pictures, refused = 0, 0
    for _ in range(TIMES):
        number = chance.randrange(len(values)) + 1
        odd = lying(shown, chance)
        try:
            made = frame_picture(
                values[number - 1].tobytes(), odd, EXPLICIT_LITTLE, number, RenderRequest(), frames=lambda other: (values[other - 1].tobytes(), 0), decode=decode_here
            )
            pictures += bool(made.size)
        except CannotDecode as error:
            refused += bool(str(error))
    assert pictures > TIMES // 5
    assert pictures + refused == TIMES


def test_blending_that_lies_is_a_plan_or_a_refusal() -> None:
    below, above = (blending.slice_of(blending.flat(0), uid) for uid in ("1.2.3.4.1", "1.2.3.4.2"))
    shown = blending.blending(below, above).to_json_dict()
    chance = random.Random(1)
    refused = 0
    for _ in range(300):
        try:
            assert plan(lying(shown, chance, but=("00080016",))).steps
        except (CannotDecode, NotAcceptable) as error:
            refused += bool(str(error))
    assert 0 < refused < 300


def test_a_mapping_that_lies_is_a_document() -> None:
    one = item(LUTLabel="T1", RealWorldValueSlope=0.5, RealWorldValueIntercept=-10.0, RealWorldValueLUTData=[1.0, 2.0])
    group = item(RealWorldValueMappingSequence=[one], ReferencedImageSequence=[item(ReferencedSOPInstanceUID="1.9")])
    shown = item(ReferencedImageRealWorldValueMappingSequence=[group]).to_json_dict()
    chance = random.Random(1)
    for _ in range(300):
        assert as_html(mapping(lying(shown, chance)), lambda _to, _resource: "")
