"""An angiographic run of four frames whose differences are known by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from tests.support.states import image, item

ROWS, COLUMNS = 48, 64
# In LINEAR_EXACT of centre 0 and width 800 a difference d is (d / 800 + 1/2) * 255.
EXACT: dict[str, Any] = {"WindowCenter": 0, "WindowWidth": 800, "VOILUTFunction": "LINEAR_EXACT"}
NATIVE: dict[str, Any] = {"WindowCenter": 2048, "WindowWidth": 4096}

Pixels = np.ndarray[Any, Any]


def anatomy() -> Pixels:
    """Bone: a ramp from 1000 to 3000, another value in every column, and a step between the upper and the lower half."""
    values = np.tile(np.linspace(1000, 3000, COLUMNS).astype("<u2"), (ROWS, 1))
    values[ROWS // 2 :] += 100
    return values


def vessel() -> Pixels:
    """Where the contrast medium is: a bar of 4 rows."""
    inside = np.zeros((ROWS, COLUMNS), np.bool_)
    inside[10:14, 8:56] = True
    return inside


def frames() -> Pixels:
    """1: the mask. 2: darker by 200 in the vessel. 3: by 400. 4: the mask, brighter by 8 all over."""
    mask = anatomy()
    return np.stack([mask, mask - vessel() * 200, mask - vessel() * 400, mask + 8]).astype("<u2")


def run(*items: Dataset, mode: str = "SUB", values: Pixels | None = None, **attributes: Any) -> Dataset:
    """An angiographic run with its Mask module."""
    masked: dict[str, Any] = {"MaskSubtractionSequence": list(items), "RecommendedViewingMode": mode} if items else {}
    return image(frames() if values is None else values, **{"Modality": "XA", "PixelIntensityRelationship": "LOG", **masked, **attributes})


def averaged(*numbers: int, **attributes: Any) -> Dataset:
    """An item that subtracts the mean of frames."""
    return item(MaskOperation="AVG_SUB", MaskFrameNumbers=list(numbers), **attributes)


def tid(offset: int | None = None, operation: str = "TID", **attributes: Any) -> Dataset:
    """An item that subtracts frames by their distance."""
    return item(MaskOperation=operation, TIDOffset=offset, **attributes)


def ends(picture: Pixels) -> tuple[int, int]:
    """The one level of the background, and the one of the vessel."""
    (background,), (inside,) = np.unique(picture[~vessel()]), np.unique(picture[vessel()])
    return int(background), int(inside)
