"""What one pass over a data set finds: values, where bulk data and pixels lie, what is odd."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from storage.frame_items import FrameItems
from storage.levels import DataSet, Limits, Pixels
from storage.types import BulkItem, Flag
from storage.values import BULK_VRS, inline

_OFFSETS: Final = 0x7FE00001
# Palettes are given inline however large: viewers that must fetch them show a black image now and then.
_PALETTES: Final = frozenset({0x00281201, 0x00281202, 0x00281203, 0x00281221, 0x00281222, 0x00281223})
_PALETTE_BYTES: Final = 256 << 10


class Findings:
    """`dataset` in the DICOM JSON model, `frame_items` that are not in it, `bulk`, `pixels`, `offsets` (extended offset table), `flags`, `truncated`."""

    def __init__(self, data: memoryview, limits: Limits) -> None:
        self._data, self._limits = data, limits
        self._bytes = 0
        self._was_un = False
        self._oddities = 0
        self.dataset: dict[str, Any] = {}
        self.frame_items = FrameItems(limits)
        # By path: of a repeated element the last is the one that counts.
        self.bulk: dict[str, BulkItem] = {}
        # The JSON elements that refer to bulk data, to be given their URIs when the UIDs are known.
        self.references: list[tuple[dict[str, Any], str]] = []
        self.pixels: Pixels | None = None
        self.offsets: tuple[bytes, bytes] = (b"", b"")
        self.flags: dict[str, Flag] = {}
        self.truncated = False

    def flag(self, code: str, text: str, tag: str = "") -> None:
        """Note something odd, once per kind."""
        self._oddities += 1
        if code not in self.flags:
            self.flags[code] = Flag(code, text, tag)

    def integer(self, tag: str, default: int) -> int:
        """The first value of an attribute, if it is an integer."""
        values: list[Any] = (self.dataset.get(tag) or {}).get("Value") or [default]
        return values[0] if isinstance(values[0], int) else default

    def longs(self, offset: int, length: int) -> npt.NDArray[np.uint32]:
        """Unsigned 32-bit numbers, little endian: a Basic Offset Table."""
        return np.frombuffer(self._data[offset : offset + length // 4 * 4], "<u4")

    def starts_with(self, offset: int, magics: tuple[bytes, ...]) -> bool:
        """Whether one of `magics` stands at `offset`."""
        return self._data[offset : offset + 8].tobytes().startswith(magics)

    def _binary(self, level: DataSet, key: str, tag: int, vr: str, at: int, length: int) -> None:
        was_un, self._was_un = self._was_un, False
        if not length:
            level.values[key] = {"vr": vr}
        elif length <= self._limits.inline_bytes or (tag in _PALETTES and length <= _PALETTE_BYTES):
            self._bytes += length
            raw = self._data[at : at + length].tobytes()
            level.values[key] = {"vr": vr, "InlineBinary": inline(raw, vr, level.little or was_un)}
        else:
            self._refer(level, key, vr, at, length)

    def _refer(self, level: DataSet, key: str, vr: str, at: int, length: int) -> None:
        self._oddities += 1
        path = level.path + key
        self.bulk[path] = BulkItem(path, vr, at, length)
        level.values[key] = {"vr": vr}
        self.references.append((level.values[key], path))

    def _pixel_data(self, level: DataSet, key: str, tag: int, vr: str, at: int, length: int) -> None:
        self._was_un = False
        vr = vr if vr in BULK_VRS else "OW"
        self.pixels = Pixels(tag, at, length)
        if length:
            self._refer(level, key, vr, at, length)
        else:
            level.values[key] = {"vr": vr}

    def _offset_table(self, tag: int, at: int, stop: int) -> None:
        raw = self._data[at:stop].tobytes()
        self.offsets = (raw, self.offsets[1]) if tag == _OFFSETS else (self.offsets[0], raw)
