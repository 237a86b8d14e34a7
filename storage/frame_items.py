"""The items of frames that a pass is reading, set aside in parts as they end: however many there are, few are in memory as they were read."""

from __future__ import annotations

from typing import Any

from storage.errors import LimitExceeded
from storage.item_parts import ITEMS, ItemParts, chunks, part_of
from storage.levels import Limits


class FrameItems:
    """What is set aside of the Per-Frame Functional Groups Sequence of the top data set (PS3.3 C.7.6.16).

    There may be as many items as the data set has frames, and so of elements: what counts against the limits is what each part
    takes when it is compressed. Items beyond the last frame, and those that refer to bulk data, whose address is not known yet,
    count as anything else does.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._parts: list[bytes | list[Any]] = []
        self._room = self._elements = 0
        # What had been counted when the present part began: elements, bytes of values, references to bulk data.
        self._before = (0, 0, 0)
        self.set_aside = 0

    def begin(self, frames: int, count: int, value_bytes: int, references: int) -> None:
        """The sequence begins, of a data set that says it has so many frames. Of several the last is the one that counts."""
        # Those of sequences before take from the same room.
        self._room = min(frames, self._limits.frames) - self.set_aside
        self._parts = []
        self._before = (count, value_bytes, references)

    def take(self, items: list[Any], count: int, value_bytes: int, references: int) -> tuple[int, int]:
        """ITEMS items have ended: they are set aside, and `items` is empty. What then counts of elements, and of bytes of values.

        Raises LimitExceeded.
        """
        if self._room < ITEMS:
            return count, value_bytes
        self._room -= ITEMS
        self.set_aside += ITEMS
        if references == self._before[2]:
            part = part_of(items, first=not self._parts)
            self._parts.append(part)
            self._elements += count - self._before[0]
            count, value_bytes = self._before[0], self._before[1] + len(part)
            if self._elements > self._limits.frame_elements:
                raise LimitExceeded(f"the functional groups of its frames have more than {self._limits.frame_elements} elements")
        else:
            self._parts.append(items.copy())
        items.clear()
        self._before = (count, value_bytes, references)
        return count, value_bytes

    def ended(self, items: list[Any]) -> None:
        """The sequence has ended, with these items behind those that were set aside: if there were any, they come to them."""
        if self._parts:
            self._parts.extend(map(list, chunks(items)))
            items.clear()

    def parts(self) -> ItemParts:
        """What was set aside, with everything that is referred to named by now."""
        last = self._parts[-1]
        count = (len(self._parts) - 1) * ITEMS + (ITEMS if isinstance(last, bytes) else len(last))
        return ItemParts(tuple(part if isinstance(part, bytes) else part_of(part, first=not number) for number, part in enumerate(self._parts)), count)
