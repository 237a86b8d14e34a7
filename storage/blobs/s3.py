"""Objects in an S3 bucket: written on condition, verified by checksum, read by range.

A success means that the server has answered with the SHA-256 that we sent, or, where it keeps none, with the MD5 of our
bytes as ETag; where it has neither, the object is read back. The signature covers the SHA-256 of each body, so a
server refuses bytes that were damaged on their way.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from storage.blobs.keys import Present, check_range, checked
from storage.blobs.s3_calls import CONNECT_SECONDS, READ_SECONDS, call, code, is_precondition
from storage.blobs.s3_reading import S3Stream, look, open_range, read_all
from storage.blobs.s3_writing import put_parts, put_whole
from storage.errors import ObjectMissing, StoreUnavailable
from storage.types import Blob, Content

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2RequestTypeDef

# Above this an object is sent in parts.
LARGE = 64 << 20

# How often a key may change under us (removed, or written by another) before we give up.
_ATTEMPTS = 4


class _Answer(Enum):
    """What came of a write."""

    CONFIRMED = auto()
    PRESENT = auto()
    OTHER_BYTES = auto()
    NO_CONDITIONS = auto()


class S3Blobs:
    """The object-store port over a bucket, below `prefix`. Thread-safe."""

    spool_folder = None

    def __init__(self, client: S3Client, bucket: str, prefix: str = "", *, large: int = LARGE) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._large = large
        # Some servers have not learnt `If-None-Match` on writes; then we look before we write.
        self._conditional = True

    def put(self, key: str, content: Content, *, replace: bool = False) -> bool:
        name = self._name(key)
        # Before a large upload too: better to read an object than to send it for nothing.
        look_first = content.size > self._large or not self._conditional
        for _ in range(_ATTEMPTS):
            if look_first and not replace:
                present = self._look(name, content)
                if present is Present.SOUND:
                    return False
                replace = present is Present.DAMAGED
            answer = self._write(name, content, only_new=not replace and self._conditional)
            if answer is _Answer.CONFIRMED:
                return True
            look_first, replace = True, answer is _Answer.OTHER_BYTES
        raise StoreUnavailable(f"the object store could not write the object {key}: it does not hold what was sent")

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        check_range(offset, length)
        name, doing = self._name(key), f"read the object {key}"
        return call(doing, lambda: read_all(open_range(self._client, self._bucket, name, offset, length, doing)))

    def resident(self, key: str, offset: int, length: int) -> bytes | None:
        return None

    def opened(self, key: str) -> None:
        return None

    def stream(self, key: str, offset: int = 0, length: int | None = None, *, fresh: bool = False) -> S3Stream:
        check_range(offset, length)
        name, doing = self._name(key), f"read the object {key}"
        return call(doing, lambda: open_range(self._client, self._bucket, name, offset, length, doing))

    def delete(self, key: str) -> None:
        name = self._name(key)
        try:
            call(f"delete the object {key}", lambda: self._client.delete_object(Bucket=self._bucket, Key=name))
        except ObjectMissing:
            return

    def list(self, prefix: str = "") -> Iterator[Blob]:
        request: ListObjectsV2RequestTypeDef = {"Bucket": self._bucket, "Prefix": self._prefix + prefix}
        while True:
            page = call("list its objects", lambda: self._client.list_objects_v2(**request))
            for found in page.get("Contents", []):
                yield Blob(found["Key"].removeprefix(self._prefix), found["Size"], found["LastModified"])
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    def ping(self) -> None:
        """Raises StoreUnavailable unless the bucket answers."""
        try:
            call("reach its bucket", lambda: self._client.head_bucket(Bucket=self._bucket))
        except ObjectMissing as error:
            raise StoreUnavailable(f"the bucket {self._bucket} does not exist; make it or correct PACS_STORE_URL") from error

    def close(self) -> None:
        """Close the connections; the store cannot be used afterwards."""
        self._client.close()

    def _name(self, key: str) -> str:
        return self._prefix + checked(key)

    def _look(self, name: str, content: Content) -> Present:
        return call(f"read the object {name}", lambda: look(self._client, self._bucket, name, content))

    def _write(self, name: str, content: Content, *, only_new: bool) -> _Answer:
        try:
            if content.size > self._large:
                confirmed = put_parts(self._client, self._bucket, name, content, only_new=only_new)
            else:
                confirmed = call(
                    f"write the object {name}",
                    lambda: put_whole(self._client, self._bucket, name, content, only_new=only_new),
                )
        except ClientError as error:
            if is_precondition(error):
                return _Answer.PRESENT
            raise
        except StoreUnavailable as error:
            if only_new and isinstance(error.__cause__, ClientError) and code(error.__cause__) == "NotImplemented":
                self._conditional = False
                return _Answer.NO_CONDITIONS
            raise
        # A server that gives neither checksum nor MD5 (one that encrypts, say) is asked for the bytes themselves.
        if confirmed or self._look(name, content) is Present.SOUND:
            return _Answer.CONFIRMED
        return _Answer.OTHER_BYTES


def open_s3(
    bucket: str,
    prefix: str,
    *,
    endpoint_url: str | None,
    access_key_id: str | None,
    secret_access_key: str | None,
    region: str | None,
    connections: int,
) -> S3Blobs:
    """A store over `connections` kept connections. Asks the server nothing yet."""
    client = boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        aws_access_key_id=access_key_id,
        aws_secret_access_key=secret_access_key,
        # Servers other than AWS want some region in the signature and do not care which.
        region_name=region or (boto3.session.Session().region_name or "us-east-1"),
        config=Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            # Retries are ours: only we know how long the caller can wait.
            retries={"total_max_attempts": 1, "mode": "standard"},
            max_pool_connections=connections,
            tcp_keepalive=True,
            signature_version="s3v4",
            request_checksum_calculation="when_required",
            response_checksum_validation="when_supported",
            # `bucket.host` needs wildcard DNS, which other servers than AWS seldom have.
            s3={"addressing_style": "path" if endpoint_url else "auto", "payload_signing_enabled": True},
        ),
    )
    return S3Blobs(client, bucket, prefix)
