"""What the scanner's one pass keeps about where it is: limits, the data sets and sequences it is inside, pixel data found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from storage.alike import Alike
from storage.charsets import Charset
from storage.fragments import Fragments
from storage.per_frame import PER_FRAME_GROUPS
from storage.values import Text

# What the codes of odd values mean, for people.
ODD = {
    "unreadable-text": "text that its character set cannot explain",
    "bad-number": "an integer or decimal string that is not a number",
    "bad-length": "a value whose length does not fit its VR",
    "bad-fragments": "the fragments of pixel data are not delimited",
    "truncated": "the data ends inside the pixel data",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a header is read; `inline_bytes` is what the JSON carries rather than refers to.

    `elements` are those that are in memory as they were read. Those of the functional groups that frames have of their own are not
    (`storage.frame_items`): a slide of 300,000 tiles has four million. They have limits of their own, and of a data set with them
    `header_bytes` counts what they take when they are compressed.
    """

    depth: int = 64
    elements: int = 200_000
    header_bytes: int = 64 << 20
    frames: int = 1_000_000
    frame_elements: int = 20_000_000
    fragments: int = 1_000_000
    inflation_ratio: int = 200
    inflated_bytes: int = 1 << 30
    inline_bytes: int = 1024


@dataclass(frozen=True, slots=True)
class Pixels:
    """The pixel data element: its value's place, and its fragments (the first is the Basic Offset Table) if encapsulated."""

    tag: int
    offset: int
    length: int
    fragments: Fragments | None = None


class DataSet:
    """A data set being read: the top one, or an item of a sequence."""

    __slots__ = ("charset", "creators", "defined", "end", "explicit", "little", "path", "signed", "text", "values")

    def __init__(self, end: int, defined: bool, explicit: bool, little: bool, charset: Charset, signed: bool, path: str) -> None:
        self.values: dict[str, Any] = {}
        self.end, self.defined = end, defined
        self.explicit, self.little = explicit, little
        self.charset, self.text = charset, Text(charset, little)
        self.signed, self.path = signed, path
        self.creators: dict[int, str] = {}


class SequenceLevel:
    """A sequence being read: its items so far, but for those that were set aside before them, and what they inherit."""

    __slots__ = ("alike", "defined", "end", "explicit", "items", "key", "little", "of_frames", "owner", "set_aside")

    def __init__(self, owner: DataSet, key: str, items: list[Any], end: int, defined: bool, explicit: bool, little: bool) -> None:
        self.owner, self.key, self.items = owner, key, items
        self.end, self.defined = end, defined
        self.explicit, self.little = explicit, little
        self.of_frames = key == PER_FRAME_GROUPS and not owner.path
        self.set_aside = 0
        self.alike: Alike | None = None
