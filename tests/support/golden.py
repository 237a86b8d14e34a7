"""Pictures that a person has looked at, several on one sheet, and how near to them a picture has to be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FOLDER = Path(__file__).parents[1] / "golden"
_GAP, _BETWEEN = 6, 96

Pixels = np.ndarray[Any, Any]


def sheet(rows: Sequence[Sequence[Pixels]]) -> Pixels:
    """Pictures of any size, grey or RGB, in rows on dark grey; grey if all are."""
    colour = any(picture.ndim == 3 for row in rows for picture in row)
    height = sum(max(picture.shape[0] for picture in row) + _GAP for row in rows) + _GAP
    width = max(sum(picture.shape[1] + _GAP for picture in row) for row in rows) + _GAP
    found = np.full((height, width, 3) if colour else (height, width), _BETWEEN, np.uint8)
    top = _GAP
    for row in rows:
        left = _GAP
        for picture in row:
            place = found[top : top + picture.shape[0], left : left + picture.shape[1]]
            place[:] = picture if picture.ndim == found.ndim else picture[..., None]
            left += picture.shape[1] + _GAP
        top += max(picture.shape[0] for picture in row) + _GAP
    return found


def assert_as_seen(found: Pixels, name: str, folder: Path, *, drawn: bool) -> None:
    """That a sheet is the one of this name in tests/golden: to two levels, or, where lines and letters are `drawn`, which every
    version of their libraries draws a little differently, but for one pixel in five hundred.

    Where it is not, the new one is in `folder`, to be looked at, and to take the place of the old one if it is right.
    """
    made = folder / name
    picture = Image.fromarray(found)
    # Smooth edges have many colours, which nobody tells from one of 64.
    (picture.quantize(64, dither=Image.Dither.NONE) if drawn and found.ndim == 3 else picture).save(made, optimize=True)
    known = FOLDER / name
    assert known.exists(), f"nobody has looked at {made} yet: look, and copy it to {known} if it is right"
    expected = np.asarray(Image.open(known).convert("RGB" if found.ndim == 3 else "L")).astype(int)
    assert found.shape == expected.shape, f"{made} is of another size than {known}: look at both"
    off = np.abs(found.astype(int) - expected).reshape(*found.shape[:2], -1).max(axis=-1)
    share = float((off > 48).mean()) if drawn else float((off > 2).mean())
    assert share < (0.002 if drawn else 1e-9), f"{made} differs from {known} in {share:.2%} of its pixels: look at both"
