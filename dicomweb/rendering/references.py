"""Which images a presentation state is about, and which of its items are for which of them (PS3.3 C.11.11, C.10)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from dicomweb.rendering.values import items, numbers, text
from storage.types import Dataset

SERIES, IMAGES = "00081115", "00081140"
STUDY_UID, SERIES_UID, CLASS_UID, INSTANCE_UID, FRAMES = "0020000D", "0020000E", "00081150", "00081155", "00081160"

_STATES: Final = "1.2.840.10008.5.1.4.1.1.11."
GREY, COLOUR, PSEUDO_COLOUR, BLENDING, ANGIOGRAPHY, ADVANCED_BLENDING, VARIABLE = (f"{_STATES}{number}" for number in (1, 2, 3, 4, 5, 8, 12))
BLENDED: Final = frozenset({BLENDING, ADVANCED_BLENDING})
# Those whose pictures are in colour whatever the image is.
IN_COLOUR: Final = frozenset({COLOUR, PSEUDO_COLOUR}) | BLENDED
# What of the presentation states can be drawn.
DRAWN: Final = frozenset({GREY, ANGIOGRAPHY, VARIABLE}) | IN_COLOUR
# Planar MPR and volume rendering, which need a volume to be cut or cast (PS3.4 annex FF).
VOLUMETRIC: Final = frozenset(f"{_STATES}{number}" for number in (6, 7, 9, 10, 11))


class Reference(NamedTuple):
    """An image, and which of its frames; all of them where there are none."""

    series: str
    instance: str
    frames: tuple[int, ...]
    # Empty for the study of what refers to it.
    study: str = ""


def sop_class(dataset: Dataset) -> str:
    """SOP Class UID."""
    return text(dataset, "00080016")


def is_state(dataset: Dataset) -> bool:
    """Whether a data set is a presentation state of any kind."""
    return sop_class(dataset).startswith(_STATES)


def references(state: Dataset) -> list[Reference]:
    """The images that the state shows, in its order."""
    return [image for series in items(state, SERIES) for image in image_references(series)]


def image_references(series: Dataset, study: str = "") -> list[Reference]:
    """The images of an item about a series."""
    return [Reference(text(series, SERIES_UID), text(image, INSTANCE_UID), _frames(image), study) for image in items(series, IMAGES)]


def applying(dataset: Dataset, sequence: str, uid: str, frame: int) -> Iterator[Dataset]:
    """The items of a sequence that are for a frame of an image: those that name it, and those that name none."""
    for item in items(dataset, sequence):
        images = items(item, IMAGES)
        if not images or any(text(one, INSTANCE_UID) == uid and frame in (_frames(one) or (frame,)) for one in images):
            yield item


def _frames(image: Dataset) -> tuple[int, ...]:
    return tuple(int(value) for value in numbers(image, FRAMES) if value >= 1)
