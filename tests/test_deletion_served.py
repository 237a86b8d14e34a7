"""Deleting while a whole Lightbox serves: every process forgets at once, SIGKILL loses nothing, a lost index is made anew."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest

from storage import records, upkeep
from storage.archive import Archive
from storage.index.deleted_rows import State
from storage.index.deletions import Deletions
from tests.support import made, web
from tests.support.archive import close_archive, open_archive
from tests.support.dimse_server import wait_until
from tests.support.lightbox import running
from tests.support.serving import serve
from tests.test_scp import dcmtk, run

ONE = "studies/1.2.3/series/1.2.3.4/instances/1.2.3.4.1"
# How long a process believes where the frames of an instance lie (`WebSettings.layout_cache_seconds`), and some.
BELIEVED_SECONDS = 2.5


def archive_of(folder: Path) -> Archive:
    return open_archive(folder / "objects", database_url=f"sqlite:///{folder / 'index.sqlite'}")


@dcmtk
def test_every_process_forgets_and_a_lost_index_is_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with running(folder, PACS_WORKERS="2") as server, httpx.Client(base_url=f"{server.url}/dicom-web", timeout=30) as client:
        assert web.stow(client, [made.instance(number) for number in (1, 2, 3)]).status_code == 200
        warm = [f"{ONE}/frames/1", f"{ONE}/rendered", f"{ONE}/metadata", ONE]
        for _ in range(10):
            with httpx.Client(base_url=client.base_url) as other:
                assert {other.get(path).status_code for path in warm} == {200}
        answer = client.request("DELETE", ONE, params={"reason": "113037"})
        assert answer.status_code == 200, answer.text
        deleted = time.monotonic()
        seen = []
        while time.monotonic() < deleted + BELIEVED_SECONDS + 1:
            with httpx.Client(base_url=client.base_url) as other:
                found = {path: other.get(path).status_code for path in (*warm, "studies/1.2.3/instances")}
            assert (found[warm[2]], found[ONE]) == (404, 404), "searches and metadata ask the index"
            seen.append((time.monotonic() - deleted, found[warm[0]], found[warm[1]]))
        assert {status for when, *statuses in seen for status in statuses if when > BELIEVED_SECONDS} == {404}
        done = run("findscu", "-S", "-aec", "LIGHTBOX", "-k", "QueryRetrieveLevel=IMAGE", "-k", "SOPInstanceUID=1.2.3.4.1",
                   "127.0.0.1", str(server.dimse_port), "-v")  # fmt: skip
        assert "Received Final Find Response (Success)" in done.stderr
        assert "1.2.3.4.1" not in done.stderr.partition("Received Final")[0].partition("Find Response")[2]
        assert "113037" in server.command("deleted", "list")
        kept = folder / "objects" / "de" / "deletions"
        wait_until(lambda: kept.is_dir() and len(list(kept.iterdir())) == 1, 10, lambda: "no record came")
    for name in ("index.sqlite", "index.sqlite-wal", "index.sqlite-shm"):
        (folder / name).unlink(missing_ok=True)
    with running(folder) as server:
        server.command("rebuild-index")
        assert len(httpx.get(f"{server.url}/dicom-web/instances").json()) == 2
        assert "restored" in server.command("deleted", "restore", "1")
        assert len(httpx.get(f"{server.url}/dicom-web/instances").json()) == 3


@pytest.mark.slow
def test_killed_in_the_middle_of_purging(tmp_path: Path) -> None:
    """SIGKILL of everything while many deletions are made and purged: what was answered holds, what was begun is finished."""
    folder, studies = tmp_path / "data", range(12)
    served = serve(tmp_path / "log", PACS_DATA_DIR=str(folder), PACS_PURGE_DAYS="0.000001", PACS_WORKERS="1")
    settings = {"PACS_DATA_DIR": str(folder), "PACS_PURGE_DAYS": "0.000001", "PACS_WORKERS": "1"}
    answered: set[int] = set()
    with httpx.Client(base_url=f"{served.url}/dicom-web", timeout=30) as client:
        for study in studies:
            some = [made.instance(number, study=f"1.{study}", series=f"1.{study}.1") for number in range(6)]
            assert web.stow(client, some).status_code == 200
    for round_ in range(4):
        with httpx.Client(base_url=served.url, timeout=30) as client:
            for study in studies[round_ * 3 : round_ * 3 + 3]:
                answer = client.request("DELETE", f"/dicom-web/studies/1.{study}", params={"reason": "113001"})
                if answer.status_code == 200:
                    answered.add(study)
                    number = answer.json()["deletion"]
                    client.post(f"/api/deleted/{number}/purge", headers={"Content-Type": "application/json"})
            time.sleep(0.13 * round_)
        served.kill(served.everything())
        served.child.process.wait(10)
        served = serve(tmp_path / f"log{round_}", **settings)
    assert answered == set(studies)
    wait_until(lambda: httpx.get(f"{served.url}/metrics", timeout=30).text.count('lightbox_jobs{state="waiting"} 0.0') == 1, 30)
    served.child.process.terminate()
    assert served.child.process.wait(60) == 0
    archive = archive_of(folder)
    try:
        assert [one for one in upkeep.verify(archive) if one.fault is not upkeep.Fault.ORPHAN] == []
        assert archive.index.counts().instances == 0
        found = Deletions(archive.index).page(limit=1000)
        assert {one.scope.study for one in found} == {f"1.{study}" for study in studies}
        # A job that was in hand comes back when its lease ends; until then its bytes are still there, and nothing else is.
        left = [blob.key for blob in archive.blobs.list() if not records.is_record(blob.key)]
        assert len(left) <= 4 * 6
        assert all(one.left == 0 for one in found if one.state is State.PURGED)
        assert list(upkeep.rebuild(archive)) == []
        assert archive.index.counts().instances == 0
    finally:
        close_archive(archive)
