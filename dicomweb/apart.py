"""Foreign documents and videos are taken apart by a process of their own, with limits: what it does wrong is one request's error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from storage.errors import CannotDecode, Unavailable

# How a child ends that has a sentence to say instead of a result (sysexits.h: EX_DATAERR).
REFUSED: Final = 65
_START: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); from dicomweb.apart_child import main; main(*sys.argv[2:])"
)
_ROOT: Final = str(Path(__file__).resolve().parents[1])
# The child needs nothing of our environment, and shall not see its secrets.
_KEPT: Final = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "SYSTEMROOT")
# How long a request may wait for its turn, and how many have theirs at the same time.
_WAIT: Final = 30.0
_AT_ONCE: Final = max(1, min(4, os.cpu_count() or 1))
_turns = threading.BoundedSemaphore(_AT_ONCE)


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds, bytes of memory, and bytes of the result."""

    seconds: float = 20.0
    memory: int = 1 << 30
    result: int = 256 << 20


@dataclass(frozen=True, slots=True)
class Result:
    """What the child found out, and the bytes that it made."""

    about: Mapping[str, Any]
    content: bytes


def run_apart(
    task: str, content: Iterable[bytes], asked: Mapping[str, Any], folder: Path, limits: Limits | None = None
) -> Result:
    """The result of `task` (a name in `apart_child.TASKS`) over `content`, which is copied to a file without a name in `folder`.

    Raises CannotDecode, with the child's own sentence where it had one, and Unavailable where no turn comes.
    """
    limits = limits or Limits()
    if not _turns.acquire(timeout=_WAIT):
        raise Unavailable(f"every process for documents and videos has been busy for {_WAIT:g} s; ask again later")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as given, tempfile.TemporaryFile(dir=folder) as made:
            for piece in content:
                given.write(piece)
            given.flush()
            given.seek(0)
            status = _child(task, asked, given, made, limits)
            made.seek(0)
            return _result(status, made)
    finally:
        _turns.release()


def _child(task: str, asked: Mapping[str, Any], given: IO[bytes], made: IO[bytes], limits: Limits) -> int:
    words = [task, json.dumps(asked), str(limits.memory), str(limits.result), str(int(limits.seconds) + 1)]
    child = subprocess.Popen(  # noqa: S603 - our own interpreter, our own words
        [sys.executable, "-s", "-c", _START, _ROOT, *words],
        stdin=given,
        stdout=made,
        stderr=subprocess.DEVNULL,
        env={name: os.environ[name] for name in _KEPT if name in os.environ} | {"OPENBLAS_NUM_THREADS": "1"},
        start_new_session=True,
    )
    try:
        return child.wait(limits.seconds)
    except subprocess.TimeoutExpired as error:
        raise CannotDecode(f"it takes longer than the {limits.seconds:g} s that are allowed; it is damaged, or too much") from error
    finally:
        child.kill()
        child.wait()


def _result(status: int, made: IO[bytes]) -> Result:
    """A line of JSON, then the bytes."""
    if status == REFUSED:
        raise CannotDecode(made.read(4096).decode("utf-8", "replace"))
    if status:
        raise CannotDecode("the process that read it has crashed or run out of memory; it is damaged, or too much")
    try:
        about = json.loads(made.readline(1 << 20))
    except ValueError as error:
        raise CannotDecode("the process that read it has made nothing of it; it is damaged") from error
    return Result(about, made.read())
