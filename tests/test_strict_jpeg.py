"""JPEG streams whose coded samples are damaged are refused, whatever they hold; slips that do no harm are read as ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import imagecodecs
import numpy as np
import pytest
from starlette.testclient import TestClient

from storage.archive import Archive
from storage.codecs import PixelDescription, decode_here
from storage.codecs.samples import Array
from storage.errors import CannotDecode
from tests.support import made, web

BASELINE, EXTENDED, SV1 = (f"1.2.840.10008.1.2.4.{number}" for number in ("50", "51", "70"))
EOI: Final = b"\xff\xd9"
ROWS, COLUMNS = 96, 120


class Kind(NamedTuple):
    """A stream, what the data set says of it, and its samples as a decoder that makes up what it cannot read has them."""

    frame: bytes
    pixels: PixelDescription
    values: Array


def _kinds() -> dict[str, Kind]:
    y, x = np.mgrid[:ROWS, :COLUMNS]
    grain = np.random.default_rng(3).normal(0, 6, (ROWS, COLUMNS))
    grey = np.clip(128 + 70 * np.sin(x / 9) + 40 * np.cos(y / 7) + grain, 0, 255).astype(np.uint8)
    deep = grey.astype(np.uint16) << 4 | grey >> 4
    colour = np.dstack([grey, grey[::-1], 255 - grey]).copy()
    encode, decode = _encode, imagecodecs.jpeg8_decode
    as_rgb: dict[str, Any] = {"colorspace": "RGB", "outcolorspace": "RGB"}
    from_ycbcr: dict[str, Any] = {"colorspace": "YCBCR", "outcolorspace": "RGB"}
    rows: dict[str, tuple[bytes, dict[str, Any], int, str, str]] = {
        "grey": (encode(grey, 90), {}, 8, BASELINE, "MONOCHROME2"),
        "grey, optimized": (encode(grey, 90, optimize=True), {}, 8, BASELINE, "MONOCHROME2"),
        "colour": (encode(colour, 90), from_ycbcr, 8, BASELINE, "YBR_FULL_422"),
        "colour in RGB": (encode(colour, 90, **as_rgb), as_rgb, 8, BASELINE, "RGB"),
        "12 bits": (encode(deep, 90, bitspersample=12), {}, 12, EXTENDED, "MONOCHROME2"),
        "lossless, 8 bits": (encode(grey, lossless=True, predictor=1), {}, 8, SV1, "MONOCHROME2"),
        "lossless, 16 bits": (encode(deep, lossless=True, bitspersample=16, predictor=1), {}, 16, SV1, "MONOCHROME2"),
        "lossless colour": (encode(colour, lossless=True, predictor=1, **as_rgb), as_rgb, 8, SV1, "RGB"),
    }
    return {name: Kind(frame, _described(bits, syntax, space), decode(frame, **spaces)) for name, (frame, spaces, bits, syntax, space) in rows.items()}


def _encode(values: Array, level: int | None = None, **how: Any) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(values, level, **how))


def _described(bits: int, syntax: str, space: str) -> PixelDescription:
    samples = 1 if space == "MONOCHROME2" else 3
    return PixelDescription(ROWS, COLUMNS, samples, 8 if bits == 8 else 16, bits, bits - 1, False, space, 0, syntax)


KINDS: Final = _kinds()
MIDDLE: Final = 2


def _cut_out(frame: bytes) -> bytes:
    # Of fewer bytes not all is seen: what is left may be codes of as many samples by chance.
    return frame[: len(frame) // MIDDLE] + frame[len(frame) * 3 // 4 :]


def _begun_only(frame: bytes) -> bytes:
    return frame[: len(frame) // MIDDLE] + EOI


def _repeated(frame: bytes) -> bytes:
    middle = len(frame) // MIDDLE
    return frame[:middle] + frame[middle - 200 :]


def _of_another_place(frame: bytes) -> bytes:
    middle = len(frame) // MIDDLE
    return frame[:middle] + bytes(byte ^ 0x5A if byte not in (0xFF, 0x5A, 0xA5) else byte for byte in frame[middle:-200]) + frame[-200:]


@pytest.mark.parametrize("damage", [_cut_out, _begun_only, _repeated, _of_another_place])
@pytest.mark.parametrize("name", KINDS)
def test_damage_among_the_coded_samples_is_seen(name: str, damage: Callable[[bytes], bytes]) -> None:
    with pytest.raises(CannotDecode, match="the JPEG stream is damaged"):
        decode_here(damage(KINDS[name].frame), KINDS[name].pixels)


def _slip_in_scan_header(frame: bytes) -> bytes:
    # Where spectral selection ends (T.81 B.2.3) is 63 in sequential streams; some writers leave it 0.
    at = frame.index(b"\xff\xda")
    parameters = at + 2 + int.from_bytes(frame[at + 2 : at + 4], "big") - 2
    assert frame[parameters] == 63
    return frame[:parameters] + b"\0" + frame[parameters + 1 :]


HARMLESS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "nothing": lambda frame: frame,
    "padding behind the end": lambda frame: frame + b"\0",
    "much behind the end": lambda frame: frame + bytes(3000),
    "zeros before the end": lambda frame: frame[:-2] + bytes(3) + EOI,
    "spaces before the end": lambda frame: frame[:-2] + b"  " + EOI,
    "fill bytes before the end": lambda frame: frame[:-2] + b"\xff\xff\xff" + EOI,
}


@pytest.mark.parametrize("slip", HARMLESS)
@pytest.mark.parametrize("name", KINDS)
def test_what_does_no_harm_is_read(name: str, slip: str) -> None:
    kind = KINDS[name]
    assert np.array_equal(decode_here(HARMLESS[slip](kind.frame), kind.pixels), kind.values)


@pytest.mark.parametrize("name", ["grey", "colour", "colour in RGB", "12 bits"])
def test_a_slip_in_the_header_of_a_scan_is_no_damage(name: str) -> None:
    kind = KINDS[name]
    assert np.array_equal(decode_here(_slip_in_scan_header(kind.frame), kind.pixels), kind.values)


def test_a_damaged_frame_is_given_as_it_is_stored_and_never_as_a_picture(archive: Archive) -> None:
    frame, pixels, _ = KINDS["grey"]
    attributes = {"Rows": ROWS, "Columns": COLUMNS, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "NumberOfFrames": 2, "SOPInstanceUID": "1.2.3.4.5"}
    bad = _cut_out(frame)
    path = "studies/1.2.3/series/1.2.3.4/instances/1.2.3.4.5/frames"
    with web.client(archive) as client:
        file = made.encapsulated([one + b"\0" * (len(one) % 2) for one in (bad, frame)], pixels.transfer_syntax_uid, **attributes)
        assert web.stow(client, [file]).status_code == 200
        assert bad in client.get(f"{path}/1", headers={"Accept": f'multipart/related; type="image/jpeg"; transfer-syntax={BASELINE}'}).content
        refused = client.get(f"{path}/1/rendered")
        assert (refused.status_code, "damaged" in refused.text) == (406, True)
        _shown(client, path)


def _shown(client: TestClient, path: str) -> None:
    picture = client.get(f"{path}/2/rendered")
    assert (picture.status_code, picture.headers["Content-Type"]) == (200, "image/jpeg")
