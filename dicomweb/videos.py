"""Videos: as they are stored, as MP4 for browsers, and their frames as pictures, where PyAV is installed; cine as MP4 likewise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np

from dicomweb.apart import Limits, Result, run_apart
from dicomweb.bodies import Body, read, stream
from dicomweb.instance import Instance
from dicomweb.media_types import MP4
from dicomweb.negotiation import PICTURES, Offer
from dicomweb.rendering import Picture, RenderRequest
from dicomweb.rendering.animation import MOST_AREA, MOST_FRAMES
from dicomweb.rendering.geometry import fitted
from dicomweb.rendering.values import number
from dicomweb.shown_kinds import Shown
from storage.archive import Archive
from storage.errors import BadRequest, CannotDecode, NotAcceptable
from storage.pieces import Piece

NUMBER_OF_FRAMES: Final = "00280008"
# FFmpeg maps more than it uses. A result is held in memory; a film of minutes takes as long to encode as to watch, at worst.
FRAME_LIMITS: Final = Limits(20, 2 << 30, 256 << 20)
FILM_LIMITS: Final = Limits(60, 3 << 30, 128 << 20)
# The wheels of PyAV carry x264 and x265, which are under the GPL: who wants them installs them.
WITHOUT: Final = "pictures of videos, and MP4, need PyAV: an administrator can install lightbox-pacs[video]"


def can_film() -> bool:
    """Whether PyAV is installed; it is never loaded in this process."""
    return find_spec("av") is not None


class VideoShown(Shown):
    """A stored video (PS3.5 A.4.5 to A.4.9). Picture n is frame n; 0 one from its middle, for a beginning is often black."""

    small = True
    first = 0

    def __init__(self, instance: Instance, pieces: tuple[Piece, ...], archive: Archive) -> None:
        self._instance = instance
        self._pieces = pieces
        self._archive = archive
        self._kind = instance.syntax.media_type
        # Syntaxes of H.264 may come in an MPEG-2 transport stream (PS3.5 A.4.6), which no browser plays: it becomes an MP4.
        self.stored = "" if can_film() and self._kind == MP4 and self._starts_with(b"\x47") else self._kind
        made = (Offer(MP4),) if can_film() and self._kind != MP4 else ()
        self.offers = (Offer(self._kind), *made, *PICTURES)

    @property
    def pages(self) -> int:
        return int(number(self._instance.dataset, NUMBER_OF_FRAMES) or 1)

    def picture(self, number: int, request: RenderRequest) -> Picture:
        drawn = self._apart("video frame", {"frame": number, "frames": self.pages}, FRAME_LIMITS)
        shape = drawn.about["rows"], drawn.about["columns"], 3
        return fitted(np.frombuffer(drawn.content, np.uint8).reshape(shape), request.viewport, drawn.about["aspect"])

    def whole(self, kind: str, number: int) -> tuple[Piece, ...]:
        return self._pieces if kind == self.stored else (self._apart("video mp4", {}, FILM_LIMITS).content,)

    def _starts_with(self, head: bytes) -> bool:
        return b"".join(read(self._archive.blobs, Body(self._pieces).first(len(head)))) == head

    def _apart(self, task: str, asked: Mapping[str, Any], limits: Limits) -> Result:
        if not can_film():
            raise NotAcceptable(f"{WITHOUT}. The video itself can be had as {self._kind}")
        last = self._instance.syntax.uid.removeprefix("1.2.840.10008.1.2.4.").partition(".")[0]
        about = {**asked, "type": self._kind, "syntax": last}
        try:
            content = stream(self._archive.blobs, Body(self._pieces))
            return run_apart(task, content, about, self._archive.spool_folder, limits)
        except CannotDecode as error:
            raise NotAcceptable(f"the video cannot be shown so: {error}. It can be had as {self._kind}") from error


def filmed(pictures: Iterable[Picture], times: list[int], quality: int, folder: Path) -> bytes:
    """An MP4 of `pictures` of one size, each shown so many milliseconds. Raises BadRequest where they are too many or too large."""
    if len(times) > MOST_FRAMES:
        raise BadRequest(f"{len(times)} frames are too many for a film; ask for at most {MOST_FRAMES} by frames/…")
    each = iter(pictures)
    first = next(each)
    height, width = first.shape[:2]
    if width * height * len(times) > 4 * MOST_AREA:
        raise BadRequest(f"{len(times)} frames of {width} x {height} are too much for a film; add viewport=… for smaller ones")
    asked = {"width": width, "height": height, "samples": 3 if first.ndim == 3 else 1, "times": times, "quality": quality}
    return run_apart("film", _raw(chain((first,), each)), asked, folder, FILM_LIMITS).content


def _raw(pictures: Iterable[Picture]) -> Iterator[bytes]:
    for picture in pictures:
        yield np.ascontiguousarray(picture).tobytes()
