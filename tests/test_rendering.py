"""Pictures against the standard's formulas, and against requests that make no sense."""

from __future__ import annotations

import base64
import copy
import io
import math
import random
from collections.abc import Iterator
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dicomweb.rendering import (
    Function,
    RenderRequest,
    Viewport,
    Window,
    frame_picture,
    icon,
    parse_request,
    placeholder,
    render_frame,
    thumbnail,
)
from dicomweb.rendering.geometry import fitted, pixel_aspect
from dicomweb.rendering.grey import GreyTransform, Rescale, display_table, show
from dicomweb.rendering.icons import BY_MODALITY, BY_SOP_CLASS, kind
from dicomweb.rendering.luts import Lut, lut
from dicomweb.rendering.values import macro
from dicomweb.rendering.voi import transform
from storage.codecs import PixelDescription, decode_here
from storage.errors import BadRequest, CannotDecode, NotAcceptable
from storage.transfer_syntaxes import EXPLICIT_LITTLE
from storage.types import Dataset
from tests.support.frames import frames, image
from tests.support.odd import ODD

Json = dict[str, dict[str, Any]]
PNG = RenderRequest(media_type="image/png")


def data_set(values: NDArray[Any], **changes: Any) -> Json:
    """A data set of one native frame of `values`; `changes` are tags to lists of values, or to None to leave out."""
    interpretation = "RGB" if values.ndim == 3 else "MONOCHROME2"
    bits = values.dtype.itemsize * 8
    dataset: Json = {
        "00080060": {"vr": "CS", "Value": ["OT"]},
        "00280002": {"vr": "US", "Value": [3 if values.ndim == 3 else 1]},
        "00280004": {"vr": "CS", "Value": [interpretation]},
        "00280010": {"vr": "US", "Value": [values.shape[0]]},
        "00280011": {"vr": "US", "Value": [values.shape[1]]},
        "00280100": {"vr": "US", "Value": [bits]},
        "00280101": {"vr": "US", "Value": [bits]},
        "00280102": {"vr": "US", "Value": [bits - 1]},
        "00280103": {"vr": "US", "Value": [int(values.dtype.kind == "i")]},
        "7FE00010": {"vr": "OW", "BulkDataURI": "bulk:/pixels"},
    }
    for tag, value in changes.items():
        dataset[tag.removeprefix("t")] = {"vr": "UN", "Value": value}
    return dataset


def picture(
    values: NDArray[Any], dataset: Dataset, window: Window | None = None, *, number: int = 1, **more: Any
) -> NDArray[np.uint8]:
    return frame_picture(
        values.tobytes(), dataset, EXPLICIT_LITTLE, number, RenderRequest(window), decode=decode_here, **more
    )


def read(body: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(body)))


# --- the functions of PS3.3 C.11.2.1.2 and C.11.2.1.3, written out again from the standard -------------------------


def standard(x: float, window: Window) -> float:
    """y for ymin = 0 and ymax = 255, as the standard's pseudo-code has it."""
    c, w = window.center, window.width
    if window.function is Function.SIGMOID:
        return 255 / (1 + math.exp(min(-4 * (x - c) / w, 500)))
    if window.function is Function.LINEAR_EXACT:
        if x <= c - w / 2:
            return 0
        return 255 if x > c + w / 2 else ((x - c) / w + 0.5) * 255
    if x <= c - 0.5 - (w - 1) / 2:
        return 0
    return 255 if x > c - 0.5 + (w - 1) / 2 else ((x - (c - 0.5)) / (w - 1) + 0.5) * 255


WINDOWS = [
    Window(center, width, function)
    for function in Function
    for center, width in ((40, 400), (2048, 4096), (128, 256), (0, 1), (0.5, 2), (-600.5, 1500.25), (1e6, 3))
] + [Window(0, 0.25, Function.LINEAR_EXACT), Window(10, 0.001, Function.SIGMOID)]


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize(
    "rescale", [Rescale(), Rescale(1, -1024), Rescale(2.5, 3), Rescale(-1, 100)], ids=str
)
def test_grey_levels_are_those_of_the_standards_formula(window: Window, rescale: Rescale) -> None:
    stored = np.arange(-2048, 4096, 7, dtype=np.int16)
    made = GreyTransform(16, True, rescale, window)
    expected = [standard(float(value) * rescale.slope + rescale.intercept, window) for value in stored]
    assert np.abs(show(stored, made) - np.array(expected)).max() <= 0.5 + 1e-6


@pytest.mark.parametrize(
    ("window", "levels"),
    [
        # PS3.3 C.11.2.1.2.1, its notes: c=2048 w=4096 is y = x of twelve bits; c=2048 w=1 is a threshold.
        (Window(2048, 4096), {0: 0, 2048: 128, 4095: 255}),
        (Window(2048, 1), {2047: 0, 2048: 255}),
        (Window(0, 100), {-50: 0, 49: 255}),
        (Window(0, 100, Function.LINEAR_EXACT), {-50: 0, 0: 128, 50: 255}),
        (Window(0, 100, Function.SIGMOID), {-1000: 0, 0: 128, 1000: 255}),
    ],
)
def test_examples_of_the_standard(window: Window, levels: dict[int, int]) -> None:
    table = display_table(GreyTransform(16, True, Rescale(), window), 16)
    assert {value: int(table[value]) for value in levels} == levels


