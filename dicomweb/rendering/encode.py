"""Pictures as bytes of a rendered media type (PS3.18 8.7.4)."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from imagecodecs import jpeg8_encode, jpegxl_encode, png_encode, webp_encode
from PIL import Image

from dicomweb.rendering.geometry import Picture
from storage.errors import NotAcceptable

# Level 1 is three times as fast as the default, for a tenth more bytes.
PNG_LEVEL = 1
# From here on JPEG keeps all chroma: who asks for such quality looks at edges.
FULL_CHROMA_QUALITY = 90
# From the next on JPEG XL takes four times as long, for a twentieth fewer bytes.
JPEG_XL_EFFORT = 3


def _jpeg(picture: Picture, quality: int) -> bytes:
    subsampling = "444" if picture.ndim == 3 and quality >= FULL_CHROMA_QUALITY else None
    return bytes(jpeg8_encode(picture, quality, subsampling=subsampling))


def _png(picture: Picture, quality: int) -> bytes:
    return bytes(png_encode(picture, PNG_LEVEL))


def _gif(picture: Picture, quality: int) -> bytes:
    body = io.BytesIO()
    Image.fromarray(picture).save(body, "GIF")
    return body.getvalue()


def _webp(picture: Picture, quality: int) -> bytes:
    # The format knows colour only. Its quickest method: the others take three times as long for a tenth fewer bytes.
    colour = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=-1)
    return bytes(webp_encode(colour, quality, lossless=False, method=0))


def _jxl(picture: Picture, quality: int) -> bytes:
    return bytes(jpegxl_encode(picture, level=quality, lossless=False, effort=JPEG_XL_EFFORT, numthreads=1))


ENCODERS: dict[str, Callable[[Picture, int], bytes]] = {
    "image/jpeg": _jpeg,
    "image/png": _png,
    "image/gif": _gif,
    "image/webp": _webp,
    "image/jxl": _jxl,
}


def encode(picture: Picture, media_type: str, quality: int) -> bytes:
    """`picture` is uint8 of (rows, columns) or (rows, columns, 3). Raises NotAcceptable for other media types."""
    encoder = ENCODERS.get(media_type)
    if encoder is None:
        raise NotAcceptable(f"pictures can be had as {', '.join(ENCODERS)}, not as {media_type}")
    return encoder(picture, quality)
