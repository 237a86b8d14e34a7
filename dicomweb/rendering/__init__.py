"""Frames as pictures: modality and VOI LUTs, palettes, colour, viewport, and JPEG, PNG, GIF or WebP (PS3.18 8.3.5)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from dicomweb.rendering.animation import FORMATS as MOVING
from dicomweb.rendering.animation import animated, frame_times
from dicomweb.rendering.encode import encode
from dicomweb.rendering.geometry import Picture
from dicomweb.rendering.icons import icon
from dicomweb.rendering.named_windows import window_named
from dicomweb.rendering.profiles import is_colour, lacks, own_profile
from dicomweb.rendering.render import (
    Rendered,
    frame_picture,
    is_image,
    is_subtracted,
    placed,
    placeholder,
    render_frame,
    steady_window,
    thumbnail,
)
from dicomweb.rendering.request import THUMBNAIL_SIDE, Function, RenderRequest, Viewport, Window, parse
from dicomweb.rendering.values import Bulk
from storage.presets import Presets
from storage.types import Dataset

__all__ = (
    "MOVING",
    "THUMBNAIL_SIDE",
    "Function",
    "Picture",
    "RenderRequest",
    "Rendered",
    "Viewport",
    "Window",
    "animated",
    "encode",
    "frame_picture",
    "frame_times",
    "icon",
    "is_image",
    "is_subtracted",
    "not_applied",
    "parse_request",
    "placed",
    "placeholder",
    "render_frame",
    "steady_window",
    "thumbnail",
)


def not_applied(
    query: Iterable[tuple[str, str]],
    dataset: Dataset,
    media_type: str,
    *,
    written: bool = False,
    frame: int = 1,
    bulk: Bulk | None = None,
    colour: bool | None = None,
) -> tuple[str, ...]:
    """The parameters that ask for what a picture has not: text in it, and a profile that it cannot carry.

    `media_type` is that of a picture that stands still, or empty; `written`: the annotation is in the picture; `colour`: whether
    the picture is in colours that a profile is for, where that is not told by the data set.
    """
    given = dict(query)
    wanted = given.get("iccprofile", "no")
    coloured = is_colour(dataset, frame) if colour is None else colour
    own = own_profile(dataset, frame, bulk) if wanted == "yes" and coloured else b""
    missing = {"annotation": bool(given.get("annotation")) and not written, "iccprofile": lacks(own, wanted, media_type, colour=coloured)}
    return tuple(name for name, missed in missing.items() if missed)


def parse_request(
    query: Iterable[tuple[str, str]],
    media_type: str = "image/jpeg",
    presets: Presets | None = None,
    dataset: Dataset | None = None,
) -> RenderRequest:
    """The rendering parameters of a query, decoded name and value pairs in order (PS3.18 8.3.5).

    Besides `window=center,width,function`, `window=` takes the id or name of a preset, one of `presets` or, without them, of
    those that come with the archive, for the image that `dataset` describes. Parameters that are not about
    rendering are passed over. Raises BadRequest, naming the parameter that cannot be.
    """
    defaults = presets.defaults if presets is not None else None
    return parse(query, media_type, partial(window_named, presets=presets, dataset=dataset), defaults)
