"""Overlays and shutters: drawings with shapes that show where they went, and that nothing else changed."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from dicomweb.rendering.overlays import overlays
from dicomweb.rendering.request import Function, Window
from tests.test_rendering import Json, data_set, picture

GREY = np.full((6, 8), 100, np.uint8)
# An F: neither flip nor turn gives the same.
F = np.array([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 0, 0]], np.uint8)
AS_IT_IS = Window(127.5, 255, Function.LINEAR_EXACT)


def overlay(bits: np.ndarray[Any, Any] = F, group: str = "6000", **more: Any) -> Json:
    """An overlay plane; `more` are element numbers (`t0050`) to lists of values."""
    packed = np.packbits(bits.ravel(), bitorder="little").tobytes()
    made: Json = {
        group + "0010": {"vr": "US", "Value": [bits.shape[-2]]},
        group + "0011": {"vr": "US", "Value": [bits.shape[-1]]},
        group + "0040": {"vr": "CS", "Value": ["G"]},
        group + "0050": {"vr": "SS", "Value": [1, 1]},
        group + "0100": {"vr": "US", "Value": [1]},
        group + "0102": {"vr": "US", "Value": [0]},
        group + "3000": {"vr": "OW", "InlineBinary": base64.b64encode(packed).decode()},
    }
    for tag, value in more.items():
        made[group + tag.removeprefix("t")] = {"vr": "UN", "Value": value or []}
    return made


def shown(*overlays: Json, values: np.ndarray[Any, Any] = GREY, number: int = 1, **changes: Any) -> list[list[Any]]:
    """Where the picture is white."""
    dataset = data_set(values, **changes)
    for one in overlays:
        dataset |= one
    drawn = picture(values, dataset, AS_IT_IS, number=number)
    assert set(np.unique(drawn)) <= {0, 100, 255}
    where: list[list[Any]] = (drawn == 255).astype(int).reshape(drawn.shape[0], -1).tolist()
    return where


def at(top: int, left: int, bits: np.ndarray[Any, Any] = F, rows: int = 6, columns: int = 8) -> list[list[int]]:
    """The F in an empty picture, its first pixel at (top, left)."""
    wide = np.zeros((rows + 20, columns + 20), int)
    wide[top + 10 : top + 10 + bits.shape[0], left + 10 : left + 10 + bits.shape[1]] = bits
    found: list[list[int]] = wide[10 : 10 + rows, 10 : 10 + columns].tolist()
    return found


# PS3.3 C.9.2.1.1: the origin is a row and a column, from 1, and may be outside.
ORIGINS = (([1, 1], (0, 0)), ([2, 4], (1, 3)), ([0, -1], (-1, -2)), ([4, 7], (3, 6)), ([60, 60], (10, 10)), ([-30, 1], (-10, 0)), ([5], (0, 0)))


@pytest.mark.parametrize(("origin", "place"), ORIGINS)
def test_where_an_overlay_lies(origin: list[int], place: tuple[int, int]) -> None:
    assert shown(overlay(t0050=origin)) == at(*place)


def test_several_overlays_and_the_last_group() -> None:
    both = np.maximum(at(0, 0), at(2, 5)).tolist()
    assert shown(overlay(), overlay(group="601E", t0050=[3, 6])) == both


def test_overlays_on_colour_and_on_inverse_images_are_white() -> None:
    colour = np.repeat(GREY[..., None], 3, axis=-1)
    assert shown(overlay(), values=colour) == np.repeat(np.array(at(0, 0)), 3, axis=1).tolist()
    inverse = data_set(155 - GREY + 0, **{"t00280004": ["MONOCHROME1"]}) | overlay()
    drawn = picture(155 - GREY, inverse, AS_IT_IS)
    assert (drawn == 255).astype(int).tolist() == at(0, 0)


TWO = np.stack([F, F[::-1]])
# Frame of the image -> which of the overlay's two frames (PS3.3 C.9.3), with the frame where they begin.
FRAMES = ((1, [1], 0), (2, [1], 1), (3, [1], None), (1, [2], None), (2, [2], 0), (3, [2], 1), (1, None, 0))


@pytest.mark.parametrize(("number", "begin", "plane"), FRAMES)
def test_overlays_of_several_frames(number: int, begin: list[int] | None, plane: int | None) -> None:
    described = overlay(TWO, t0015=[2], t0051=begin)
    expected = at(0, 0, TWO[plane]) if plane is not None else at(10, 10)
    assert shown(described, number=number) == expected


def test_an_overlay_of_one_frame_is_that_of_every_frame() -> None:
    assert shown(overlay(), number=7) == at(0, 0)


def test_a_region_of_interest_is_outlined() -> None:
    region = np.ones((5, 5), np.uint8)
    edge = region.copy()
    edge[1:4, 1:4] = 0
    assert shown(overlay(region, t0040=["R"])) == at(0, 0, edge)


@pytest.mark.parametrize("stored", [12, 8])
@pytest.mark.parametrize("signed", [0, 1])
def test_overlays_in_the_bits_of_the_pixels(stored: int, signed: int) -> None:
    """PS3.5 8.1.2, as it was until 2004."""
    values = np.full((6, 8), 100, np.uint16)
    values[:4, :3] |= F.astype(np.uint16) << 14
    inside: Json = {
        "60040010": {"vr": "US", "Value": [6]},
        "60040011": {"vr": "US", "Value": [8]},
        "60040100": {"vr": "US", "Value": [16]},
        "60040102": {"vr": "US", "Value": [14]},
    }
    assert shown(inside, values=values, t00280101=[stored], t00280102=[stored - 1], t00280103=[signed]) == at(0, 0)
    # A position that is one of the pixel's own bits is no overlay.
    inside["60040102"] = {"vr": "US", "Value": [3]}
    assert shown(inside, values=values, t00280101=[stored], t00280102=[stored - 1], t00280103=[signed]) == at(10, 10)


@pytest.mark.parametrize(
    "changes",
    [{"t0010": [400]}, {"t0010": [0]}, {"t0011": ["x"]}, {"t0010": [-4]}, {"t0010": [1 << 30], "t0011": [1 << 30]}, {"t0015": [1 << 40], "t0051": [-(1 << 30)]}],
)
def test_overlays_that_lie_draw_nothing(changes: dict[str, Any]) -> None:
    assert shown(overlay(**changes)) == at(10, 10)


def test_an_overlay_kept_apart_is_fetched() -> None:
    described = overlay() | {"60003000": {"vr": "OW", "BulkDataURI": "http://pacs/instances/1/bulkdata/60003000"}}
    packed = np.packbits(F.ravel(), bitorder="little").tobytes()
    (found,) = overlays(described, 1, lambda path: packed if path == "60003000" else b"")
    assert np.array_equal(found.bits, F)


# --- shutters -----------------------------------------------------------------------------------------------------

RECTANGLE = {"t00181600": ["RECTANGULAR"], "t00181602": [2], "t00181604": [5], "t00181606": [3], "t00181608": [4]}
CIRCLE = {"t00181600": ["CIRCULAR"], "t00181610": [3, 4], "t00181612": [2]}
TRIANGLE = {"t00181600": ["POLYGONAL"], "t00181620": [1, 1, 1, 5, 5, 1]}


def seen(**changes: Any) -> list[str]:
    """The rows of the picture, # where it is to be seen."""
    drawn = picture(GREY, data_set(GREY, **changes), AS_IT_IS)
    return ["".join("#" if value == 100 else "." for value in row) for row in drawn]


