"""What a frame's bytes mean: the Image Pixel module (PS3.3 C.7.6.3) as one frozen value."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from storage.errors import CannotDecode
from storage.transfer_syntaxes import TransferSyntax, lookup
from storage.types import Dataset

# A decoded frame over this is refused before a byte of it is allocated (RELIABILITY: "pixel size lies").
MAX_FRAME_BYTES = 1 << 29

SAMPLES, PHOTOMETRIC, PLANAR = "00280002", "00280004", "00280006"
ROWS, COLUMNS = "00280010", "00280011"
ALLOCATED, STORED, HIGH_BIT, REPRESENTATION = "00280100", "00280101", "00280102", "00280103"
PIXEL_DATA = "7FE00010"


class Number(StrEnum):
    """What a sample is: PS3.3 C.7.6.3 (integer), C.7.6.24 (float), C.7.6.25 (double)."""

    INTEGER = "integer"
    FLOAT = "float"
    DOUBLE = "double"


# Which element carries the pixels says what they are (PS3.5 8).
ELEMENTS = {"7FE00008": Number.FLOAT, "7FE00009": Number.DOUBLE, PIXEL_DATA: Number.INTEGER}


@dataclass(frozen=True, slots=True)
class PixelDescription:
    """How one frame is coded. `transfer_syntax_uid` says in what; the rest is the Image Pixel module.

    `word_swapped`: samples of at most one byte in an OW element of a big endian data set lie in words of two
    bytes, the second first (PS3.5 7.3 and A.3). `keeps_colour`: decoding leaves YCbCr as it is (see `keeping`).
    """

    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    photometric_interpretation: str
    planar_configuration: int
    transfer_syntax_uid: str
    number: Number = Number.INTEGER
    word_swapped: bool = False
    keeps_colour: bool = False

    @classmethod
    def from_dataset(cls, dataset: Dataset, transfer_syntax_uid: str) -> PixelDescription:
        """Read the DICOM JSON model. Raises CannotDecode, naming the attribute, where it does not describe an image."""
        number = next((kind for tag, kind in ELEMENTS.items() if tag in dataset), Number.INTEGER)
        allocated = {Number.FLOAT: 32, Number.DOUBLE: 64}.get(number) or _integer(
            dataset, ALLOCATED, "Bits Allocated"
        )
        stored = _integer(dataset, STORED, "Bits Stored", allocated)
        if not 1 <= stored <= allocated or number is not Number.INTEGER:
            stored = allocated
        syntax = lookup(transfer_syntax_uid)
        pixels = cls(
            rows=_integer(dataset, ROWS, "Rows"),
            columns=_integer(dataset, COLUMNS, "Columns"),
            samples=_integer(dataset, SAMPLES, "Samples per Pixel", 1),
            bits_allocated=allocated,
            bits_stored=stored,
            high_bit=_high_bit(dataset, stored, allocated),
            signed=_integer(dataset, REPRESENTATION, "Pixel Representation", 0) == 1,
            photometric_interpretation=_text(dataset, PHOTOMETRIC),
            planar_configuration=_integer(dataset, PLANAR, "Planar Configuration", 0),
            transfer_syntax_uid=transfer_syntax_uid,
            number=number,
            word_swapped=not syntax.little_endian
            and allocated <= 8
            and dataset.get(PIXEL_DATA, {}).get("vr") == "OW",
        )
        pixels.check()
        return pixels

    def check(self) -> None:
        """Raise CannotDecode unless such a frame can exist and is not absurdly large."""
        if self.rows < 1 or self.columns < 1:
            raise CannotDecode(f"an image of {self.rows} rows and {self.columns} columns has no pixels")
        if self.samples not in (1, 3):
            raise CannotDecode(f"Samples per Pixel is {self.samples}; 1 and 3 can be decoded")
        if self.bits_allocated not in (1, 8, 16, 32, 64):
            raise CannotDecode(f"Bits Allocated is {self.bits_allocated}; 1, 8, 16, 32 and 64 can be decoded")
        if self.decoded_size > MAX_FRAME_BYTES:
            raise CannotDecode(f"a frame of {self.decoded_size} bytes is over the limit of {MAX_FRAME_BYTES}")

    @property
    def syntax(self) -> TransferSyntax:
        return lookup(self.transfer_syntax_uid)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy type of a decoded sample, in this machine's byte order."""
        if self.number is not Number.INTEGER:
            return np.dtype(np.float32 if self.number is Number.FLOAT else np.float64)
        return np.dtype(f"{'i' if self.signed else 'u'}{max(self.bits_allocated, 8) // 8}")

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, columns), or (rows, columns, 3) for colour."""
        return (self.rows, self.columns) if self.samples == 1 else (self.rows, self.columns, self.samples)

    @property
    def values(self) -> int:
        """How many samples a frame has."""
        return self.rows * self.columns * self.samples

    @property
    def decoded_size(self) -> int:
        """Bytes of the decoded array."""
        return self.values * self.dtype.itemsize

    @property
    def is_ybr(self) -> bool:
        return self.photometric_interpretation.startswith("YBR_")


def has_pixels(dataset: Dataset) -> bool:
    """Whether the data set carries pixel data at all, or says that it does (video's is left out of the JSON)."""
    return any(tag in dataset for tag in ELEMENTS) or (
        ROWS in dataset and COLUMNS in dataset and ALLOCATED in dataset
    )


def _high_bit(dataset: Dataset, stored: int, allocated: int) -> int:
    high = _integer(dataset, HIGH_BIT, "High Bit", stored - 1)
    return high if stored - 1 <= high < allocated else stored - 1


def _integer(dataset: Dataset, tag: str, name: str, default: int | None = None) -> int:
    values = dataset.get(tag, {}).get("Value") or [default]
    value = values[0]
    if type(value) is int and 0 <= value < 1 << 32:
        return value
    if default is not None:
        return default
    raise CannotDecode(
        f"{name} ({tag[:4]},{tag[4:]}) is missing or is not a number: the data set does not describe an image"
    )


def _text(dataset: Dataset, tag: str) -> str:
    values = dataset.get(tag, {}).get("Value") or [""]
    return values[0].strip() if isinstance(values[0], str) else ""