# --- grey: what the data set says -----------------------------------------------------------------------------------

RAMP = np.arange(0, 4096, 16, dtype=np.uint16).reshape(16, 16)


def test_monochrome1_is_inverted_once_whatever_the_presentation_lut_says() -> None:
    window = Window(2048, 4096)
    plain = picture(RAMP, data_set(RAMP), window)
    inverted = picture(RAMP, data_set(RAMP, t00280004=["MONOCHROME1"]), window)
    both = picture(RAMP, data_set(RAMP, t00280004=["MONOCHROME1"], t20500020=["INVERSE"]), window)
    shape = picture(RAMP, data_set(RAMP, t20500020=["INVERSE"]), window)
    assert np.array_equal(inverted, 255 - plain)
    assert np.array_equal(both, inverted)
    assert np.array_equal(shape, inverted)


class Untouched(list[Any]):
    """Items that nobody goes through one by one."""

    def __iter__(self) -> Iterator[Any]:
        raise AssertionError


def test_of_the_functional_groups_only_those_of_the_frame_are_looked_at() -> None:
    """A slide has those of a hundred thousand tiles; and what is no item does not make another frame's of the next."""
    groups = [{"00280030": {"vr": "SQ", "Value": [{"00080104": {"vr": "LO", "Value": [number]}}]}} for number in range(5)]
    dataset: Json = {"52009230": {"vr": "SQ", "Value": Untouched([None, *groups[1:]])}}
    assert macro(dataset, 3, "00280030")["00080104"]["Value"] == [2]
    assert macro(dataset, 1, "00280030") is dataset


@pytest.mark.parametrize("changes", [{"t00280004": ["MONOCHROME3"]}, {"t00280004": ["RGB"]}, {"t00280004": [""]}, {"t00280004": []}])
def test_which_end_is_white_is_not_guessed(changes: dict[str, Any]) -> None:
    """Half of all guesses would be negatives (PS3.3 C.7.6.3.1.2); a thumbnail is the icon of what cannot be shown."""
    with pytest.raises(CannotDecode, match=r"Photometric Interpretation \(0028,0004\) is"):
        picture(RAMP, data_set(RAMP, **changes), Window(2048, 4096))
    small = thumbnail(RAMP.tobytes(), data_set(RAMP, **changes), EXPLICIT_LITTLE, 1, RenderRequest(), decode=decode_here)
    assert small.placeholder


VOI_CHOICES: tuple[tuple[dict[str, Any], Window | None], ...] = (
    ({"t00281050": [100], "t00281051": [50]}, Window(100, 50)),
    ({"t00281050": [100, 5], "t00281051": [50, 7]}, Window(100, 50)),
    ({"t00281050": [100, 5], "t00281051": [0, 7]}, Window(5, 7)),
    (
        {"t00281050": ["100"], "t00281051": ["50"], "t00281056": ["SIGMOID"]},
        Window(100, 50, Function.SIGMOID),
    ),
    ({"t00281050": [100], "t00281051": [50], "t00281056": ["CURVED"]}, Window(100, 50)),
    ({"t00281050": [100], "t00281051": [-50]}, None),
    ({"t00281050": ["x"], "t00281051": [50]}, None),
    ({"t00281050": [100]}, None),
    ({"t00080060": ["CT"], "t00281052": [-1024]}, Window(40, 400)),
)


@pytest.mark.parametrize(("changes", "expected"), VOI_CHOICES)
def test_which_window_a_data_set_chooses(changes: dict[str, Any], expected: Window | None) -> None:
    dataset = data_set(RAMP, **changes)
    pixels = PixelDescription.from_dataset(dataset, EXPLICIT_LITTLE)
    chosen = transform(RAMP, dataset, 1, pixels, None, None).voi
    if expected is None:
        assert isinstance(chosen, Window)
        assert (chosen.function, chosen.possible) == (Function.LINEAR_EXACT, True)
    else:
        assert chosen == expected
    assert transform(RAMP, dataset, 1, pixels, Window(1, 2), None).voi == Window(1, 2)


def group(tag: str, **values: Any) -> Json:
    return {
        tag: {
            "vr": "SQ",
            "Value": [
                {name.removeprefix("t"): {"vr": "DS", "Value": value} for name, value in values.items()}
            ],
        }
    }


