"""Writing to S3: each body with its SHA-256, each answer compared with what was sent, large objects in parts."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

from storage.blobs.s3_calls import FAILURES, call, code
from storage.errors import StoreUnavailable
from storage.types import Content

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import (
        CompletedPartTypeDef,
        CompleteMultipartUploadRequestTypeDef,
        PutObjectOutputTypeDef,
        PutObjectRequestTypeDef,
        UploadPartOutputTypeDef,
    )

# An upload has at most this many parts, so an object larger than 160 GB has larger ones.
_PARTS = 10_000
PART = 16 << 20


def put_whole(client: S3Client, bucket: str, name: str, content: Content, *, only_new: bool) -> bool:
    """Write the object in one request; whether the server holds our bytes by its own account.

    `only_new` refuses (412) to write over what is there. Raises what boto3 raises.
    """
    with _body(content) as body:
        request: PutObjectRequestTypeDef = {
            "Bucket": bucket,
            "Key": name,
            "Body": body,
            "ChecksumSHA256": _base64(bytes.fromhex(content.sha256)),
            "Metadata": {"sha256": content.sha256},
        }
        if only_new:
            request["IfNoneMatch"] = "*"
        answer = client.put_object(**request)
    return _confirmed(answer, request["ChecksumSHA256"], content.view())


def put_parts(client: S3Client, bucket: str, name: str, content: Content, *, only_new: bool) -> bool:
    """Write the object in parts, each confirmed and tried again by itself; whether what they became has its size.

    What was begun is aborted when it fails. Raises our errors, and boto3's for a refused precondition.
    """
    doing = f"write the object {name}"
    begun = call(
        doing,
        lambda: client.create_multipart_upload(
            Bucket=bucket, Key=name, ChecksumAlgorithm="SHA256", Metadata={"sha256": content.sha256}
        ),
    )
    upload = begun["UploadId"]
    try:
        parts = list(_parts(client, bucket, name, upload, content))
        request: CompleteMultipartUploadRequestTypeDef = {
            "Bucket": bucket,
            "Key": name,
            "UploadId": upload,
            "MultipartUpload": {"Parts": parts},
        }
        if only_new:
            request["IfNoneMatch"] = "*"
        call(doing, lambda: client.complete_multipart_upload(**request))
    except BaseException as error:
        _abort(client, bucket, name, upload, error)
        raise
    return call(doing, lambda: client.head_object(Bucket=bucket, Key=name))["ContentLength"] == content.size


def _parts(
    client: S3Client, bucket: str, name: str, upload: str, content: Content
) -> Iterator[CompletedPartTypeDef]:
    view = content.view()
    size = max(PART, -(-content.size // _PARTS))
    for number, start in enumerate(range(0, content.size, size), 1):
        yield _part(client, bucket, name, upload, number, bytes(view[start : start + size]))


def _part(
    client: S3Client, bucket: str, name: str, upload: str, number: int, data: bytes
) -> CompletedPartTypeDef:
    doing = f"write part {number} of the object {name}"
    checksum = _base64(hashlib.sha256(data).digest())
    answer = call(
        doing,
        lambda: client.upload_part(
            Bucket=bucket, Key=name, UploadId=upload, PartNumber=number, Body=data, ChecksumSHA256=checksum
        ),
    )
    if not _confirmed(answer, checksum, memoryview(data)):
        raise StoreUnavailable(f"the object store could not {doing}: it holds other bytes; send the instance again")
    part: CompletedPartTypeDef = {"PartNumber": number, "ETag": answer["ETag"]}
    # A server that keeps checksums wants those of the parts again.
    if kept := answer.get("ChecksumSHA256"):
        part["ChecksumSHA256"] = kept
    return part


def _abort(client: S3Client, bucket: str, name: str, upload: str, reason: BaseException) -> None:
    """Free what the parts take up. An upload that cannot be aborted now is left to the bucket's lifecycle rule."""
    try:
        client.abort_multipart_upload(Bucket=bucket, Key=name, UploadId=upload)
    except FAILURES as error:
        if code(error) != "NoSuchUpload":
            reason.add_note(f"the upload {upload} could not be aborted ({code(error)})")


@contextlib.contextmanager
def _body(content: Content) -> Iterator[bytes | IO[bytes]]:
    """What boto3 is to send: the spool's file, or the bytes where they are in memory."""
    if content.path is None:
        yield bytes(content.view())
        return
    with content.path.open("rb") as file:
        yield file


def _confirmed(answer: PutObjectOutputTypeDef | UploadPartOutputTypeDef, checksum: str, view: memoryview) -> bool:
    """Whether the server's checksum, or else its ETag as MD5, is that of the bytes sent."""
    if kept := answer.get("ChecksumSHA256"):
        return kept == checksum
    return answer["ETag"].strip('"') == hashlib.md5(view, usedforsecurity=False).hexdigest()


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode("ascii")
