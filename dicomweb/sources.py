"""The images that a segmentation, structure set or dose was made on, where the archive has them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import islice
from typing import Final, NamedTuple

import numpy as np

from dicomweb.instance import Instance
from dicomweb.layouts import Layouts
from dicomweb.planned import (
    FRAME_OF_REFERENCE,
    FRAMES_OF_REFERENCE,
    INSTANCE,
    RT_SERIES,
    RT_STUDIES,
    SERIES_UID,
    STUDY_UID,
    Planned,
)
from dicomweb.rendering import is_image
from dicomweb.rendering.planes import Plane, plane_of
from dicomweb.rendering.values import items, text
from storage.archive import Archive
from storage.errors import NotFound
from storage.types import Scope, Uids

# PS3.3 C.12.2 (Common Instance Reference).
REFERENCED_SERIES, OTHER_STUDIES, MODALITY = "00081115", "00081200", "00080060"
# What is laid over images, and what images it is laid over first.
_LAID_OVER: Final = frozenset({"RTDOSE", "SEG"})
_FIRST: Final = ("CT", "MR", "PT")
# Of a series whose images are looked through for the nearest: so many, and how far off one may be, in mm.
MOST_IMAGES: Final = 2000
NEAR: Final = 1.0


class Placed(NamedTuple):
    """A frame of an image, and where it is in the patient."""

    image: Instance
    frame: int
    plane: Plane


class Sources:
    """Finds images by their UID, or by where they are in the patient."""

    def __init__(self, instance: Instance, archive: Archive, layouts: Layouts) -> None:
        self._instance = instance
        self._archive = archive
        self._layouts = layouts

    def named(self, uid: str) -> Instance | None:
        """The image of this SOP Instance UID, if it is one with frames to be shown."""
        uids = self._known.get(uid)
        return self._opened(uids) if uids is not None else None

    def near(self, point: tuple[float, float, float]) -> tuple[Instance, Plane] | None:
        """The image, of those of the series that it refers to, whose plane a point in mm is nearest to."""
        best, distance = None, NEAR
        for image, plane in self._planes:
            _, off = plane.to_pixels(np.array([point]))
            if abs(float(off[0])) < distance:
                best, distance = (image, plane), abs(float(off[0]))
        return best

    def in_frame_of_reference(self, uid: str) -> tuple[Placed, ...]:
        """All frames of one series in a frame of reference: CT before MR before others, then the largest.

        Of the series that the plan of a dose was made on, else of the study, else of the patient's other studies.
        """
        if not uid:
            return ()
        planned, dataset = Planned(self._archive, self._layouts), self._instance.dataset
        places = (planned.series(dataset), self._by_series(), planned.elsewhere(dataset, self._instance.located.uids.study))
        return next((found for place in places if (found := self._first_of(place, uid))), ())

    def _by_series(self) -> Iterable[list[Uids]]:
        series: dict[str, list[Uids]] = {}
        for uids in self._known.values():
            series.setdefault(uids.series, []).append(uids)
        return series.values()

    def _first_of(self, series: Iterable[list[Uids]], uid: str) -> tuple[Placed, ...]:
        fitting = [(_rank(first.text(MODALITY)), -len(members), members) for members in series if members and (first := self._like(members[0], uid))]
        members = min(fitting, key=lambda one: one[:2])[2] if fitting else []
        images = (image for uids in islice(members, MOST_IMAGES) if (image := self._like(uids, uid)) is not None)
        placed = ((image, frame, plane_of(image.dataset, frame)) for image in images for frame in range(1, image.frames + 1))
        return tuple(Placed(image, frame, plane) for image, frame, plane in islice(placed, MOST_IMAGES) if plane is not None)

    def _like(self, uids: Uids, frame_of_reference: str) -> Instance | None:
        """An image in a frame of reference, if it is one that others are laid over."""
        image = self._opened(uids) if uids != self._instance.located.uids else None
        if image is None or image.text(FRAME_OF_REFERENCE) != frame_of_reference:
            return None
        return None if image.text(MODALITY) in _LAID_OVER or plane_of(image.dataset, 1) is None else image

    @cached_property
    def _known(self) -> dict[str, Uids]:
        studies = dict.fromkeys((self._instance.located.uids.study, *self._studies()))
        found: dict[str, Uids] = {}
        for study in studies:
            found |= {located.uids.instance: located.uids for located in self._archive.index.locate(Scope(study))}
        return found

    @cached_property
    def _planes(self) -> tuple[tuple[Instance, Plane], ...]:
        series = set(self._series())
        images = (uids for uids in self._known.values() if uids.series in series)
        opened = (image for uids in islice(images, MOST_IMAGES) if (image := self._opened(uids)) is not None)
        return tuple((image, plane) for image in opened if (plane := plane_of(image.dataset, 1)) is not None)

    def _opened(self, uids: Uids) -> Instance | None:
        try:
            layout = self._layouts.get(Scope(uids.study, uids.series, uids.instance))
        except NotFound:
            return None
        image = Instance(layout, self._archive.blobs)
        return image if image.frames and is_image(image.dataset, image.syntax.uid) else None

    def _studies(self) -> Iterator[str]:
        dataset = self._instance.dataset
        yield from (text(item, STUDY_UID) for item in items(dataset, OTHER_STUDIES))
        for frame in items(dataset, FRAMES_OF_REFERENCE):
            yield from (text(item, INSTANCE) for item in items(frame, RT_STUDIES))

    def _series(self) -> Iterator[str]:
        dataset = self._instance.dataset
        yield from (text(item, SERIES_UID) for item in items(dataset, REFERENCED_SERIES))
        for frame in items(dataset, FRAMES_OF_REFERENCE):
            for study in items(frame, RT_STUDIES):
                yield from (text(item, SERIES_UID) for item in items(study, RT_SERIES))


def _rank(modality: str) -> int:
    return _FIRST.index(modality) if modality in _FIRST else len(_FIRST)