def test_functional_groups_per_frame_win_over_shared_over_the_top() -> None:
    frame_1 = group("00289132", t00281050=[100], t00281051=[10]) | group(
        "00289145", t00281052=[5], t00281053=[2]
    )
    shared = group("00289132", t00281050=[200], t00281051=[20])
    dataset = data_set(RAMP, t00281050=[300], t00281051=[30], t00281052=[7])
    dataset |= {"52009230": {"vr": "SQ", "Value": [frame_1, {}]}, "52009229": {"vr": "SQ", "Value": [shared]}}
    pixels = PixelDescription.from_dataset(dataset, EXPLICIT_LITTLE)
    made = [transform(RAMP, dataset, number, pixels, None, None) for number in (1, 2)]
    assert [one.voi for one in made] == [Window(100, 10), Window(200, 20)]
    assert [one.modality for one in made] == [Rescale(2, 5), Rescale(1, 7)]


PADDING: tuple[tuple[NDArray[Any], dict[str, Any], list[int]], ...] = (
    (np.array([[0, 100, 255]], np.uint8), {"t00280120": [255]}, [0, 100, 0]),
    (np.array([[0, 100, 255]], np.uint8), {"t00280120": [255], "t00280121": [90]}, [0, 0, 0]),
    (np.array([[0, 100, 255]], np.uint8), {"t00280120": [255], "t00280004": ["MONOCHROME1"]}, [255, 155, 0]),
    # Written with the other sign.
    (np.array([[-2000, 0]], np.int16), {"t00280120": [63536], "t00280004": ["MONOCHROME1"]}, [0, 126]),
    # Not a value that twelve stored bits can have: real 4095s stay.
    (
        np.array([[0, 4095]], np.uint16),
        {"t00280120": [65535], "t00280101": [12], "t00280102": [11]},
        [0, 255],
    ),
)


@pytest.mark.parametrize(("values", "changes", "expected"), PADDING)
def test_padding_is_black_and_nothing_else_is(
    values: NDArray[Any], changes: dict[str, Any], expected: list[int]
) -> None:
    window = (
        None
        if values.dtype == np.uint8
        else Window(2048, 4096)
        if values.dtype == np.uint16
        else Window(0, 100)
    )
    assert picture(values, data_set(values, **changes), window)[0].tolist() == expected


def test_the_automatic_window_leaves_out_padding_and_specks() -> None:
    values = np.full((100, 100), 500, np.int16)
    values[:, 50:] = 700
    values[0, :20] = 30_000
    values[:, :40] = -2000
    pixels = PixelDescription.from_dataset(data_set(values), EXPLICIT_LITTLE)
    chosen = transform(values, data_set(values, t00280120=[-2000]), 1, pixels, None, None).voi
    assert chosen == Window(600, 200, Function.LINEAR_EXACT)


def test_eight_bits_without_a_window_are_shown_as_they_are() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(picture(values, data_set(values)), values)


@pytest.mark.parametrize("dtype", [np.uint32, np.int32, np.float32, np.float64])
def test_wide_samples_take_the_same_window_as_narrow_ones(dtype: type) -> None:
    values: NDArray[Any] = RAMP.astype(dtype)
    dataset = data_set(values)
    if np.dtype(dtype).kind == "f":
        del dataset["7FE00010"]
        dataset["7FE00008" if dtype is np.float32 else "7FE00009"] = {
            "vr": "OF",
            "BulkDataURI": "bulk:/pixels",
        }
    assert np.array_equal(
        picture(values, dataset, Window(2048, 1000)), picture(RAMP, data_set(RAMP), Window(2048, 1000))
    )


def test_the_window_of_a_parametric_map_is_exact() -> None:
    values = np.array([[0.0, 0.25, 0.5, 1.0]], np.float32)
    dataset = data_set(values, t00281050=[0.5], t00281051=[1.0])
    del dataset["7FE00010"]
    dataset["7FE00008"] = {"vr": "OF", "BulkDataURI": "bulk:/pixels"}
    assert picture(values, dataset)[0].tolist() == [0, 64, 128, 255]


def test_floats_that_are_not_numbers_are_no_error() -> None:
    values = np.array([[np.nan, np.inf, -np.inf, 1.0, 2.0]], np.float32)
    dataset = data_set(values)
    del dataset["7FE00010"]
    dataset["7FE00008"] = {"vr": "OF", "BulkDataURI": "bulk:/pixels"}
    assert picture(values, dataset)[0, :3].tolist() == [0, 255, 0]


@pytest.mark.parametrize(("kind", "element", "vr", "tags"), [(np.float32, "7FE00008", "OF", ("00280122", "00280124")), (np.float64, "7FE00009", "OD", ("00280123", "00280125"))])
def test_padding_of_floats_is_black_and_does_not_stretch_the_window(kind: type[Any], element: str, vr: str, tags: tuple[str, str]) -> None:
    """A map of differences, from -1 to 1, in a background that is far below, without a window of its own."""
    values = np.concatenate([np.linspace(-1, 1, 9), [-1e30, -9e29]]).astype(kind)[None]
    dataset = data_set(values)
    del dataset["7FE00010"]
    dataset |= {element: {"vr": vr, "BulkDataURI": "bulk:/pixels"}, tags[0]: {"vr": "FL", "Value": [-1e30]}, tags[1]: {"vr": "FL", "Value": [-8e29]}}
    shown = picture(values, dataset)[0].tolist()
    assert shown[:9] == pytest.approx([round(255 * step / 8) for step in range(9)], abs=6)
    assert shown[9:] == [0, 0]


