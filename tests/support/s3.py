"""The S3 server that tests use: Ceph's gateway, or moto where that is not installed; it always says which."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import boto3
from botocore.config import Config

from tests.support import ceph
from tests.support.ceph import answers_http
from tests.support.children import Child, free_port, server_folder, start

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Kind = Literal["ceph", "moto"]
CHOICE = "PACS_TEST_S3"


@dataclass(frozen=True)
class S3Server:
    """A running S3 server. `strict` servers check signatures and checksums; moto does not."""

    kind: Kind
    version: str
    endpoint_url: str
    access_key: str
    secret_key: str
    child: Child

    @property
    def strict(self) -> bool:
        return self.kind == "ceph"

    def client(self) -> S3Client:
        """A plain boto3 client, to look at a bucket from outside."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 2}),
        )

    @contextlib.contextmanager
    def bucket(self) -> Iterator[S3Bucket]:
        """A new empty bucket; removed afterwards with what is in it."""
        bucket = S3Bucket(self, f"test-{secrets.token_hex(6)}")
        client = self.client()
        client.create_bucket(Bucket=bucket.name)
        try:
            yield bucket
        finally:
            _remove(client, bucket.name)
            client.close()


@dataclass(frozen=True)
class S3Bucket:
    """An empty bucket of a running server."""

    server: S3Server
    name: str

    @property
    def url(self) -> str:
        """The store's URL, as in PACS_STORE_URL."""
        return f"s3://{self.name}/archive"


def choice() -> Kind:
    """Which server this machine's tests use: what PACS_TEST_S3 says, else Ceph where it is installed, else moto."""
    wanted = os.environ.get(CHOICE)
    if wanted == "ceph" or (wanted is None and ceph.why_not() is None):
        return "ceph"
    if wanted in (None, "moto"):
        return "moto"
    raise ValueError(f"{CHOICE} is {wanted!r}; set it to ceph or moto, or leave it out")


def why_not() -> str | None:
    """Why the chosen server cannot be started here, or None when it can."""
    if choice() == "ceph":
        return ceph.why_not()
    if importlib.util.find_spec("moto") is None or importlib.util.find_spec("flask") is None:
        return f"neither Ceph ({ceph.why_not()}) nor moto's server (pip install 'moto[server]')"
    return None


def description() -> str:
    """One line for the head of the test report."""
    if choice() == "ceph":
        return "S3 tests run on Ceph's RADOS gateway"
    why = f"{CHOICE}=moto" if CHOICE in os.environ else ceph.why_not()
    return f"S3 tests run on moto, which accepts wrong checksums and signatures ({why})"


@contextlib.contextmanager
def running() -> Iterator[S3Server]:
    """The chosen server; stopped and its folder removed afterwards."""
    with _ceph() if choice() == "ceph" else _moto() as server:
        yield server


@contextlib.contextmanager
def _ceph() -> Iterator[S3Server]:
    with ceph.running() as gateway:
        endpoint = f"http://127.0.0.1:{gateway.port}"
        yield S3Server("ceph", gateway.version, endpoint, gateway.access_key, gateway.secret_key, gateway.child)


@contextlib.contextmanager
def _moto() -> Iterator[S3Server]:
    port = free_port()
    with server_folder("moto") as folder:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        child = start(command, folder / "moto.log")
        try:
            child.wait_until(lambda: answers_http(port))
            version = importlib.metadata.version("moto")
            yield S3Server("moto", version, f"http://127.0.0.1:{port}", "testing", "testing", child)
        finally:
            child.stop()


def _remove(client: S3Client, bucket: str) -> None:
    for upload in client.list_multipart_uploads(Bucket=bucket).get("Uploads", []):
        client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for item in page.get("Contents", []):
            client.delete_object(Bucket=bucket, Key=item["Key"])
    client.delete_bucket(Bucket=bucket)