SHUTTERS: tuple[tuple[dict[str, Any], list[str]], ...] = (
    ({}, ["########"] * 6),
    (RECTANGLE, ["........", "........", ".####...", ".####...", "........", "........"]),
    (CIRCLE, ["...#....", "..###...", ".#####..", "..###...", "...#....", "........"]),
    (TRIANGLE, ["#####...", "####....", "###.....", "##......", "#.......", "........"]),
    # What is outside of any of several is covered.
    (
        RECTANGLE | CIRCLE | {"t00181600": ["CIRCULAR", "RECTANGULAR"]},
        ["........", "........", ".####...", "..###...", "........", "........"],
    ),
    # Not described, or not known: nothing is covered.
    ({"t00181600": ["RECTANGULAR"]}, ["########"] * 6),
    ({"t00181600": ["CIRCULAR"], "t00181610": [3], "t00181612": [2]}, ["########"] * 6),
    ({"t00181600": ["POLYGONAL"], "t00181620": [1, 1, 5]}, ["########"] * 6),
    ({"t00181600": ["STAR"]}, ["########"] * 6),
    (RECTANGLE | {"t00181602": [-5], "t00181604": [500], "t00181606": [0], "t00181608": [600]}, ["########"] * 6),
)


@pytest.mark.parametrize(("changes", "expected"), SHUTTERS)
def test_shutters_cover_what_is_outside(changes: dict[str, Any], expected: list[str]) -> None:
    assert seen(**changes) == expected


@pytest.mark.parametrize(("value", "level"), [([0xFFFF], 255), ([0x8000], 128), ([], 0)])
def test_the_cover_has_the_shutters_presentation_value(value: list[int], level: int) -> None:
    drawn = picture(GREY, data_set(GREY, **RECTANGLE, t00181622=value), AS_IT_IS)
    assert drawn[0, 0] == level


def test_an_overlay_lies_on_the_shutter() -> None:
    dataset = data_set(GREY, **RECTANGLE) | overlay()
    drawn = picture(GREY, dataset, AS_IT_IS)
    assert drawn[:4, :3][F.astype(bool)].tolist() == [255] * int(F.sum())
