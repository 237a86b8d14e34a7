"""Frames one after the other in one picture that moves: GIF and WebP (PS3.18 8.7.4), at the pace of the data set."""

from __future__ import annotations

import io
from collections.abc import Iterable
from itertools import islice

from PIL import Image

from dicomweb.rendering.geometry import Picture
from dicomweb.rendering.values import number, numbers
from storage.errors import BadRequest
from storage.types import Dataset

FORMATS = {"image/gif": "GIF", "image/webp": "WEBP"}
FRAME_TIME, FRAME_TIME_VECTOR, CINE_RATE, DISPLAY_RATE = "00181063", "00181065", "00180040", "00082144"
# What nothing in the data set says: as fast as a loop of slices is looked through.
USUAL = 100.0
# Browsers take a GIF's frames of less than two hundredths for ten.
SHORTEST, LONGEST = 20, 10_000
# Every picture is held until the last is there: about a byte to a pixel.
MOST_FRAMES, MOST_AREA = 1000, 1 << 26


def frame_times(dataset: Dataset, count: int) -> list[int]:
    """How long each frame stands, in milliseconds: a whole number of hundredths, as GIF has them.

    Frame Time Vector says how long after the one before a frame comes, Frame Time the same of all, and the two rates how
    many there are in a second (PS3.3 C.7.6.5).
    """
    vector = numbers(dataset, FRAME_TIME_VECTOR)
    if len(vector) == count and count > 1:
        # The last is followed by the first at the pace of the others.
        return [as_time(value) for value in (*vector[1:], sum(vector[1:]) / (count - 1))]
    rate = number(dataset, DISPLAY_RATE) or number(dataset, CINE_RATE) or 0
    return [as_time(number(dataset, FRAME_TIME) or (1000 / rate if rate > 0 else USUAL))] * count


def animated(
    pictures: Iterable[Picture], times: list[int], media_type: str, quality: int
) -> bytes:
    """`pictures` of one size as they come, over and over. Raises BadRequest where they are too many or too large."""
    if len(times) > MOST_FRAMES:
        raise BadRequest(f"{len(times)} frames are too many for a moving picture; ask for at most {MOST_FRAMES} by frames/…")
    images = (Image.fromarray(picture) for picture in pictures)
    first = next(images)
    if first.width * first.height * len(times) > MOST_AREA:
        raise BadRequest(
            f"{len(times)} frames of {first.width} x {first.height} are too much for a moving picture; add viewport=… for"
            " smaller ones"
        )
    body = io.BytesIO()
    first.save(
        body,
        FORMATS[media_type],
        save_all=True,
        append_images=islice(images, len(times) - 1),
        duration=times,
        loop=0,
        quality=quality,
        method=0,
    )
    return body.getvalue()


def as_time(milliseconds: float) -> int:
    """In whole hundredths of a second, neither faster nor slower than a browser plays it."""
    return int(min(max(round(milliseconds / 10) * 10, SHORTEST), LONGEST))
