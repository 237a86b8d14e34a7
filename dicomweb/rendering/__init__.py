"""Frames as pictures: modality and VOI LUTs, palettes, colour, viewport, and JPEG, PNG, GIF or WebP (PS3.18 8.3.5)."""

from __future__ import annotations

from collections.abc import Iterable

from dicomweb.rendering.animation import FORMATS as MOVING
from dicomweb.rendering.animation import animated, frame_times
from dicomweb.rendering.geometry import Picture
from dicomweb.rendering.icons import icon
from dicomweb.rendering.presets import Preset, presets, window_named
from dicomweb.rendering.render import (
    Rendered,
    frame_picture,
    is_image,
    placed,
    placeholder,
    render_frame,
    steady_window,
    thumbnail,
)
from dicomweb.rendering.request import Function, RenderRequest, Viewport, Window, not_applied, parse

__all__ = (
    "MOVING",
    "Function",
    "Picture",
    "Preset",
    "RenderRequest",
    "Rendered",
    "Viewport",
    "Window",
    "animated",
    "frame_picture",
    "frame_times",
    "icon",
    "is_image",
    "not_applied",
    "parse_request",
    "placed",
    "placeholder",
    "presets",
    "render_frame",
    "steady_window",
    "thumbnail",
)


def parse_request(query: Iterable[tuple[str, str]], media_type: str = "image/jpeg") -> RenderRequest:
    """The rendering parameters of a query, decoded name and value pairs in order (PS3.18 8.3.5).

    Besides `window=center,width,function`, `window=` takes the id or name of a preset. Parameters that are not about
    rendering are passed over. Raises BadRequest, naming the parameter that cannot be.
    """
    return parse(query, media_type, window_named)
