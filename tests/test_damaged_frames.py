"""Truncated, lying and absurd frames of every codec over HTTP: a picture, or a 4xx that says why, and the next frame is as good as ever."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pytest
from starlette.testclient import TestClient

from storage.archive import Archive
from storage.codecs import PixelDescription, described_as
from storage.codecs.encoding import ENCODERS, encode_here
from storage.codecs.lossy import LOSSY
from storage.codecs.pixels import MAX_FRAME_BYTES
from storage.transfer_syntaxes import EXPLICIT_LITTLE, HTJ2K_RPCL
from tests.support import made, web

SERIES: Final = "studies/1.2.3/series/1.2.3.4/instances/1.2.3.4"
PLAIN: Final = PixelDescription(48, 40, 1, 8, 8, 7, False, "MONOCHROME2", 0, EXPLICIT_LITTLE)
TWELVE: Final = PixelDescription(48, 40, 1, 16, 12, 11, False, "MONOCHROME2", 0, EXPLICIT_LITTLE)
EXTENDED: Final = "1.2.840.10008.1.2.4.51"
STANDS_IN: Final = {"1.2.840.10008.1.2.8.1": "1.2.840.10008.1.2.4.50"} | {
    f"1.2.840.10008.1.2.4.{number}": HTJ2K_RPCL for number in ("110", "112")
}
ASKED: Final = (
    ("frames/1", f"application/octet-stream; transfer-syntax={EXPLICIT_LITTLE}"),
    ("frames/1", f"image/jphc; transfer-syntax={HTJ2K_RPCL}"),
    ("frames/1", "image/jp2; transfer-syntax=1.2.840.10008.1.2.4.91"),
    ("rendered", "image/jpeg"),
    ("", "application/dicom"),
    ("", f"application/dicom; transfer-syntax={HTJ2K_RPCL}"),
)
DAMAGES: Final = ("truncated", "empty", "other bytes", "cut out", "lying", "absurd")


def pixels_of(target: str) -> PixelDescription:
    return TWELVE if target == EXTENDED else PLAIN


def frame_in(target: str) -> bytes:
    pixels = pixels_of(target)
    values = np.random.default_rng(1).integers(0, 1 << pixels.bits_stored, (48, 40)).astype(pixels.dtype)
    return encode_here(values.tobytes(), pixels, target)


def damaged(frame: bytes, damage: str) -> tuple[bytes, dict[str, Any]]:
    """The frame, and what the data set says wrongly."""
    chance = random.Random(len(frame))
    middle = len(frame) // 2
    if damage == "other bytes":
        changed = bytearray(frame)
        for _ in range(24):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        return bytes(changed), {}
    found: dict[str, tuple[bytes, dict[str, Any]]] = {
        "truncated": (frame[:middle], {}),
        "empty": (b"\0\0", {}),
        "cut out": (frame[: middle - 20] + frame[middle:], {}),
        "lying": (frame, {"Rows": 47, "Columns": 4000}),
        "absurd": (frame, {"Rows": 65535, "Columns": 65535}),
    }
    return found[damage]


def instance(number: int, frame: bytes, target: str, **said: Any) -> bytes:
    after = described_as(pixels_of(target), target)
    attributes: dict[str, Any] = {"Rows": 48, "Columns": 40, "NumberOfFrames": 1}
    attributes |= {"BitsAllocated": after.bits_allocated, "BitsStored": after.bits_stored, "HighBit": after.high_bit}
    padded = frame + b"\0" * (len(frame) % 2)
    # Some syntaxes are newer than pydicom's list: another stands in, whose UID is as long.
    known = STANDS_IN.get(target, target)
    file = made.encapsulated(
        [padded], known, SOPInstanceUID=f"1.2.3.4.{number}", InstanceNumber=number, **{**attributes, **said}
    )
    return file.replace(known.encode(), target.encode().ljust(len(known), b"\0"))


@pytest.fixture
def client(archive: Archive) -> Iterator[TestClient]:
    with web.client(archive) as client:
        yield client


@pytest.mark.parametrize("target", [*ENCODERS, *LOSSY])
def test_it_is_a_clear_answer_and_costs_nobody_else(client: TestClient, target: str) -> None:
    frame = frame_in(target)
    kinds = [damaged(frame, damage) for damage in DAMAGES]
    sent = [instance(number, bad, target, **said) for number, (bad, said) in enumerate(kinds, 2)]
    assert web.stow(client, [instance(1, frame, target), *sent]).status_code in (200, 202)
    refused = 0
    for number, (damage, (bad, _)) in enumerate(zip(DAMAGES, kinds, strict=True), 2):
        for path, accept in ASKED:
            answer = client.get(f"{SERIES}.{number}/{path}".rstrip("/"), headers={"Accept": accept})
            assert answer.status_code in (200, 400, 404, 406), (damage, path, accept, answer.text[:200])
            # Whoever gets it as it is stored sees for himself; nobody else gets pixels that are not there.
            if damage in ("truncated", "empty", "lying", "absurd") and answer.status_code == 200:
                assert bad in answer.content, (damage, path, accept)
            if answer.status_code == 406:
                refused += 1
                assert answer.json()["error"]
    assert refused > len(DAMAGES)
    good = client.get(f"{SERIES}.1/frames/1", headers={"Accept": ASKED[0][1]})
    assert (good.status_code, len(good.content)) == (200, pixels_of(target).decoded_size)
    assert MAX_FRAME_BYTES < 65535 * 65535
