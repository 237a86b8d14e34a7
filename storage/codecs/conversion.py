"""Colours from the space of one ICC profile to that of another, by Little CMS (ISO 15076-1, PS3.4 N.2.2.1)."""

from __future__ import annotations

import functools
import io

import numpy as np
from PIL import Image, ImageCms

from storage.codecs.foreign import guarded
from storage.codecs.samples import Array

# Made once for the tiles of a slide, which all have the same; each holds some hundred kilobytes.
_KEPT = 8


def convert_here(picture: Array, source: bytes, target: bytes) -> Array:
    """`picture`, uint8 of (rows, columns, 3) in the space of the profile `source`, in that of `target`.

    The rendering intent is perceptual, as PS3.3 C.11.15.1.1 recommends. Raises CannotDecode for a profile that is damaged or not of
    RGB. `source` comes from outside: call it through `storage.codecs.convert`, which does so where a crash cannot hurt.
    """
    with guarded("ICC profile's"):
        converted = ImageCms.applyTransform(Image.fromarray(np.ascontiguousarray(picture)), _transform(source, target))
    return np.asarray(converted)


@functools.lru_cache(maxsize=_KEPT)
def _transform(source: bytes, target: bytes) -> ImageCms.ImageCmsTransform:
    one, other = (ImageCms.ImageCmsProfile(io.BytesIO(profile)) for profile in (source, target))
    return ImageCms.buildTransform(one, other, "RGB", "RGB", ImageCms.Intent.PERCEPTUAL)
