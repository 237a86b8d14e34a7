"""The frames of an instance, or the images of a series, one after the other in one picture that moves (PS3.18 8.7.4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from dicomweb import rendering
from dicomweb.instance import Instance
from dicomweb.media_types import MP4
from dicomweb.rendering.geometry import fitted
from dicomweb.rendering.profiles import is_colour
from dicomweb.rendering.voi import describes_voi
from dicomweb.videos import filmed


class Loop:
    """The frames of several images in the order in which these are given; `middle` is one of them, and sets the pace.

    Pictures have the size of the first: others are fitted into it, with black around them.
    """

    def __init__(self, images: Sequence[Instance], middle: Instance) -> None:
        self._images = images
        self._middle = middle

    @property
    def known(self) -> tuple[str, ...]:
        """What the picture depends on beside the request."""
        return tuple(one.located.sha256 for one in self._images)

    def drawn(self, request: rendering.RenderRequest, folder: Path) -> bytes:
        """A GIF, WebP or MP4. Raises BadRequest where it would be too long or too large, CannotDecode."""
        times = rendering.frame_times(self._middle.dataset, sum(one.frames for one in self._images))
        coloured = any(is_colour(one.dataset, number) for one in self._images for number in range(1, one.frames + 1))
        return in_motion(alike(self._pictures(request), coloured=coloured), times, request, folder)

    def _pictures(self, request: rendering.RenderRequest) -> Iterator[rendering.Picture]:
        steady = request.steady or self._steady(request)
        for image in self._images:
            for number in range(1, image.frames + 1):
                window = None if request.window is None and describes_voi(image.dataset, number) else steady
                yield placed(image, number, replace(request, window=window))

    def _steady(self, request: rendering.RenderRequest) -> rendering.Window | None:
        """One window for all images that have none of their own, so that they do not flicker."""
        return steady_window(self._middle, (self._middle.frames + 1) // 2, request)


def alike(pictures: Iterable[rendering.Picture], *, coloured: bool) -> Iterator[rendering.Picture]:
    """Pictures in the size of the first, and in RGB where any of them is `coloured`."""
    shape: tuple[int, ...] = ()
    for one in pictures:
        picture = np.repeat(one[..., None], 3, axis=-1) if coloured and one.ndim == 2 else one
        shape = shape or picture.shape
        yield picture if picture.shape == shape else _within(picture, shape)


def in_motion(
    pictures: Iterator[rendering.Picture], times: list[int], request: rendering.RenderRequest, folder: Path
) -> bytes:
    """A GIF, WebP or MP4; `times` are milliseconds. Raises BadRequest where it would be too long or too large."""
    if request.media_type == MP4:
        return filmed(pictures, times, request.quality, folder)
    return rendering.animated(pictures, times, request.media_type, request.quality)


def steady_window(image: Instance, number: int, request: rendering.RenderRequest) -> rendering.Window | None:
    """The window for all frames of an image, made of one of them."""
    frame, bit_offset = image.frame_bits(number)
    return rendering.steady_window(
        frame,
        image.dataset,
        image.syntax.uid,
        number,
        share=request.share,
        defaults=request.defaults,
        bit_offset=bit_offset,
        bulk=image.little_endian_bulk,
        frames=image.frame_bits,
    )


def placed(image: Instance, number: int, request: rendering.RenderRequest) -> rendering.Picture:
    """One frame, ready to be encoded."""
    frame, bit_offset = image.frame_bits(number)
    return rendering.placed(
        frame,
        image.dataset,
        image.syntax.uid,
        number,
        request,
        bit_offset=bit_offset,
        bulk=image.little_endian_bulk,
        frames=image.frame_bits,
    )


def _within(picture: rendering.Picture, shape: tuple[int, ...]) -> rendering.Picture:
    """As large as it can be within `shape`, in its middle."""
    small = fitted(picture, rendering.Viewport(shape[1], shape[0]), 1.0)
    canvas = np.zeros(shape, np.uint8)
    top, left = (shape[0] - small.shape[0]) // 2, (shape[1] - small.shape[1]) // 2
    canvas[top : top + small.shape[0], left : left + small.shape[1]] = small
    return canvas