def test_a_picture_of_one_value_is_a_picture() -> None:
    values = np.full((4, 4), 1234, np.uint16)
    assert picture(values, data_set(values)).tolist() == [[128] * 4] * 4


# --- look-up tables -------------------------------------------------------------------------------------------------


def lut_item(descriptor: list[int], data: bytes | list[int]) -> Json:
    value = (
        {"vr": "US", "Value": data}
        if isinstance(data, list)
        else {"vr": "OW", "InlineBinary": base64.b64encode(data).decode()}
    )
    return {"00283002": {"vr": "US", "Value": descriptor}, "00283006": value}


LUTS: tuple[tuple[list[int], bytes | list[int], bool, list[int], int, int], ...] = (
    # descriptor, data, signed inputs, entries, first input, bits
    ([3, 10, 16], [1, 2, 999], False, [1, 2, 999], 10, 16),
    ([3, 10, 16], [1, 2, 3], False, [1, 2, 3], 10, 8),
    ([3, 65533, 12], [1, 2, 999], True, [1, 2, 999], -3, 12),
    ([3, -3, 12], [1, 2, 999], True, [1, 2, 999], -3, 12),
    ([3, 0, 8], b"\1\2\3\0", False, [1, 2, 3], 0, 8),
    ([3, 0, 8], b"\1\0\2\0\3\0", False, [1, 2, 3], 0, 8),
    ([2, 0, 10], [1, 4000], False, [1, 4000], 0, 16),
)


@pytest.mark.parametrize(("descriptor", "data", "signed", "entries", "first", "bits"), LUTS)
def test_luts_as_they_are_written(
    descriptor: list[int], data: bytes | list[int], signed: bool, entries: list[int], first: int, bits: int
) -> None:
    found = lut(lut_item(descriptor, data), "00283002", "00283006", None, signed=signed)
    assert (found.table.tolist(), found.first, found.bits) == (entries, first, bits)


def test_an_entry_count_of_zero_is_65536() -> None:
    found = lut(lut_item([0, 0, 16], bytes(1 << 17)), "00283002", "00283006", None, signed=False)
    assert len(found.table) == 1 << 16


@pytest.mark.parametrize(
    ("descriptor", "data", "why"),
    [
        ([3, 0], [1, 2, 3], "three values"),
        ([5, 0, 16], [1, 2], "4 entries"),
        ([300, 0, 16], b"\0" * 100, "100 entries"),
    ],
)
def test_luts_that_do_not_fit(descriptor: list[int], data: bytes | list[int], why: str) -> None:
    with pytest.raises(CannotDecode, match=why):
        lut(lut_item(descriptor, data), "00283002", "00283006", None, signed=False)


def test_a_lut_kept_apart_is_fetched_by_its_path() -> None:
    item = lut_item([3, 0, 16], b"")
    item["00283006"] = {
        "vr": "OW",
        "BulkDataURI": "bulk:/studies/1/series/2/instances/3/bulkdata/00283000/0/00283006",
    }
    asked = []

    def bulk(path: str) -> bytes:
        asked.append(path)
        return b"\1\0\2\0\xff\xff"

    found = lut(item, "00283002", "00283006", bulk, signed=False)
    assert (found.table.tolist(), asked) == ([1, 2, 65535], ["00283000/0/00283006"])
    with pytest.raises(CannotDecode, match="kept apart"):
        lut(item, "00283002", "00283006", None, signed=False)


SEGMENTED: tuple[tuple[list[int], int, list[int]], ...] = (
    ([0, 3, 10, 20, 30], 3, [10, 20, 30]),
    # PS3.3 C.7.9.2.2: a line goes from the end of what is there to its own end.
    ([0, 1, 0, 1, 4, 400], 5, [0, 100, 200, 300, 400]),
    ([0, 1, 0, 1, 2, 8, 2, 2, 0, 0], 6, [0, 4, 8, 0, 4, 8]),
    ([0, 2, 1, 2, 0, 9, 3], 3, [1, 2, 3]),
)


@pytest.mark.parametrize(("code", "count", "entries"), SEGMENTED)
def test_segmented_luts(code: list[int], count: int, entries: list[int]) -> None:
    data = np.array(code, "<u2").tobytes()
    found = lut(lut_item([count, 0, 16], data), "00283002", "00283006", None, signed=False, segmented=True)
    assert found.table.tolist() == entries


