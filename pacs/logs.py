"""Structured logs without patient data: an `action`, plain values and UIDs, one line each, as JSON or for people.

Our own modules choose their words; a library's message may quote the data set or the SQL that it stumbled over, so
of those only the place and the level are kept. The same holds for exceptions: the text of ours is logged, of any
other only its type and where it was raised (RELIABILITY 25).
"""

from __future__ import annotations

import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TextIO

import orjson
import structlog

from storage.errors import LightboxError

Format = Literal["auto", "json", "console"]
_Event = MutableMapping[str, Any]

# Loggers whose words are ours or are known to quote nothing that a client sent.
_TRUSTED = frozenset({"storage", "pacs", "dicomweb", "uvicorn", "alembic"})
# Least levels of libraries that chat; uvicorn's access log shows query strings, and with them patients' names.
_LEVELS = {
    "uvicorn": logging.WARNING,
    "uvicorn.access": logging.CRITICAL + 1,
    "alembic": logging.WARNING,
    "asyncio": logging.WARNING,
    "botocore": logging.WARNING,
    "boto3": logging.WARNING,
    "urllib3": logging.WARNING,
    "s3transfer": logging.WARNING,
    "sqlalchemy": logging.WARNING,
    "pydicom": logging.WARNING,
    "pynetdicom": logging.ERROR,
}
# C0, DEL, C1, line and paragraph separators, direction overrides, lone surrogates: what could forge or hide a line.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_LONGEST = 2000
_FIRST = ("time", "level", "action")
_ROOT = Path(__file__).resolve().parent.parent


def configure(
    process: str, *, format: Format = "auto", level: str = "info", stream: TextIO | None = None
) -> None:
    """Send every log of this process, the standard library's too, to `stream` (standard error) in one shape.

    `process` is the kind of process, put on every line beside its pid.
    """
    out = stream or sys.stderr
    console = format == "console" or (format == "auto" and out.isatty())
    least = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(_formatter(process, console, colors=console and out.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(least)
    for name, floor in _LEVELS.items():
        quiet = logging.getLogger(name)
        quiet.handlers.clear()
        quiet.propagate = True
        quiet.setLevel(max(floor, least))
    warnings.showwarning = _warned


def escaped(text: str) -> str:
    """`text` on one line: control characters as escapes, and no longer than is useful."""
    shown = _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode("ascii"), text)
    return shown if len(shown) <= _LONGEST else shown[:_LONGEST] + "…"


def described(error: BaseException) -> str:
    """What may be said of `error` in a log: our own words, an operating system's reason, else the type alone."""
    if isinstance(error, LightboxError):
        return f"{type(error).__name__}: {error}"
    if isinstance(error, OSError) and error.strerror:
        return f"{type(error).__name__}: {error.strerror}"
    return type(error).__name__


def _warned(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A Python warning, without its words: pydicom's quote the values that they complain of."""
    structlog.get_logger("pacs.logs").warning(
        "python.warning", category=category.__name__, at=_place(filename, lineno)
    )


def _console(colors: bool) -> Any:
    return structlog.dev.ConsoleRenderer(
        colors=colors, event_key="action", timestamp_key="time", sort_keys=False
    )


def _formatter(process: str, console: bool, colors: bool) -> logging.Formatter:
    identity = {"process": process, "pid": os.getpid()}

    def identify(_logger: Any, _method: str, event: _Event) -> _Event:
        return {**event, **identity}

    render: Any = _console(colors) if console else _json
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder(), structlog.stdlib.add_log_level, _foreign],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            identify,
            _error,
            _named,
            _one_line,
            render,
        ],
    )


def _foreign(_logger: Any, _method: str, event: _Event) -> _Event:
    """A record of the standard library: its words if its logger is trusted, else only where it came from."""
    record: logging.LogRecord = event["_record"]
    text = str(event.pop("event", "")).strip()
    event.setdefault("action", record.name)
    if record.name.partition(".")[0] in _TRUSTED:
        event["message"] = text
    else:
        event["message"] = "withheld, for it may quote patient data"
        event["at"] = f"{record.module}:{record.lineno}"
    if record.exc_info:
        event["exc_info"] = record.exc_info
    return event


def _named(_logger: Any, _method: str, event: _Event) -> _Event:
    if "event" in event:
        event["action"] = event.pop("event")
    return {**{key: event[key] for key in _FIRST if key in event}, **event}


def _error(_logger: Any, _method: str, event: _Event) -> _Event:
    found = event.pop("exc_info", None)
    if found is True:
        found = sys.exc_info()
    error = found[1] if isinstance(found, tuple) else found
    event.pop("stack_info", None)
    if isinstance(error, BaseException):
        event["error"] = " <- ".join(described(one) for one in _chain(error))
        event["trace"] = [line for one in _chain(error) for line in _frames(one.__traceback__)]
    return event


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception, then what caused it, and so on; an endless circle is cut."""
    current: BaseException | None = error
    for _ in range(8):
        if current is None:
            return
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def _frames(trace: TracebackType | None) -> Iterator[str]:
    for frame in traceback.extract_tb(trace):
        yield f"{_place(frame.filename, frame.lineno)} {frame.name}"


def _place(filename: str, lineno: int | None) -> str:
    path = Path(filename)
    shown = path.relative_to(_ROOT) if path.is_relative_to(_ROOT) else Path(*path.parts[-2:])
    return f"{shown}:{lineno}"


def _one_line(_logger: Any, _method: str, event: _Event) -> _Event:
    return {key: _plain(value) for key, value in event.items()}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return escaped(value)
    if isinstance(value, BaseException):
        return escaped(described(value))
    if isinstance(value, dict):
        return {escaped(str(key)): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in value]
    return escaped(str(value))


def _json(_logger: Any, _method: str, event: _Event) -> str:
    # Integers beyond 64 bits and the like must not cost the line.
    return orjson.dumps(dict(event), default=str).decode("utf-8")
