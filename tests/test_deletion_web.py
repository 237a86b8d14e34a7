"""DELETE over HTTP, and what every other service then says: QIDO-RS, WADO-RS, C-FIND, C-GET, C-STORE, commitment."""

from __future__ import annotations

import contextlib
import io
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient
from requests.exceptions import HTTPError
from starlette.testclient import TestClient

from dicomweb.settings import WebSettings
from storage.archive import Archive
from storage.commitment import Failure, Reference, verify
from storage.errors import NotFound
from storage.index.deletions import Deletions, State
from storage.index.holds import Holds
from storage.rejection import Why
from storage.types import Scope
from tests.support import made, web
from tests.support.archive import ingest
from tests.support.dimse_peer import Peer
from tests.support.dimse_server import Serving, bare, serving
from tests.support.indexes import counters_are_exact, in_threads
from tests.test_scp import dcmtk, findscu, run

STUDY, SERIES = "studies/1.2.3", "studies/1.2.3/series/1.2.3.4"
ONE = f"{SERIES}/instances/1.2.3.4.1"


@pytest.fixture
def client(archive: Archive) -> TestClient:
    """Two instances of one series; nothing is remembered of layouts, so that what is asked next is answered anew."""
    for number in (1, 2):
        ingest(archive, made.instance(number))
    return web.client(archive, WebSettings(layout_cache_seconds=0))


@pytest.fixture
def server(archive: Archive) -> Iterator[Serving]:
    with serving(archive) as running:
        yield running


# Everything that reads an instance, a series or a study.
READERS = [
    *(ONE + end for end in ("", "/metadata", "/frames/1", "/rendered", "/thumbnail", "/bulkdata/7FE00010")),
    *(SERIES + end for end in ("", "/metadata", "/thumbnail", "/rendered")),
    *(STUDY + end for end in ("", "/metadata", "/thumbnail", "/rendered")),
]


def test_nobody_sees_what_is_deleted(client: TestClient, archive: Archive) -> None:
    before = {path: client.get(path).status_code for path in READERS}
    etags = {path: client.get(path).headers["etag"] for path in ("studies", "series", "instances", f"{SERIES}/metadata")}
    answer = client.request("DELETE", ONE, params={"reason": "113001^DCM", "comment": "motion"})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["instances"], body["reason"], body["comment"]) == (1, "113001", "motion")
    assert client.get(ONE).status_code == 404
    assert [one["00080018"]["Value"] for one in client.get(f"{SERIES}/instances").json()] == [["1.2.3.4.2"]]
    assert len(client.get(f"{STUDY}/metadata").json()) == 1
    for path, etag in etags.items():
        assert client.get(path, headers={"If-None-Match": etag}).status_code == 200, "what was kept is no longer true"
    (study,) = client.get("studies").json()
    assert (study["00201206"]["Value"], study["00201208"]["Value"]) == ([1], [1])

    assert client.delete(STUDY).json()["instances"] == 1
    assert {client.get(path).status_code for path in READERS} == {404}
    assert [client.get(path).json() for path in ("studies", "series", "instances")] == [[], [], []]
    (checked,) = verify(archive, [Reference(made.CT, "1.2.3.4.2")])
    assert checked.failure is Failure.NO_SUCH_OBJECT_INSTANCE

    for one in Deletions(archive.index).page():
        Deletions(archive.index).restore(one.id, "x")
    assert {path: client.get(path).status_code for path in READERS} == before
    (checked,) = verify(archive, [Reference(made.CT, "1.2.3.4.2")])
    assert checked.failure is None


# How a reason is said, and what is recorded.
SAID: list[tuple[dict[str, Any], Why]] = [
    ({}, Why()),
    ({"params": {"reason": "113037"}}, Why("113037")),
    ({"params": {"reason": "wrong patient"}}, Why("", "wrong patient")),
    ({"json": {"reason": "113038", "comment": "É"}}, Why("113038", "É")),
    ({"params": {"comment": "x"}, "json": {"reason": "113039^DCM"}}, Why("113039", "x")),
]


