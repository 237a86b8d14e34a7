"""The process that reads a foreign document or video: from standard input to standard output, within limits, then it ends."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import IO, Any, Final, NamedTuple

REFUSED: Final = 65


class Refusal(Exception):
    """A sentence on why there is no result."""


class Made(NamedTuple):
    """What is known of the result, for JSON, and its bytes."""

    about: Mapping[str, Any]
    content: bytes | memoryview


Task = Callable[[IO[bytes], Mapping[str, Any]], Made]
# Name -> module and function: loaded here and nowhere else, so that no server process has the libraries in it.
TASKS: Final = {
    "pdf page": ("dicomweb.apart_pdf", "draw_page"),
    "pdf text": ("dicomweb.apart_pdf", "read_text"),
    "video frame": ("dicomweb.apart_video", "draw_frame"),
    "video mp4": ("dicomweb.apart_video", "as_mp4"),
    "film": ("dicomweb.apart_video", "film"),
}


def main(task: str, asked: str, memory: str, result: str, seconds: str) -> None:
    """Do one task and end; the status says how."""
    _limit(int(memory), int(result), int(seconds))
    module, name = TASKS[task]
    out = sys.stdout.buffer
    try:
        do: Task = getattr(import_module(module), name)
        made = do(sys.stdin.buffer, json.loads(asked))
    except (Refusal, ModuleNotFoundError, MemoryError) as error:
        out.write((str(error) or "it needs more memory than is allowed").encode("utf-8", "replace")[:4096])
        out.flush()
        sys.exit(REFUSED)
    out.write(json.dumps(made.about).encode() + b"\n")
    out.write(made.content)
    out.flush()


def _limit(memory: int, result: int, seconds: int) -> None:
    """No core dumps with patients in them, no file longer than the result may be, no more processor than time."""
    for kind, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, result),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_AS, memory),
    ):
        _, highest = resource.getrlimit(kind)
        wanted = value if highest == resource.RLIM_INFINITY else min(value, highest)
        try:
            resource.setrlimit(kind, (wanted, wanted))
        except (ValueError, OSError):
            # macOS does not bound address space; the time limit still holds there.
            if kind != resource.RLIMIT_AS:
                raise
