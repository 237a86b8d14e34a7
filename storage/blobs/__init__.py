"""Where objects are kept: files, S3 or memory, behind the one port `storage.types.Blobs`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from storage.blobs.files import FileBlobs
from storage.blobs.keys import is_key
from storage.blobs.memory import MemoryBlobs

if TYPE_CHECKING:
    from storage.blobs.s3 import S3Blobs

# Bucket names as AWS allows them; older servers also had capitals and underscores.
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")


def open_blobs(
    url: str,
    *,
    s3_endpoint_url: str | None = None,
    s3_access_key_id: str | None = None,
    s3_secret_access_key: str | None = None,
    s3_region: str | None = None,
    s3_connections: int = 32,
) -> FileBlobs | S3Blobs | MemoryBlobs:
    """The store at `url`: `file:PATH`, `s3://BUCKET/PREFIX` or `memory:`.

    Without keys S3 takes its credentials from where every AWS client does. A folder is made and tried at once; a
    bucket is not asked until it is used. Raises ValueError for a URL that names no store, StoreUnavailable or
    StoreFull for a folder that cannot be used.
    """
    if url.startswith("file:"):
        return FileBlobs(_folder(url))
    if url == "memory:":
        return MemoryBlobs()
    if url.startswith("s3://"):
        # Here, because importing boto3 takes a third of a second that an archive on files need not wait.
        from storage.blobs.s3 import open_s3

        bucket, prefix = _bucket_and_prefix(url)
        return open_s3(
            bucket,
            prefix,
            endpoint_url=s3_endpoint_url or None,
            access_key_id=s3_access_key_id or None,
            secret_access_key=s3_secret_access_key or None,
            region=s3_region or None,
            connections=s3_connections,
        )
    raise ValueError(f"{url!r} names no object store; use file:PATH, s3://BUCKET/PREFIX or memory:")


def _folder(url: str) -> Path:
    """`file:relative`, `file:/absolute` and `file:///absolute`; the path is taken as it is, nothing is decoded."""
    path = url.removeprefix("file:")
    if path.startswith("//"):
        path = path.removeprefix("//")
        if not path.startswith("/"):
            raise ValueError(f"{url!r} names a host; a store of files is on this machine: use file:/PATH")
    if not path.strip("/"):
        raise ValueError(f"{url!r} names no folder; use file:PATH")
    return Path(path)


def _bucket_and_prefix(url: str) -> tuple[str, str]:
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    prefix = prefix.strip("/")
    if _BUCKET.fullmatch(bucket) is None:
        raise ValueError(f"{url!r} names no bucket; use s3://BUCKET/PREFIX with 3 to 63 letters, digits, '.', '-', '_'")
    if prefix and not is_key(prefix):
        raise ValueError(f"{url!r} has a prefix that is no key; use letters, digits, '.', '_', '-' divided by '/'")
    return bucket, prefix


__all__ = ("FileBlobs", "MemoryBlobs", "open_blobs")
