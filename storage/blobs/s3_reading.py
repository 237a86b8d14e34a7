"""Reading from S3: all of what was asked for, or an error; never a short answer taken for a whole one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from botocore.exceptions import ClientError, IncompleteReadError

from storage.blobs.keys import PIECE, Present
from storage.blobs.s3_calls import FAILURES, code, failure
from storage.errors import StoreUnavailable
from storage.types import Content

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class _Body(Protocol):
    def read(self, amt: int | None = None) -> bytes: ...
    def close(self) -> None: ...


class S3Stream:
    """Pieces of an answer's body. Raises StoreUnavailable in the middle rather than end before `expected` bytes."""

    def __init__(self, body: _Body | None, expected: int, doing: str) -> None:
        """`body` is None for an empty range; `doing` completes "the object store could not …"."""
        self._body = body
        self._expected = expected
        self._got = 0
        self._doing = doing

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            piece = self.piece()
        except FAILURES as error:
            self.close()
            raise failure(error, self._doing) from error
        if not piece:
            raise StopIteration
        return piece

    def piece(self) -> bytes:
        """The next piece, b"" at the end. Raises what boto3 raises, for callers who can ask again."""
        if self._body is None:
            return b""
        # At the end read once more: only then does boto3 compare the checksum that some servers send.
        piece = self._body.read(min(PIECE, self._expected - self._got) or 1)
        self._got += len(piece)
        if not piece:
            self.close()
            if self._got != self._expected:
                raise IncompleteReadError(actual_bytes=self._got, expected_bytes=self._expected)
        return piece

    def close(self) -> None:
        """Give the connection up; whoever goes on reading is at the end."""
        if self._body is not None:
            self._body.close()
            self._body = None

    def __del__(self) -> None:
        self.close()


def open_range(
    client: S3Client, bucket: str, name: str, offset: int, length: int | None, doing: str
) -> S3Stream:
    """The range as a stream whose first byte is known to be the right one. Raises what boto3 raises."""
    if length == 0:
        client.head_object(Bucket=bucket, Key=name)
        return S3Stream(None, 0, doing)
    try:
        if offset == 0 and length is None:
            answer = client.get_object(Bucket=bucket, Key=name)
        else:
            last = "" if length is None else offset + length - 1
            answer = client.get_object(Bucket=bucket, Key=name, Range=f"bytes={offset}-{last}")
    except ClientError as error:
        # The range begins at or after the end of the object.
        if code(error) in ("InvalidRange", "416"):
            return S3Stream(None, 0, doing)
        raise
    _check_start(answer, offset, length, doing)
    return S3Stream(answer["Body"], answer["ContentLength"], doing)


def look(client: S3Client, bucket: str, name: str, content: Content) -> Present:
    """What is under `name`, by reading all of it: a checksum that the server keeps says what once came, not what is.

    Raises what boto3 raises.
    """
    try:
        answer = client.get_object(Bucket=bucket, Key=name)
    except ClientError as error:
        if code(error) in ("NoSuchKey", "404"):
            return Present.NOTHING
        raise
    stream = S3Stream(answer["Body"], answer["ContentLength"], f"read the object {name}")
    try:
        if answer["ContentLength"] != content.size:
            return Present.DAMAGED
        digest = hashlib.sha256()
        for piece in iter(stream.piece, b""):
            digest.update(piece)
    finally:
        stream.close()
    return Present.SOUND if digest.hexdigest() == content.sha256 else Present.DAMAGED


def read_all(stream: S3Stream) -> bytes:
    """Everything that is left in the stream. Raises what boto3 raises."""
    try:
        return b"".join(iter(stream.piece, b""))
    finally:
        stream.close()


def _check_start(answer: GetObjectOutputTypeDef, offset: int, length: int | None, doing: str) -> None:
    """A server or a proxy that does not know ranges answers with the whole object."""
    if offset == 0 and length is None:
        return
    found = _CONTENT_RANGE.fullmatch(answer.get("ContentRange", ""))
    if found is None or int(found[1]) != offset or (length is not None and int(found[2]) >= offset + length):
        answer["Body"].close()
        raise StoreUnavailable(f"the object store could not {doing}: it does not answer with the range that was asked for")
