"""Waveforms in their units: multiplex groups, channels and annotations of a data set (PS3.3 C.10.9, C.10.10)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dicomweb.rendering.content import coded
from dicomweb.rendering.values import items, number, numbers, text, words
from storage.errors import CannotDecode
from storage.types import Dataset

GROUPS, CHANNELS, DATA = "54000100", "003A0200", "54001010"
ANNOTATIONS = "0040B020"
MOST_CHANNELS: Final = 512
MOST_FREQUENCY: Final = 1e9
# Waveform Sample Interpretation (PS3.3 C.10.9.1.5) -> how a sample is written; the last two are companded to 8 bits.
INTERPRETATIONS: Final = {
    "SB": "<i1", "UB": "<u1", "SS": "<i2", "US": "<u2", "SL": "<i4", "UL": "<u4", "SV": "<i8", "UV": "<u8", "MB": "<u1", "AB": "<u1",
}  # fmt: skip

# Path of a bulk value, first byte, number of bytes -> those bytes in little endian.
Part = Callable[[str, int, int], bytes]
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel: value in `units` = sample x `scale` + `baseline` (PS3.3 C.10.9.1.4.2), moved on by `skew` seconds."""

    name: str
    units: str
    scale: float = 1.0
    baseline: float = 0.0
    skew: float = 0.0
    # Of its filters, in Hz: what passes from and to, and what is taken out.
    filters: tuple[float | None, float | None, float | None] = (None, None, None)


@dataclass(frozen=True, slots=True)
class Group:
    """A multiplex group: channels sampled together, `samples` of each at `frequency` Hz."""

    index: int
    label: str
    samples: int
    frequency: float
    interpretation: str
    channels: tuple[Channel, ...]
    padding: bytes = b""

    @property
    def duration(self) -> float:
        return self.samples / self.frequency


@dataclass(frozen=True, slots=True)
class Annotation:
    """Text about all of a waveform, or, with `samples` (from 1), at places in a group (from 0); `channel` from 1, 0 for all."""

    text: str
    group: int = -1
    channel: int = 0
    samples: tuple[int, ...] = ()


def has_waveforms(dataset: Dataset) -> bool:
    """Whether there is anything to trace."""
    return bool(items(dataset, GROUPS))


def groups(dataset: Dataset) -> tuple[Group, ...]:
    """The groups that can be traced. Raises CannotDecode, saying why, where there are none."""
    found, reasons = [], []
    for index, item in enumerate(items(dataset, GROUPS)):
        try:
            found.append(_group(index, item))
        except CannotDecode as error:
            reasons.append(str(error))
    if not found:
        raise CannotDecode(reasons[0] if reasons else "there are no waveforms in it")
    return tuple(found)