@pytest.mark.parametrize(("request_", "recorded"), SAID)
def test_reasons(client: TestClient, archive: Archive, request_: dict[str, Any], recorded: Why) -> None:
    assert client.request("DELETE", STUDY, **request_).status_code == 200
    (one,) = Deletions(archive.index).page()
    assert (one.why, one.by, one.instances) == (recorded, "testclient", 2)


# (path, request, status, what the error says)
REFUSED: list[tuple[str, dict[str, Any], int, str]] = [
    ("studies/9.9", {}, 404, "nothing is stored for study 9.9"),
    ("studies/1.2.3/series/9", {}, 404, "series 9 of study 1.2.3"),
    (f"{SERIES}/instances/9", {}, 404, "instance 9"),
    (STUDY, {"params": {"reason": "113000"}}, 400, "113001 (Rejected for Quality Reasons)"),
    (STUDY, {"params": {"why": "x"}}, 400, "'why' is not understood"),
    (STUDY, {"json": {"reason": 113001}}, 400, "each a text"),
    (STUDY, {"json": ["113001"]}, 400, "no JSON object"),
    (STUDY, {"content": "113001", "headers": {"Content-Type": "text/plain"}}, 415, "Content-Type"),
    (STUDY, {"json": {"comment": "x" * 20_000}}, 413, "one line"),
]


@pytest.mark.parametrize(("path", "request_", "status", "text"), REFUSED)
def test_refusals(client: TestClient, archive: Archive, path: str, request_: dict[str, Any], status: int, text: str) -> None:
    answer = client.request("DELETE", path, **request_)
    assert (answer.status_code, answer.json()["status"]) == (status, status)
    assert text in answer.json()["error"]
    assert archive.index.counts().instances == 2


def test_a_hold_refuses_with_409(client: TestClient, archive: Archive) -> None:
    Holds(archive.index).add("1.2.3", "lawsuit 7", "anna")
    answer = client.delete(ONE)
    assert answer.status_code == 409
    assert "lawsuit 7; anna" in answer.json()["error"]
    assert archive.index.counts().instances == 2


@pytest.mark.parametrize(("path", "left"), [(ONE, 1), (SERIES, 0), (STUDY, 0)])
def test_rejecting_as_ohif_asks_dcm4chee(client: TestClient, archive: Archive, path: str, left: int) -> None:
    answer = client.post(f"{path}/reject/113001%5EDCM")
    assert (answer.status_code, answer.content) == (204, b"")
    assert archive.index.counts().instances == left
    assert Deletions(archive.index).page()[0].why == Why("113001")
    assert client.post(f"{path}/reject/nothing").status_code == 400


def test_twice_is_not_found_the_second_time(client: TestClient) -> None:
    assert [client.delete(STUDY).status_code for _ in range(2)] == [200, 404]


# (reason, status of STOW-RS, Failure Reason)
STOWED = [("", 200, None), ("113039", 200, None), ("113001", 409, 0x0124)]


@pytest.mark.parametrize(("reason", "status", "failure"), STOWED)
def test_storing_again_what_was_deleted(client: TestClient, archive: Archive, reason: str, status: int, failure: int | None) -> None:
    client.request("DELETE", ONE, params={"reason": reason})
    answer = web.stow(client, [made.instance(1)])
    assert answer.status_code == status
    assert archive.index.counts().instances == (2 if failure is None else 1)
    if failure is not None:
        (item,) = answer.json()["00081198"]["Value"]
        assert (item["00081155"]["Value"], item["00081197"]["Value"]) == (["1.2.3.4.1"], [failure])
        assert "deleted before as 113001 Rejected for Quality Reasons" in answer.headers["warning"]
        assert archive.index.quarantined() == [], "these bytes are still here"
        # Other bytes under this UID are kept for an administrator to see.
        assert web.stow(client, [made.instance(1, PatientID="P2")]).status_code == 409
        (held,) = archive.index.quarantined()
        assert held.reason == "the UID was deleted: Rejected for Quality Reasons"


