"""The whole server on its other pair, PostgreSQL and S3: what runs on SQLite and files runs there, by the same code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.corpus import corpus_file
from tests.support.lightbox import Lightbox, multipart, running
from tests.support.s3 import S3Bucket

pytestmark = [pytest.mark.postgres, pytest.mark.s3]

FILES = ("series/ct-philips-phantom-54", "ultrasound", "charsets")
_DICOM = 'multipart/related; type="application/dicom"; transfer-syntax=*'


def _some_files() -> list[Path]:
    return [path for name in FILES for path in sorted(corpus_file(name).iterdir()) if path.is_file()][:40]


def test_store_search_retrieve_verify_rebuild(tmp_path: Path, postgres_database: str, s3_bucket: S3Bucket) -> None:
    settings = {
        "PACS_DATABASE_URL": postgres_database,
        "PACS_STORE_URL": s3_bucket.url,
        "PACS_S3_ENDPOINT_URL": s3_bucket.server.endpoint_url,
        "AWS_ACCESS_KEY_ID": s3_bucket.server.access_key,
        "AWS_SECRET_ACCESS_KEY": s3_bucket.server.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with running(tmp_path / "data", **settings) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        stored = 0
        for path in _some_files():
            answer = client.post("/dicom-web/studies", **multipart(path.read_bytes()))  # type: ignore[arg-type]
            assert answer.status_code in (200, 202, 409), answer.text
            stored += answer.status_code != 409
        assert stored > 20
        instances = client.get("/dicom-web/instances", params={"limit": "1000"}).json()
        assert len(instances) == stored
        for instance in instances:
            study, series, uid = (instance[tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018"))
            url = f"/dicom-web/studies/{study}/series/{series}/instances/{uid}"
            back = client.get(url, headers={"Accept": _DICOM})
            assert back.status_code == 200
            assert b"DICM" in back.content[:1000]
        assert client.get("/readyz").status_code == 200
        server.command("verify")
        server.command("rebuild-index")
        assert client.get("/dicom-web/instances", params={"limit": "1000"}).json() == instances
        _deleted_and_purged(server, client, instances)


def _deleted_and_purged(server: Lightbox, client: httpx.Client, instances: list[Any]) -> None:
    made = []
    for instance in instances[:2]:
        study, series, uid = (instance[tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018"))
        made.append(str(client.delete(f"/dicom-web/studies/{study}/series/{series}/instances/{uid}").json()["deletion"]))
    left = _uids(client)
    assert len(left) == len(instances) - 2
    for command in (("rebuild-index",), ("deleted", "purge", made[0]), ("verify",), ("rebuild-index",)):
        server.command(*command)
        assert _uids(client) == left
    server.command("deleted", "restore", made[1])
    assert len(_uids(client)) == len(left) + 1


def _uids(client: httpx.Client) -> set[str]:
    found = client.get("/dicom-web/instances", params={"limit": "1000"}).json()
    return {one["00080018"]["Value"][0] for one in found}