@pytest.mark.parametrize(
    "code",
    [[1, 3, 10], [7, 1, 1], [0, 9, 1], [2, 60000, 0, 0], [2, 9, 65535, 65535], [0, 1, 1, 1, 60000], []],
)
def test_segmented_luts_that_lie_end(code: list[int]) -> None:
    data = np.array(code, "<u2").tobytes()
    with pytest.raises(CannotDecode):
        lut(lut_item([1000, 0, 16], data), "00283002", "00283006", None, signed=False, segmented=True)


def test_modality_and_voi_luts_follow_one_another() -> None:
    values = np.array([[0, 1, 2, 3, 200]], np.uint8)
    dataset = data_set(values)
    dataset["00283000"] = {"vr": "SQ", "Value": [lut_item([4, 0, 16], [1000, 2000, 3000, 4000])]}
    dataset["00283010"] = {
        "vr": "SQ",
        "Value": [lut_item([3001, 1000, 8], bytes([0] * 1000 + [51] * 1000 + [255] * 1001))],
    }
    assert picture(values, dataset)[0].tolist() == [0, 51, 255, 255, 255]
    # A window of the request takes the VOI LUT's place, not the modality LUT's.
    assert picture(values, dataset, Window(2500, 3000, Function.LINEAR_EXACT))[0].tolist() == [
        0,
        85,
        170,
        255,
        255,
    ]


# --- colour ---------------------------------------------------------------------------------------------------------


def palette_json(values: NDArray[Any], first: int, colours: list[tuple[int, int, int]], bits: int) -> Json:
    dataset = data_set(values, t00280004=["PALETTE COLOR"])
    for index in range(3):
        entries = np.array([colour[index] for colour in colours], "<u2").tobytes()
        dataset[f"0028110{index + 1}"] = {"vr": "US", "Value": [len(colours), first, bits]}
        dataset[f"0028120{index + 1}"] = {"vr": "OW", "InlineBinary": base64.b64encode(entries).decode()}
    return dataset


def test_palettes_of_eight_and_sixteen_bits() -> None:
    values = np.array([[0, 5, 6, 7, 255]], np.uint8)
    wide = palette_json(values, 5, [(0xFF00, 0, 0), (0, 0xFFFF, 0), (0x1000, 0x2000, 0x30FF)], 16)
    narrow = palette_json(values, 5, [(255, 0, 0), (0, 255, 0), (16, 32, 48)], 8)
    expected = [[255, 0, 0], [255, 0, 0], [0, 255, 0], [16, 32, 48], [16, 32, 48]]
    assert picture(values, wide)[0].tolist() == expected
    assert picture(values, narrow)[0].tolist() == expected


def test_a_palette_with_negative_inputs() -> None:
    values = np.array([[-1, 0, 1]], np.int16)
    dataset = palette_json(values, 65535, [(255, 0, 0), (0, 255, 0), (0, 0, 255)], 8)
    assert picture(values, dataset)[0].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]


def test_a_palette_that_is_missing_is_not_guessed() -> None:
    values = np.zeros((1, 1), np.uint8)
    with pytest.raises(CannotDecode, match="palette"):
        picture(values, data_set(values, t00280004=["PALETTE COLOR"]))


def test_colour_of_sixteen_bits_keeps_its_highest_eight() -> None:
    values: NDArray[np.uint16] = np.array([[[0xFFFF, 0x8000, 0x00FF]]], np.uint16)
    assert picture(values, data_set(values)).tolist() == [[[255, 128, 0]]]


# --- geometry: an F, which looks different in every orientation ---------------------------------------------------------

F = np.zeros((60, 40), np.uint8)
F[5:55, 5:13] = F[5:13, 5:35] = F[25:32, 5:28] = 255


def placed(
    viewport: Viewport | None, aspect: float = 1.0, values: NDArray[np.uint8] = F
) -> NDArray[np.uint8]:
    return fitted(values, viewport, aspect)


def test_without_a_viewport_every_pixel_stays() -> None:
    assert np.array_equal(placed(None), F)


@pytest.mark.parametrize(
    ("viewport", "aspect", "shape"),
    [
        (Viewport(80, 120), 1.0, (120, 80)),
        (Viewport(80, 1000), 1.0, (120, 80)),
        (Viewport(1000, 30), 1.0, (30, 20)),
        (Viewport(1000, 1000, enlarge=False), 1.0, (60, 40)),
        (Viewport(20, 20, 0, 0, 10, 10), 1.0, (20, 20)),
        (Viewport(1, 1), 1.0, (1, 1)),
        (None, 2.0, (120, 40)),
        (None, 0.5, (60, 80)),
        (Viewport(60, 60), 2.0, (60, 20)),
    ],
)
def test_the_picture_fits_and_keeps_its_proportions(
    viewport: Viewport | None, aspect: float, shape: tuple[int, int]
) -> None:
    assert placed(viewport, aspect).shape == shape


def test_the_source_region_is_the_part_that_was_asked_for() -> None:
    assert np.array_equal(placed(Viewport(30, 20, 5, 10, 30, 20)), F[10:30, 5:35])
    assert np.array_equal(placed(Viewport(35, 50, 5, 10)), F[10:60, 5:40])
    assert np.array_equal(placed(Viewport(10, 10, 30, 50, 500, 500)), F[50:60, 30:40])