@dcmtk
def test_dcmtk_after_a_deletion(client: TestClient, archive: Archive, server: Serving, tmp_path: Path) -> None:
    client.request("DELETE", ONE, params={"reason": "113037"})
    keys = ("StudyInstanceUID=1.2.3", "SeriesInstanceUID", "NumberOfSeriesRelatedInstances")
    (series,) = findscu(server, tmp_path / "series", "-S", "-xe", "SERIES", keys)
    assert series.NumberOfSeriesRelatedInstances == 1
    got = tmp_path / "got"
    got.mkdir()
    options = ("-v", "-od", got, "-aec", "LIGHTBOX", "-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2.3")
    assert run("getscu", *options, "127.0.0.1", str(server.port)).returncode == 0
    assert [pydicom.dcmread(path).SOPInstanceUID for path in got.iterdir()] == ["1.2.3.4.2"]

    path = tmp_path / "again.dcm"
    path.write_bytes(made.instance(1))
    done = run("storescu", "-v", "-aec", "LIGHTBOX", "127.0.0.1", str(server.port), path)
    assert "Status: 0x124" in done.stderr, done.stderr
    assert archive.index.quarantined() == [], "the same data set, whose bytes are still here"
    assert archive.index.counts().instances == 1

    client.delete(STUDY)
    assert findscu(server, tmp_path / "studies", "-S", "-xe", "STUDY", ("StudyInstanceUID",)) == []
    Deletions(archive.index).restore(Deletions(archive.index).page()[-1].id, "x")
    (study,) = findscu(server, tmp_path / "restored", "-S", "-xe", "STUDY", ("StudyInstanceUID", "NumberOfStudyRelatedInstances"))
    assert study.NumberOfStudyRelatedInstances == 1
    assert bare(made.instance(1)) in archive.blobs.read(archive.index.instances(["1.2.3.4.1"])[0].object_key)


def test_eight_associations_into_a_study_that_is_being_deleted(archive: Archive, server: Serving) -> None:
    """RELIABILITY: what was acknowledged is there or in a deletion, and the counters are exact."""
    over = threading.Event()
    acknowledged: list[str] = []

    def send(which: int) -> None:
        with Peer(server.port) as client:
            client.associate()
            for number in range(which * 10, which * 10 + 10):
                assert client.store(bare(made.instance(number)), f"1.2.3.4.{number}") == 0
                acknowledged.append(f"1.2.3.4.{number}")

    def remove(turn: int) -> None:
        deletions, chance = Deletions(archive.index), random.Random(turn)
        while not over.is_set():
            scope = chance.choice([Scope("1.2.3"), Scope("1.2.3", "1.2.3.4", f"1.2.3.4.{chance.randrange(80)}")])
            with contextlib.suppress(NotFound):
                one = deletions.delete(scope, Why(), "x")
                if chance.random() < 0.5:
                    deletions.restore(one.id, "x")

    def work(which: int) -> None:
        if which >= 8:
            remove(which)
            return
        try:
            send(which)
        finally:
            done.append(which)
            if len(done) == 8:
                over.set()

    done: list[int] = []
    assert in_threads(work, 10) == []
    assert len(acknowledged) == 80
    for one in Deletions(archive.index).page(states=[State.DELETED], limit=10_000):
        Deletions(archive.index).restore(one.id, "x")
    assert {one.uids.instance for one in archive.index.instances(acknowledged)} == set(acknowledged)
    assert archive.index.counts().instances == 80
    counters_are_exact(archive.index)


def test_the_deletes_of_dicomweb_client(archive: Archive) -> None:
    with web.serving(archive) as url:
        client = DICOMwebClient(url)
        client.store_instances([pydicom.dcmread(io.BytesIO(made.instance(number))) for number in (1, 2, 3)])
        client.delete_instance("1.2.3", "1.2.3.4", "1.2.3.4.1")
        assert archive.index.counts().instances == 2
        client.delete_series("1.2.3", "1.2.3.4")
        assert client.search_for_studies() == []
        with pytest.raises(HTTPError, match="404"):
            client.delete_study("1.2.3")
