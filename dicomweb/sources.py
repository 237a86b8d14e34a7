"""The images that a segmentation or structure set was made on, where the archive has them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from typing import Final

import numpy as np

from dicomweb.instance import Instance
from dicomweb.layouts import Layouts
from dicomweb.rendering import is_image
from dicomweb.rendering.planes import Plane, plane_of
from dicomweb.rendering.values import items, text
from storage.archive import Archive
from storage.errors import NotFound
from storage.types import Scope, Uids

# PS3.3 C.12.2 (Common Instance Reference), C.8.8.5 (what a frame of reference of a structure set is that of).
REFERENCED_SERIES, OTHER_STUDIES, FRAMES_OF_REFERENCE, RT_STUDIES, RT_SERIES = (
    "00081115", "00081200", "30060010", "30060012", "30060014",
)  # fmt: skip
STUDY_UID, SERIES_UID, REFERENCED_INSTANCE = "0020000D", "0020000E", "00081155"
# Of a series whose images are looked through for the nearest: so many, and how far off one may be, in mm.
MOST_IMAGES: Final = 2000
NEAR: Final = 1.0


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
            yield from (text(item, REFERENCED_INSTANCE) for item in items(frame, RT_STUDIES))

    def _series(self) -> Iterator[str]:
        dataset = self._instance.dataset
        yield from (text(item, SERIES_UID) for item in items(dataset, REFERENCED_SERIES))
        for frame in items(dataset, FRAMES_OF_REFERENCE):
            for study in items(frame, RT_STUDIES):
                yield from (text(item, SERIES_UID) for item in items(study, RT_SERIES))