@pytest.mark.parametrize(("width", "height"), [(-40, 60), (40, -60), (-40, -60)])
def test_negative_source_sizes_flip(width: int, height: int) -> None:
    flipped = placed(Viewport(40, 60, 0, 0, width, height))
    assert np.array_equal(flipped, F[:: 1 if height > 0 else -1, :: 1 if width > 0 else -1])
    assert not np.array_equal(flipped, F)


def test_shrinking_averages_and_does_not_drop_lines() -> None:
    lines = np.zeros((64, 64), np.uint8)
    lines[::4] = 255
    assert 40 < placed(Viewport(16, 16), values=lines).mean() < 90


def test_a_region_outside_the_image_is_the_clients_mistake() -> None:
    with pytest.raises(BadRequest, match="outside"):
        placed(Viewport(10, 10, 40, 0, 5, 5))


ASPECTS: tuple[tuple[dict[str, Any], float], ...] = (
    ({}, 1.0),
    ({"t00280030": [0.5, 0.5]}, 1.0),
    ({"t00280030": [1.0, 0.5]}, 2.0),
    ({"t00280030": [0.5, 1.0]}, 0.5),
    ({"t00280030": [0.5, 0.5], "t00280034": [1, 2]}, 1.0),
    ({"t00280034": [1, 2]}, 0.5),
    ({"t00181164": [0.2, 0.1]}, 2.0),
    ({"t00280030": [0.5, 0.5004]}, 1.0),
    ({"t00280030": [0, 1]}, 1.0),
    ({"t00280030": [1, 1000]}, 1.0),
    ({"t00280034": [1]}, 1.0),
)


@pytest.mark.parametrize(("changes", "aspect"), ASPECTS)
def test_pixel_aspect(changes: dict[str, Any], aspect: float) -> None:
    assert pixel_aspect(data_set(F, **changes), 1) == aspect


def test_pixel_aspect_of_a_frame_is_in_its_pixel_measures() -> None:
    dataset = data_set(F) | {"52009229": {"vr": "SQ", "Value": [group("00289110", t00280030=[2.0, 1.0])]}}
    assert pixel_aspect(dataset, 1) == 2.0


def test_a_frame_of_an_enhanced_image_has_its_own_shutter() -> None:
    """PS3.3 C.7.6.16.2.16: the second frame alone is covered above row 3."""
    values = np.full((4, 4), 255, np.uint8)
    shutter = {"00181600": ["RECTANGULAR"], "00181602": [1], "00181604": [4], "00181606": [3], "00181608": [4]}
    own = group("00189472", **{f"t{tag}": value for tag, value in shutter.items()})
    dataset = data_set(values) | {"52009230": {"vr": "SQ", "Value": [{}, own]}}
    assert picture(values, dataset, Window(128, 256), number=1).all()
    assert picture(values, dataset, Window(128, 256), number=2).any(axis=1).tolist() == [False, False, True, True]


# --- requests ---------------------------------------------------------------------------------------------------------

REQUESTS: tuple[tuple[list[tuple[str, str]], RenderRequest], ...] = (
    ([], RenderRequest()),
    ([("window", "40,400,linear")], RenderRequest(Window(40, 400))),
    ([("window", " -600 , 1500 ")], RenderRequest(Window(-600, 1500))),
    ([("window", "1e2,.5,linear-exact")], RenderRequest(Window(100, 0.5, Function.LINEAR_EXACT))),
    ([("window", "0,1,SIGMOID")], RenderRequest(Window(0, 1, Function.SIGMOID))),
    ([("window", "ct-brain")], RenderRequest(Window(40, 80))),
    ([("window", "temporal BONE")], RenderRequest(Window(600, 2800))),
    ([("viewport", "512,256")], RenderRequest(viewport=Viewport(512, 256))),
    ([("viewport", "512,256,10,20,100,-50")], RenderRequest(viewport=Viewport(512, 256, 10, 20, 100, -50))),
    ([("viewport", "512,256,,,100,50")], RenderRequest(viewport=Viewport(512, 256, None, None, 100, 50))),
    ([("viewport", "512,256,10")], RenderRequest(viewport=Viewport(512, 256, 10))),
    ([("quality", "1")], RenderRequest(quality=1)),
    (
        [("annotation", "patient,technique"), ("iccprofile", "yes"), ("accept", "x"), ("accept", "y")],
        RenderRequest(icc_profile="yes", annotation=("patient", "technique")),
    ),
)


@pytest.mark.parametrize(("query", "expected"), REQUESTS)
def test_requests(query: list[tuple[str, str]], expected: RenderRequest) -> None:
    assert parse_request(query) == expected


