"""What is no image, and whose values lie: a drawing, a page or a refusal with a reason comes of each (warnings are errors here)."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dicomweb.rendering import RenderRequest, Window
from dicomweb.rendering.animation import frame_times
from dicomweb.rendering.annotations import annotated
from dicomweb.rendering.content import report
from dicomweb.rendering.content_html import as_html
from dicomweb.rendering.content_text import text_lines
from dicomweb.rendering.contours import contours, drawn_on
from dicomweb.rendering.dose import dose_grid, dose_scaling, sampled, washed, with_legend
from dicomweb.rendering.planes import plane_of
from dicomweb.rendering.segments import colours, segment_frame, together
from dicomweb.rendering.tracings import parts, traced
from dicomweb.rendering.waveforms import groups, values, written
from storage.errors import CannotDecode
from storage.scanner import scan
from tests.support.corpus import corpus_file
from tests.support.odd import lying

Json = dict[str, Any]
ECG = "1.2.840.10008.5.1.4.1.1.9.1.1"
AXIAL: Json = {"00200032": {"Value": [0, 0, 0]}, "00200037": {"Value": [1, 0, 0, 0, 1, 0]}, "00280030": {"Value": [1, 1]}}


def structures(dataset: Json) -> None:
    plane = plane_of(AXIAL, 1)
    assert plane is not None
    for lines in list(contours(dataset).values())[:4]:
        assert drawn_on(np.zeros((32, 32, 3), np.uint8), plane, lines).shape == (32, 32, 3)


def dose(dataset: Json) -> None:
    grid = dose_grid(dataset, 3)
    if grid is not None:
        found = sampled(grid, lambda _frame: np.full((8, 8), dose_scaling(dataset)), grid.planes[0], (256, 200))
        assert with_legend(washed(np.zeros((256, 200, 3), np.uint8), found, float(found.max())), dataset, float(found.max())).size


def segmentation(dataset: Json) -> None:
    assert together(dataset, 4)
    assert all(segment_frame(dataset, frame, 4) for frame in (1, 2))
    assert all(len(colour) == 3 for colour in colours(dataset).values())


def waveform(dataset: Json) -> None:
    said = written(dataset)
    part = next(iter(parts(groups(dataset), ECG)))
    sheet = traced(part, values(dataset, part.group, part.first, part.count, lambda _path, _start, length: bytes(length)), said, 1, 1)
    assert sheet.svg("waveforms")


def document(dataset: Json) -> None:
    found = report(dataset)
    assert as_html(found, lambda _to, _resource: "")
    assert list(text_lines(found))


def annotation(dataset: Json) -> None:
    assert annotated(np.zeros((100, 100), np.uint8), dataset, 1, RenderRequest(annotation=("patient", "technique")), Window(1, 2)).size
    assert len(frame_times(dataset, 3)) == 3


OBJECTS: dict[str, Callable[[Json], None]] = {
    "radiotherapy/rtstruct.dcm": structures,
    "radiotherapy/rtdose.dcm": dose,
    "derived/seg_image_ct_binary.dcm": segmentation,
    "waveforms/synthetic_general_ecg.dcm": waveform,
    "waveforms/synthetic_eeg.dcm": waveform,
    "derived/synthetic/sr_tid1500_three_rois.dcm": document,
    "derived/synthetic/ko_three_mr_key_images.dcm": document,
    "enhanced/emri_small.dcm": annotation,
}


@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_that_lies_is_shown_or_refused(name: str) -> None:
    dataset = dict(scan(corpus_file(name).read_bytes()).dataset)
    chance = random.Random(name)
    shown, refused = 0, 0
    for _ in range(60):
        try:
            OBJECTS[name](lying(dataset, chance))
            shown += 1
        except CannotDecode as error:
            refused += bool(str(error))
    assert shown > 20
    assert shown + refused == 60
