"""Answers about one instance that took work to make, kept whole: asked again, they cost neither a thread nor a parser."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace

from dicomweb.bodies import CACHE_CONTROL, unchanged
from dicomweb.exchange import Answer, Call, Reader
from dicomweb.frames import scope_of
from dicomweb.kept import Kept
from dicomweb.layouts import Layouts
from storage.index import Layout
from storage.index.presets import KnownPresets

# What of a request its answer depends on, beside its URL. Others (Range, validators) make answers of another shape.
_HEADERS = ("accept",)
_SHAPING = ("range", "if-none-match", "if-match", "if-modified-since", "if-range")


class Remembered:
    """A reader, and what it answered. `alone(layout)` says whether an answer depends on nothing but the instance named.

    The key has the digest of the instance and the revision of the presets: what is kept cannot be wrong, and whether the instance is still there is asked as
    for frames (`Layouts`).
    """

    def __init__(
        self, read: Reader, layouts: Layouts, alone: Callable[[Call, Layout], bool], presets: KnownPresets, *, max_bytes: int
    ) -> None:
        self._read = read
        self._layouts = layouts
        self._alone = alone
        self._presets = presets
        self._kept: Kept[Answer] = Kept(max_bytes, _size)

    def __call__(self, call: Call) -> Answer:
        """The reader's answer, kept where it is a whole one."""
        basis = self._presets.basis
        answer = self._read(call)
        # What was drawn while a preset was changed may be of either.
        if basis != self._presets.basis:
            return answer
        if call.method == "GET" and answer.status == 200 and isinstance(answer.body, tuple) and not _shaped(call):
            layout = self._layouts.at_hand(scope_of(call)) if "instance" in call.path else None
            if layout is not None and self._alone(call, layout):
                self._kept.keep(_key(call, layout, basis), answer)
        return answer

    def at_hand(self, call: Call) -> Answer | None:
        """What is kept, without waiting for anything; None where there is nothing."""
        if call.method != "GET" or "instance" not in call.path or "range" in call.headers:
            return None
        layout, basis = self._layouts.at_hand(scope_of(call)), self._presets.basis_at_hand
        answer = self._kept.get(_key(call, layout, basis)) if layout is not None and basis is not None else None
        if answer is None or not unchanged(call, answer.headers["ETag"]):
            return answer
        validators = {"ETag": answer.headers["ETag"], "Cache-Control": CACHE_CONTROL, "Vary": "Accept"}
        return replace(answer, status=304, headers=validators, body=())


def _shaped(call: Call) -> bool:
    return any(name in call.headers for name in _SHAPING)


def _key(call: Call, layout: Layout, basis: int) -> Hashable:
    headers = tuple(call.headers.get(name, "") for name in _HEADERS)
    return layout.located.sha256, basis, tuple(sorted(call.path.items())), call.query, headers, call.mount, call.root


def _size(answer: Answer) -> int:
    return sum(map(len, answer.body)) if isinstance(answer.body, tuple) else 0