NONSENSE = (
    ("window", "40"),
    ("window", ""),
    ("window", "40,"),
    ("window", "40,400,linear,1"),
    ("window", "40,400,cubic"),
    ("window", "nan,400"),
    ("window", "40,inf"),
    ("window", "1e999,1"),
    ("window", "40,0"),
    ("window", "40,0.5"),
    ("window", "40,-400"),
    ("window", "0,0,sigmoid"),
    ("window", "٤٠,400"),
    ("window", "pt-suv-5"),
    ("window", "no such preset"),
    ("viewport", ""),
    ("viewport", "512"),
    ("viewport", "0,512"),
    ("viewport", "-1,512"),
    ("viewport", "1.5,512"),
    ("viewport", "99999,1"),
    ("viewport", "16384,16384"),
    ("viewport", "1" * 5000 + ",1"),
    ("viewport", "10,10,-1,0,5,5"),
    ("viewport", "10,10,0,0,0,5"),
    ("viewport", "10,10,a,0,5,5"),
    ("viewport", "10,10,0,0,5,5,5"),
    ("quality", "0"),
    ("quality", "101"),
    ("quality", "90.5"),
    ("quality", ""),
    ("annotation", "everything"),
    ("annotation", ""),
    ("iccprofile", "maybe"),
)


@pytest.mark.parametrize(("name", "value"), NONSENSE)
def test_nonsense_is_a_bad_request_that_names_the_parameter(name: str, value: str) -> None:
    with pytest.raises(BadRequest, match=name):
        parse_request([(name, value)])


def test_a_parameter_twice_is_a_bad_request() -> None:
    with pytest.raises(BadRequest, match="window is given more than once"):
        parse_request([("window", "1,2"), ("window", "3,4")])


# --- media types, thumbnails, icons -------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [F, np.stack([F, F // 2, 255 - F], axis=-1)], ids=["grey", "colour"])
@pytest.mark.parametrize(
    ("media_type", "name", "near"),
    [("image/jpeg", "JPEG", 40), ("image/png", "PNG", 0), ("image/gif", "GIF", 30), ("image/webp", "WEBP", 255)],
)
def test_media_types(values: NDArray[np.uint8], media_type: str, name: str, near: int) -> None:
    made = render_frame(
        values.tobytes(),
        data_set(values),
        EXPLICIT_LITTLE,
        1,
        RenderRequest(media_type=media_type, quality=95),
    )
    assert made.media_type == media_type
    shown = Image.open(io.BytesIO(made.body))
    assert shown.format == name
    difference = np.asarray(shown.convert("RGB"), int) - np.asarray(
        Image.fromarray(values).convert("RGB"), int
    )
    # WebP has half the colours of its rows and columns, which shows at the edges of a drawing.
    assert np.abs(difference).max() <= near
    assert np.abs(difference).mean() < 15


