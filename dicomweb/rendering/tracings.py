"""Waveforms on paper: ECG at 25 mm/s and 10 mm/mV on squared paper, all else with a scale of its own beside each trace."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from dicomweb.rendering.sheet import BLACK, GREY, Colour, Point, Sheet
from dicomweb.rendering.waveforms import Annotation, Channel, Group, Values

# A page is as long as ten seconds of ECG paper, and as high as its traces need.
TRACE: Final = 250.0
LEFT, RIGHT, TOP, BOTTOM = 14.0, 4.0, 8.0, 10.0
SPEED, GAIN = 25.0, 10.0
# mm for one channel, and of each side of its base line, at the least; and of one page in all, at the most.
LEAST_ROW, MOST_HEIGHT, PLAIN_ROW = 12.0, 400.0, 18.0
STATEMENT: Final = 4.2
MOST_STATEMENTS: Final = 16
# Channels to a page: more cannot be told apart.
MOST_ROWS: Final = 32
# Samples to a page, of all channels together; beyond this nothing is measured, and what is, is a mistake.
MOST_SAMPLES, MOST, FARTHEST = 1 << 23, 1e30, 1e9
MARK: Final[Colour] = (0, 90, 170)
# Units in which paper of 10 mm/mV is meant, in mV.
MILLIVOLTS: Final = {"mV": 1.0, "uV": 1e-3, "V": 1e3, "nV": 1e-6}
_ECG_CLASSES: Final = tuple(f"1.2.840.10008.5.1.4.1.1.9.1.{one}" for one in ("1", "2", "3", "4"))


@dataclass(frozen=True, slots=True)
class Part:
    """What is on one page: channels `low` to `high` of a group, `count` samples from `first`."""

    group: Group
    low: int
    high: int
    first: int
    count: int
    paper: bool

    @property
    def channels(self) -> tuple[Channel, ...]:
        return self.group.channels[self.low : self.high]

    @property
    def seconds(self) -> float:
        """How much time the width of the page is."""
        return TRACE / SPEED if self.paper else self.count / self.group.frequency


def parts(groups: tuple[Group, ...], sop_class: str) -> Iterator[Part]:
    """The pages, in order: of ECG ten seconds each, of all else what is there on one."""
    for group in groups:
        paper = sop_class.startswith(_ECG_CLASSES) or (
            # What says that it is something else, but is volts in leads as heart stations store them.
            len(group.channels) == 12 and all(one.units in MILLIVOLTS for one in group.channels)
        )
        paper = paper and all(one.units in MILLIVOLTS for one in group.channels)
        step = max(int(TRACE / SPEED * group.frequency), 1) if paper else group.samples
        step = min(step, max(MOST_SAMPLES // len(group.channels), 1))
        for first in range(0, group.samples, step):
            for low in range(0, len(group.channels), MOST_ROWS):
                high = min(low + MOST_ROWS, len(group.channels))
                yield Part(group, low, high, first, min(step, group.samples - first), paper)




def traced(part: Part, values: Values, said: tuple[Annotation, ...], number: int, count: int, header: str = "") -> Sheet:
    """The page of `values`, (samples, channels) of the part in their units."""
    statements = _statements(said, part) if number == 1 else []
    scaled, gains = _scaled(part, values)
    above, below = _reaches(scaled, part.paper)
    factor = 1.0
    while part.paper and (sum(above) + sum(below)) * factor > MOST_HEIGHT and factor > 1e-9:
        factor /= 2
    rows = [(max(up * factor, LEAST_ROW / 2), max(down * factor, LEAST_ROW / 2)) for up, down in zip(above, below, strict=True)]
    top = TOP + STATEMENT * (1 + math.ceil(len(statements) / 2))
    # Whole squares of 5 mm.
    height = math.ceil(sum(up + down for up, down in rows) / 5) * 5
    sheet = Sheet(LEFT + TRACE + RIGHT, top + height + BOTTOM)
    sheet.words(LEFT, TOP - 2, header or part.group.label or f"Group {part.group.index + 1}", 4)
    for index, statement in enumerate(statements):
        sheet.words(LEFT + index % 2 * TRACE / 2, TOP + STATEMENT * (index // 2 + 0.6), statement[:90], 3)
    if part.paper:
        sheet.grid(LEFT, top, TRACE, height)
    y = top
    for index, (up, down) in enumerate(rows):
        _trace(sheet, part, index, y + up, scaled[:, index] * factor, "" if part.paper else gains[index])
        y += up + down
    _places(sheet, said, part, top, height)
    _footer(sheet, part, GAIN * factor, number, count)
    return sheet


def _scaled(part: Part, values: Values) -> tuple[Values, list[str]]:
    """Millimetres upwards, and what each trace spans where there is no common scale."""
    columns = np.clip(values[:, part.low : part.high], -MOST, MOST)
    if part.paper:
        return np.clip(columns * [MILLIVOLTS[one.units] * GAIN for one in part.channels], -FARTHEST, FARTHEST), []
    millimetres, spans = np.empty_like(columns), []
    for index, channel in enumerate(part.channels):
        column = columns[:, index]
        finite = column[np.isfinite(column)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
        spread = high - low
        scale = (PLAIN_ROW - 2) / spread if spread > 0 and math.isfinite(spread) else 0.0
        millimetres[:, index] = (column - (low + high) / 2) * scale
        spans.append(f"{low:.4g} … {high:.4g} {channel.units}".strip())
    return millimetres, spans


def _reaches(scaled: Values, paper: bool) -> tuple[list[float], list[float]]:
    """How far each trace goes above and below its base line, in mm."""
    if not paper or not len(scaled):
        return [PLAIN_ROW / 2] * scaled.shape[1], [PLAIN_ROW / 2] * scaled.shape[1]
    # One spike of a pacemaker, or of a loose electrode, may run into its neighbour.
    safe = np.nan_to_num(scaled, nan=0.0, posinf=0.0, neginf=0.0)
    high, low = np.percentile(safe, 99.95, axis=0), np.percentile(safe, 0.05, axis=0)
    return [max(float(one), 0.0) + 1 for one in high], [max(-float(one), 0.0) + 1 for one in low]


def _trace(sheet: Sheet, part: Part, index: int, base: float, millimetres: Values, span: str) -> None:
    channel = part.channels[index]
    sheet.words(LEFT - 1.5, base + 1, channel.name[:10], 3.2, BLACK, "end")
    if span:
        sheet.words(LEFT + TRACE, base - PLAIN_ROW / 2 + 3, span, 2.6, GREY, "end")
        sheet.stroke(((LEFT, base + PLAIN_ROW / 2), (LEFT + TRACE, base + PLAIN_ROW / 2)), (220, 224, 228), 0.1)
    speed = TRACE / part.seconds
    for points in _strokes(millimetres, speed / part.group.frequency):
        # A hair above and below the sheet is enough to see that it goes on.
        sheet.stroke([(LEFT + channel.skew * speed + x, min(max(base - y, 0.0), sheet.height)) for x, y in points], BLACK, 0.25)


def _strokes(millimetres: Values, step: float) -> Iterator[list[Point]]:
    """Unbroken lines: of many samples to a quarter of a millimetre, the lowest and the highest."""
    many = max(int(0.25 / step), 1)
    if many > 2:
        rows = len(millimetres) // many
        blocks = millimetres[: rows * many].reshape(rows, many)
        with np.errstate(all="ignore"):
            low, high = np.fmin.reduce(blocks, axis=1), np.fmax.reduce(blocks, axis=1)
        falls = (blocks[:, 0] > blocks[:, -1])[:, None]
        millimetres = np.where(falls, np.stack((high, low), axis=1), np.stack((low, high), axis=1)).reshape(-1)
        step = step * many / 2
    there = np.isfinite(millimetres)
    edges = np.flatnonzero(np.diff(np.concatenate(([False], there, [False])).astype(np.int8)))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        yield [(float(at * step), float(millimetres[at])) for at in range(start, stop)]


def _statements(said: tuple[Annotation, ...], part: Part) -> list[str]:
    """What is said of the whole, not of a place in it."""
    return [one.text for one in said if not one.samples and one.group in (-1, part.group.index)][:MOST_STATEMENTS]


def _places(sheet: Sheet, said: tuple[Annotation, ...], part: Part, top: float, height: float) -> None:
    """Marks along the upper edge."""
    speed = TRACE / part.seconds
    for one in said:
        if one.group != part.group.index or not one.samples:
            continue
        for sample in one.samples:
            at = (sample - 1 - part.first) / part.group.frequency
            if 0 <= sample - 1 - part.first < part.count:
                x = LEFT + at * speed
                sheet.stroke(((x, top), (x, top + 3)), MARK, 0.2)
                if len(said) < 60:
                    sheet.words(x + 0.3, top + 3, one.text[:24], 2.0, MARK)


def _footer(sheet: Sheet, part: Part, gain: float, number: int, count: int) -> None:
    """Speed, gain, filters: without them nothing can be measured."""
    start = part.first / part.group.frequency
    words = [f"{SPEED:g} mm/s  {gain:g} mm/mV"] if part.paper else [f"{TRACE / part.seconds:.4g} mm/s"]
    words.append(f"{start:.4g} … {start + part.count / part.group.frequency:.4g} s of {part.group.duration:.4g} s")
    words.append(f"{part.group.frequency:g} samples/s")
    words += sorted({_filters(one) for one in part.channels} - {""})[:3]
    sheet.words(LEFT, sheet.height - 3, "   ".join(words), 3, GREY)
    sheet.words(LEFT + TRACE, sheet.height - 3, f"{number} / {count}", 3, GREY, "end")


def _filters(channel: Channel) -> str:
    low, high, notch = channel.filters
    band = f"{low if low is not None else 0:g} - {high:g} Hz" if high else f"from {low:g} Hz" if low else ""
    return band + (f", without {notch:g} Hz" if notch else "")
