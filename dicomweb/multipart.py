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
    """The PyPI parser with form-data's demand for a Content-Disposition taken out and headers bounded together."""

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
        return bool(self._parser.closed) or self._parser._state is push._COMPLETE

    def feed(self, data: bytes | bytearray) -> Iterator[Part | bytes | None]:
        """The events that `data` completes. Consume them all before feeding more."""
        if not data or self.finished:
            return
        try:
            for event in self._parser.parse(data):
                yield Part.of(event.header) if isinstance(event, push.MultipartSegment) else event
        except push.ParserLimitReached as error:
            raise LimitExceeded(
                f"the request has more than {self._limits.parts} parts, or a part has more than"
                f" {self._limits.header_bytes} bytes of headers; send less at a time"
            ) from error
        except push.MultipartError as error:
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