@pytest.mark.parametrize("values", [F, np.stack([F, F // 2, 255 - F], axis=-1)], ids=["grey", "colour"])
def test_jpeg_xl(values: NDArray[np.uint8]) -> None:
    """The library that opens the other pictures does not know it; libjxl decodes grey as grey."""
    request = RenderRequest(media_type="image/jxl", quality=95)
    made = render_frame(values.tobytes(), data_set(values), EXPLICIT_LITTLE, 1, request)
    shown = imagecodecs.jpegxl_decode(made.body)
    assert shown.shape == values.shape
    assert np.abs(shown.astype(int) - values).mean() < 5


@pytest.mark.parametrize("media_type", ["image/jpeg", "image/jxl"])
def test_quality_is_bytes(media_type: str) -> None:
    sizes = [
        len(render_frame(F.tobytes(), data_set(F), EXPLICIT_LITTLE, 1, RenderRequest(quality=q, media_type=media_type)).body)
        for q in (5, 60, 100)
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2]


def test_other_media_types_cannot_be_had() -> None:
    with pytest.raises(NotAcceptable, match="image/png"):
        render_frame(F.tobytes(), data_set(F), EXPLICIT_LITTLE, 1, RenderRequest(media_type="image/heic"))


def test_a_thumbnail_has_128_pixels_at_most_and_does_not_grow() -> None:
    large = np.zeros((300, 600), np.uint8)
    assert read(thumbnail(large.tobytes(), data_set(large), EXPLICIT_LITTLE, 1, PNG).body).shape == (64, 128)
    assert read(thumbnail(F.tobytes(), data_set(F), EXPLICIT_LITTLE, 1, PNG).body).shape == F.shape
    asked = RenderRequest(viewport=Viewport(32, 32), media_type="image/png")
    assert read(thumbnail(large.tobytes(), data_set(large), EXPLICIT_LITTLE, 1, asked).body).shape == (16, 32)


def instance(sop_class: str = "", modality: str = "") -> Json:
    return {"00080016": {"vr": "UI", "Value": [sop_class]}, "00080060": {"vr": "CS", "Value": [modality]}}


KINDS = (
    ("1.2.840.10008.5.1.4.1.1.88.11", "SR", ("page", "SR")),
    ("1.2.840.10008.5.1.4.1.1.88.59", "KO", ("page", "KO")),
    ("1.2.840.10008.5.1.4.1.1.104.1", "DOC", ("page", "PDF")),
    ("1.2.840.10008.5.1.4.1.1.104.3", "M3D", ("page", "3D")),
    ("1.2.840.10008.5.1.4.1.1.9.1.1", "ECG", ("wave", "")),
    ("1.2.840.10008.5.1.4.1.1.481.3", "RTSTRUCT", ("target", "RT")),
    ("1.2.840.10008.5.1.4.1.1.77.1.1.1", "ES", ("film", "")),
    ("", "PLAN", ("page", "PLAN")),
    ("", "<b>\n", ("page", "B")),
    ("", "", ("page", "")),
)


@pytest.mark.parametrize(("sop_class", "modality", "expected"), KINDS)
def test_kinds_of_icon(sop_class: str, modality: str, expected: tuple[str, str]) -> None:
    assert kind(instance(sop_class, modality)) == expected


@pytest.mark.parametrize(
    ("shape", "label"), sorted({*BY_SOP_CLASS.values(), *BY_MODALITY.values(), ("broken", "")})
)
@pytest.mark.parametrize("side", [1, 16, 128])
def test_every_icon_can_be_drawn(shape: str, label: str, side: int) -> None:
    drawn = icon(shape, label, side)
    assert drawn.shape == (side, side, 3)
    assert side == 1 or drawn.std() > 5


@pytest.mark.parametrize("media_type", ["image/jpeg", "image/png", "image/gif"])
def test_what_has_no_pixels_has_an_icon(media_type: str) -> None:
    report = instance("1.2.840.10008.5.1.4.1.1.88.11", "SR")
    made = thumbnail(None, report, EXPLICIT_LITTLE, 1, RenderRequest(media_type=media_type))
    assert (made.media_type, made.placeholder) == (media_type, True)
    assert read(made.body).shape[:2] == (128, 128)
    assert placeholder(
        report, RenderRequest(viewport=Viewport(64, 40), media_type="image/png")
    ).body.startswith(b"\x89PNG")


def test_what_cannot_be_decoded_has_an_icon_too() -> None:
    made = thumbnail(b"short", data_set(F), EXPLICIT_LITTLE, 1, PNG)
    assert made.placeholder
    assert made.body != placeholder(instance(), PNG).body


def test_video_has_an_icon_and_is_not_decoded() -> None:
    video = data_set(F) | instance("1.2.840.10008.5.1.4.1.1.77.1.1.1", "ES")
    assert thumbnail(b"\0\0\1\xb3", video, "1.2.840.10008.1.2.4.102", 1, PNG).placeholder


def test_a_lut_is_a_key() -> None:
    """Transforms are the keys of the table cache: equal ones must be one key."""
    one, other = (GreyTransform(8, False, Lut(0, b"\0\0\1\0", 8), Window(1, 2)) for _ in range(2))
    assert display_table(one, 8) is display_table(other, 8)


# --- data sets that lie -------------------------------------------------------------------------------------------------

LYING = (
    "luts-overlays/mlut_18.dcm",
    "luts-overlays/vlut_04.dcm",
    "ultrasound/gdcm-US-ALOKA-16.dcm",
    "enhanced/emri_small.dcm",
    "structure/CT_small.dcm",
    "derived/seg_image_ct_binary.dcm",
    "photometric/SC_ybr_full_422_uncompressed.dcm",
)


def places(dataset: Any) -> Iterator[dict[str, Any]]:
    """Every element that is about pixels, at any depth; not so many per data set that a test takes long."""
    for tag, element in dataset.items():
        if tag[:4] in ("0028", "5200", "2050", "0018"):
            yield element
            for item in (element.get("Value") or [])[:2]:
                if isinstance(item, dict):
                    yield from places(item)


@pytest.mark.parametrize("name", LYING)
def test_a_data_set_that_lies_gives_a_picture_or_a_refusal(name: str) -> None:
    of = image(name)
    frame, offset = next(frames(of))
    chance = random.Random(name)
    refused = 0
    for _ in range(150):
        dataset = copy.deepcopy(dict(of.dataset))
        for element in chance.choices(list(places(dataset)), k=chance.choice((1, 1, 3))):
            element.pop("InlineBinary", None)
            element["Value"] = chance.choices(ODD, k=chance.randrange(4))
        try:
            made = render_frame(
                frame,
                dataset,
                of.transfer_syntax_uid,
                1,
                RenderRequest(),
                bit_offset=offset,
                decode=decode_here,
            )
        except CannotDecode:
            refused += 1
        else:
            assert made.body.startswith(b"\xff\xd8")
        assert thumbnail(
            frame,
            dataset,
            of.transfer_syntax_uid,
            1,
            PNG,
            bit_offset=offset,
            bulk=of.fetch,
            decode=decode_here,
        ).body
    assert refused, "no lie was noticed: they are too tame to show anything"
