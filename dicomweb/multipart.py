"""multipart/related (RFC 2387, PS3.18 8.6): a bounded push reader for what clients send, and a writer for answers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import multipart as push

from dicomweb.media_types import MediaType
from storage.errors import BadRequest, LimitExceeded

# RFC 2046 5.1.1 allows 70 characters; senders have been seen to exceed that and to use others than bchars.
_BOUNDARY = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,198}[\x21-\x7e])?")
_MOST_HEADERS = 32
# What the parser is given at a time: more than the delimiter and the headers of most parts, less than an image.
_STEP = 1 << 10
_EMPTY_LINE = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class PartLimits:
    """RELIABILITY 14: what one request may bring. `header_bytes` counts all header lines of one part."""

    parts: int = 10_000
    header_bytes: int = 8 << 10


@dataclass(frozen=True, slots=True)
class Part:
    """The beginning of a part: its Content-Type, Content-Location and Content-ID as sent, empty where it has none."""

    content_type: str
    location: str = ""
    identifier: str = ""

    @classmethod
    def of(cls, header: Callable[[str, str], str]) -> Part:
        """From its headers, by name and default."""
        return cls(header("Content-Type", ""), header("Content-Location", ""), header("Content-ID", "").strip("<> "))


class _Parser(push.PushMultipartParser):  # type: ignore[misc]
    """The PyPI parser with form-data's demand for a Content-Disposition taken out and headers bounded together.

    What it parses it copies twice: it is given what stands between contents, and told of these.
    """

    def __init__(self, boundary: str, limits: PartLimits) -> None:
        super().__init__(
            boundary,
            max_header_size=limits.header_bytes,
            max_header_count=_MOST_HEADERS,
            max_segment_count=limits.parts,
        )
        self._header_limit = limits.header_bytes
        self._header_bytes = 0

    def _on_segment_start(self) -> None:
        self._header_bytes = 0
        super()._on_segment_start()

    def _on_segment_headerline(self, line: bytes) -> None:
        self._header_bytes += len(line)
        if self._header_bytes > self._header_limit:
            raise push.ParserLimitReached("the headers of a part are too long")
        super()._on_segment_headerline(line)

    def _create_segment(self, headerlist: list[tuple[str, str]]) -> Any:
        return push.MultipartSegment(headerlist)

    @property
    def finished(self) -> bool:
        return bool(self.closed) or self._state is push._COMPLETE

    def events(self, data: bytes | bytearray, end: int) -> Iterator[Any]:
        """What `parse` yields for the first `end` bytes of `data`, with views of it for most of the contents."""
        at, view = 0, memoryview(data)
        while at < end and not self.finished:
            stop = self._content_end(data, at, end)
            if stop > at:
                yield self._on_segment_payload(view[at:stop])
            else:
                stop = _step_end(data, at, end)
                yield from self.parse(bytes(view[at:stop]))
            at = stop

    def _content_end(self, data: bytes | bytearray, at: int, end: int) -> int:
        """How far from `at` on there is nothing but content; what follows is a delimiter, or may become one."""
        if self._state is not push._BODY or self._buffer:
            return at
        delimiter: bytes = self._delimiter
        found = data.find(delimiter, at, end)
        if found >= 0:
            return found
        begun = data.rfind(b"\r", max(at, end - len(delimiter) + 1), end)
        return begun if begun >= 0 and delimiter.startswith(data[begun:end]) else end


def _step_end(data: bytes | bytearray, at: int, end: int) -> int:
    """Where to stop for a look whether content begins: after an empty line, which is seldom far."""
    end = min(end, at + _STEP)
    found = data.find(_EMPTY_LINE, at, end)
    return end if found < 0 else found + len(_EMPTY_LINE)


class PartReader:
    """Push bytes in, get parts out: for each part a `Part`, then its bytes in pieces, then None.

    Raises BadRequest for what is not multipart and LimitExceeded for too many parts or headers; after that it is dead.
    """

    def __init__(self, boundary: str, limits: PartLimits | None = None) -> None:
        self._limits = limits or PartLimits()
        self._parser = _Parser(boundary, self._limits)

    @property
    def finished(self) -> bool:
        """Whether the closing delimiter has been seen; what follows it (the epilogue) is ignored."""
        return self._parser.finished

    def feed(self, data: bytes | bytearray, size: int | None = None) -> Iterator[Part | bytes | memoryview | None]:
        """The events that `data`, or its first `size` bytes, complete. Consume them all before feeding more.

        A view among them is of `data` itself.
        """
        try:
            for event in self._parser.events(data, len(data) if size is None else size):
                yield Part.of(event.header) if isinstance(event, push.MultipartSegment) else event
        except push.ParserLimitReached as error:
            self._parser.close(check_complete=False)
            raise LimitExceeded(
                f"the request has more than {self._limits.parts} parts, or a part has more than"
                f" {self._limits.header_bytes} bytes of headers; send less at a time"
            ) from error
        except push.MultipartError as error:
            self._parser.close(check_complete=False)
            raise BadRequest(f"the body is not multipart as RFC 2046 5.1 has it ({error}); check its boundary and line ends") from error

    def finish(self) -> None:
        """Say that the body has ended. Raises BadRequest when the closing delimiter is missing."""
        if not self.finished:
            raise BadRequest("the body ends before its closing boundary; send it whole, ending with --boundary--")


def boundary_of(content_type: MediaType) -> str:
    """The boundary of a multipart Content-Type. Raises BadRequest when it is missing or cannot be one."""
    boundary = content_type.parameters.get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise BadRequest("Content-Type has no usable boundary parameter; add boundary=… with 1 to 200 printable characters")
    return boundary


def boundary_for(*content: str) -> str:
    """A boundary that is always the same for the same content, so that Range may cut the answer at any byte.

    `content` includes digests of the bytes that will stand between: bytes that contained a boundary made from
    their own digest would be a fixed point of SHA-256.
    """
    return hashlib.sha256("\n".join(content).encode()).hexdigest()[:40]


def part_head(boundary: str, headers: dict[str, str], *, first: bool) -> bytes:
    """What stands before a part's bytes: delimiter, headers, empty line (RFC 2046 5.1.1)."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{'' if first else chr(13) + chr(10)}--{boundary}\r\n{lines}\r\n".encode("latin-1")


def closing(boundary: str) -> bytes:
    """What stands after the last part's bytes."""
    return f"\r\n--{boundary}--\r\n".encode("latin-1")
