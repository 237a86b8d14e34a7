"""Frames as pictures: modality and VOI LUTs, palettes, colour, viewport, and JPEG, PNG or GIF (PS3.18 8.3.5)."""

from __future__ import annotations

from collections.abc import Iterable

from dicomweb.rendering.icons import icon
from dicomweb.rendering.presets import Preset, presets, window_named
from dicomweb.rendering.render import Rendered, frame_picture, is_image, placeholder, render_frame, thumbnail
from dicomweb.rendering.request import Function, RenderRequest, Viewport, Window, not_applied, parse

__all__ = (
    "Function",
    "Preset",
    "RenderRequest",
    "Rendered",
    "Viewport",
    "Window",
    "frame_picture",
    "icon",
    "is_image",
    "not_applied",
    "parse_request",
    "placeholder",
    "presets",
    "render_frame",
    "thumbnail",
)


def parse_request(query: Iterable[tuple[str, str]], media_type: str = "image/jpeg") -> RenderRequest:
    """The rendering parameters of a query, decoded name and value pairs in order (PS3.18 8.3.5).

    Besides `window=center,width,function`, `window=` takes the id or name of a preset. Parameters that are not about
    rendering are passed over. Raises BadRequest, naming the parameter that cannot be.
    """
    return parse(query, media_type, window_named)