def values(dataset: Dataset, group: Group, first: int, count: int, part: Part) -> Values:
    """(samples, channels) in the units of each channel, NaN for padding, from sample `first` (from 0); fewer where they end."""
    kind = np.dtype(INTERPRETATIONS[group.interpretation])
    row = kind.itemsize * len(group.channels)
    first, count = max(first, 0), max(min(count, group.samples - first), 0)
    item = items(dataset, GROUPS)[group.index]
    if "BulkDataURI" in item.get(DATA, {}):
        stored = part(str(item[DATA]["BulkDataURI"]).rpartition("/bulkdata/")[2], first * row, count * row)
    else:
        stored = words(item, DATA, None)[first * row : (first + count) * row]
    samples = np.frombuffer(stored[: len(stored) // row * row], kind).reshape(-1, len(group.channels))
    scaled = _expanded(samples, group.interpretation)
    # Sensitivities can be any number; what overflows is not traced.
    with np.errstate(over="ignore", invalid="ignore"):
        scaled *= [channel.scale for channel in group.channels]
        scaled += [channel.baseline for channel in group.channels]
    if len(group.padding) == kind.itemsize:
        scaled[samples == np.frombuffer(group.padding, kind)[0]] = np.nan
    return scaled


def written(dataset: Dataset) -> tuple[Annotation, ...]:
    """What is written about the waveforms (PS3.3 C.10.10): statements, measurements, places."""
    return tuple(found for item in items(dataset, ANNOTATIONS) if (found := _annotation(item)) is not None)


def _annotation(item: Dataset) -> Annotation | None:
    name, said = coded(items(item, "0040A043")), text(item, "00700006") or coded(items(item, "0040A168"))
    amount = number(item, "0040A30A")
    measured = "" if amount is None else f"{amount:g}"
    units = items(item, "004008EA")
    unit = text(units[0], "00080100") if units else ""
    value = f"{measured} {'' if unit in ('1', '') else unit}".strip() if measured else said
    shown = f"{name}: {value}" if name and value else name or value
    if not shown:
        return None
    where = [int(one) for one in numbers(item, "0040A0B0")]
    group, channel = (where[0] - 1, where[1]) if len(where) >= 2 else (-1, 0)
    return Annotation(shown, group, channel, tuple(int(one) for one in numbers(item, "0040A132")))


def _group(index: int, item: Dataset) -> Group:
    definitions = items(item, CHANNELS)
    said, samples, frequency = (number(item, tag) or 0.0 for tag in ("003A0005", "003A0010", "003A001A"))
    interpretation = text(item, "54001006")
    name = f"multiplex group {index + 1}"
    if interpretation not in INTERPRETATIONS:
        raise CannotDecode(f"{name} has samples of type {interpretation or 'none'}, which are not known")
    if not 0 < frequency <= MOST_FREQUENCY or samples < 1:
        raise CannotDecode(f"{name} has no samples, or no sampling frequency that can be")
    if not 1 <= said <= MOST_CHANNELS or len(definitions) != said:
        raise CannotDecode(f"{name} has {said:g} channels of which {len(definitions)} are described; from 1 to {MOST_CHANNELS} can be traced")
    channels = tuple(_channel(number + 1, one) for number, one in enumerate(definitions))
    padding = words(item, "5400100A", None) if "InlineBinary" in item.get("5400100A", {}) else b""
    return Group(index, text(item, "003A0020"), int(samples), frequency, interpretation, channels, padding)


def _channel(position: int, item: Dataset) -> Channel:
    meaning = coded(items(item, "003A0208"))
    # "Lead aVR, augmented voltage, right", "Lead I (Einthoven)": what is written on paper is aVR, and I.
    short = meaning.partition(" (")[0].partition(",")[0].strip().removeprefix("Lead ").strip()
    units = items(item, "003A0211")
    sensitivity, correction = number(item, "003A0210"), number(item, "003A0212")
    return Channel(
        name=short or text(item, "003A0203") or str(position),
        units=text(units[0], "00080100") if units else "",
        scale=(1.0 if sensitivity is None else sensitivity) * (1.0 if correction is None else correction),
        baseline=number(item, "003A0213") or 0.0,
        skew=number(item, "003A0214") or 0.0,
        filters=(number(item, "003A0220"), number(item, "003A0221"), number(item, "003A0222")),
    )


def _expanded(samples: NDArray[Any], interpretation: str) -> Values:
    """Linear samples; companded ones as ITU-T G.711 has them."""
    if interpretation in ("MB", "AB"):
        return np.take(_companding(interpretation), samples)
    return samples.astype(np.float64)


@functools.cache
def _companding(interpretation: str) -> Values:
    """The 256 values of mu-law or A-law, in the range of 16 bits."""
    codes = np.arange(256)
    if interpretation == "MB":
        inverted = ~codes & 0xFF
        exponent, mantissa = (inverted >> 4) & 7, inverted & 15
        size = (((mantissa << 3) + 0x84) << exponent) - 0x84
        return np.where(inverted & 0x80, -size, size).astype(np.float64)
    toggled = codes ^ 0x55
    exponent, mantissa = (toggled >> 4) & 7, toggled & 15
    size = np.where(exponent == 0, (mantissa << 4) + 8, ((mantissa << 4) + 0x108) << np.maximum(exponent - 1, 0))
    return np.where(toggled & 0x80, size, -size).astype(np.float64)


