"""Costs that are counted and not timed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from sqlalchemy import event

from storage.index import Index


def bytecodes(call: Callable[[], Any]) -> int:
    """How many instructions of Python's own machine a call takes, the same on each run."""
    count = 0

    def trace(frame: FrameType, what: str, _argument: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if what == "opcode":
            count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


@contextmanager
def statements(index: Index) -> Iterator[list[str]]:
    """What the database is asked during the block, transactions aside."""
    said: list[str] = []
    engine = index.database.engine

    def checked_out(connection: Any, _record: Any, _proxy: Any) -> None:
        connection.set_trace_callback(said.append)

    def executed(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        said.append(statement)

    listened = (engine, "checkout", checked_out) if index.database.sqlite else (engine, "before_cursor_execute", executed)
    event.listen(*listened)
    found: list[str] = []
    try:
        yield found
    finally:
        event.remove(*listened)
        # What FTS5 asks for itself, when a connection first looks into it, is not ours.
        own = (one for one in said if "study_text_config" not in one)
        found += [one for one in own if not one.startswith(("BEGIN", "ROLLBACK", "PRAGMA", "--"))]


def steps_of_sqlite(index: Index, call: Callable[[], Any]) -> int:
    """How many instructions SQLite's machine takes for a call."""
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    def checked_out(connection: Any, _record: Any, _proxy: Any) -> None:
        connection.set_progress_handler(step, 1)

    event.listen(index.database.engine, "checkout", checked_out)
    try:
        call()
    finally:
        event.remove(index.database.engine, "checkout", checked_out)
    return count
