"""Dates and times as text that sorts: what a DA, TM or DT value says, however it is written (PS3.5 6.2)."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone
from typing import NamedTuple

# ACR-NEMA 2.0 wrote 2004.01.19 and 10:20:30 (PS3.5 6.2 notes); some devices write dates with hyphens or slashes.
_DATE = re.compile(r"(\d{4})([./-]?)(\d{2})\2(\d{2})")
_TIME = re.compile(r"(\d{2})(?:(:?)(\d{2})(?:\2(\d{2})(?:\.(\d{1,6}))?)?)?")
_DATETIME = re.compile(
    r"(\d{4})(\d{2})?(\d{2})?(\d{2})?(\d{2})?(\d{2})?(?:\.(\d{1,6}))?([+-](?:0\d|1[0-4])\d{2})?"
)


class Span(NamedTuple):
    """The earliest and latest moment that a value of limited precision may mean; both included, as sortable text."""

    low: str
    high: str


class Moment(NamedTuple):
    """A DT value: its span as YYYYMMDDHHMMSS.FFFFFF, in UTC when `offset` says so, else in local time."""

    low: str
    high: str
    offset: bool


def date_key(text: str) -> str | None:
    """`YYYYMMDD`, or None for what is no date of the calendar."""
    found = _DATE.fullmatch(text)
    if not found:
        return None
    year, _, month, day = found.groups()
    try:
        date(int(year), int(month), int(day))
    except ValueError:
        return None
    return f"{year}{month}{day}"


def time_span(text: str) -> Span | None:
    """`HHMMSS.FFFFFF` of the first and the last moment meant (`10` is the whole hour); None for what is no time."""
    found = _TIME.fullmatch(text)
    if not found:
        return None
    hour, _, minute, second, fraction = found.groups()
    if int(hour) > 23 or int(minute or 0) > 59 or int(second or 0) > 60:
        return None
    low = f"{hour}{minute or '00'}{second or '00'}.{(fraction or '').ljust(6, '0')}"
    high = f"{hour}{minute or '59'}{second or '59'}.{(fraction or '').ljust(6, '9')}"
    return Span(low, high)


def time_key(text: str) -> str | None:
    """The moment at which a stored time is filed: what it leaves out is zero."""
    span = time_span(text)
    return span.low if span else None


def moment(text: str) -> Moment | None:
    """A DT value with what it leaves out filled from below and from above; None for what is no date and time."""
    found = _DATETIME.fullmatch(text)
    if not found:
        return None
    *parts, fraction, offset = found.groups()
    given = [part for part in parts if part is not None]
    if fraction is not None and len(given) < 6:
        return None
    try:
        year, month, day, hour, minute, second = _filled(given)
        low = datetime(year, month, day, hour, minute, second)
        high = low if len(given) == 6 else _last(low, len(given))
        low = low.replace(microsecond=int((fraction or "").ljust(6, "0")))
        high = high.replace(microsecond=int((fraction or "").ljust(6, "9")))
        zone = _zone(offset)
        return Moment(_sortable(low, zone), _sortable(high, zone), zone is not None)
    except (ValueError, OverflowError):
        return None


def _filled(given: list[str]) -> list[int]:
    numbers = [int(part) for part in given]
    # A leap second is filed under the last whole one: datetime has no 60.
    if len(numbers) == 6 and numbers[5] == 60:
        numbers[5] = 59
    return numbers + [1, 1, 1, 0, 0, 0][len(numbers) :]


def _last(low: datetime, parts: int) -> datetime:
    """The last second of the year, month, day, hour or minute that begins at `low`."""
    if parts == 1:
        return low.replace(month=12, day=31, hour=23, minute=59, second=59)
    if parts == 2:
        following = low.replace(day=28) + timedelta(days=4)
        return following.replace(day=1, hour=23, minute=59, second=59) - timedelta(days=1)
    if parts == 3:
        return low.replace(hour=23, minute=59, second=59)
    return low.replace(minute=59, second=59) if parts == 4 else low.replace(second=59)


def _zone(offset: str | None) -> timezone | None:
    if offset is None:
        return None
    minutes = int(offset[1:3]) * 60 + int(offset[3:])
    return timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes))


def _sortable(when: datetime, zone: timezone | None) -> str:
    if zone is not None:
        when = when.replace(tzinfo=zone).astimezone(UTC)
    return f"{when.year:04d}{when:%m%d%H%M%S.%f}"
