"""Storage commitment over the web (PS3.18 13, annex J): what is answered at once, what later, and that nothing is forgotten."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from dicomweb import commitment as service
from dicomweb.native_xml import from_xml, to_xml
from pacs.processing import Work, kinds
from pacs.processing.commitment_requests import RESULT_DAYS, forget
from pacs.settings import Settings
from storage.archive import Archive
from storage.commitment import Checked, Failure, Reference
from storage.commitment_requests import KIND, CommitmentRequests
from storage.errors import StoreUnavailable
from storage.index import Index
from storage.jobs import JobQueue
from tests.support import web
from tests.support.archive import Store
from tests.support.made import CT, instance

MR = "1.2.840.10008.5.1.4.1.1.4"
A, B, NONE = "1.2.3.4.1", "1.2.3.4.2", "9.9"
STUDY, SERIES = "1.2.3", "1.2.3.4"
JSON, XML = "application/dicom+json", "application/dicom+xml"
URL = "commitment-requests/2.25.1"


@pytest.fixture
def client(archive: Archive, store: Store) -> TestClient:
    for number in (1, 2):
        store(instance(number))
    return web.client(archive)


def ui(uid: str) -> dict[str, Any]:
    return {"vr": "UI", "Value": [uid]}


def flat(*references: tuple[str, str]) -> dict[str, Any]:
    """Table J.1-1 with Referenced SOP Sequence."""
    items = [{"00081150": ui(sop_class), "00081155": ui(uid)} for sop_class, uid in references]
    return {"00081199": {"vr": "SQ", "Value": items}}


def nested(study: str, series: str, *uids: str, tag: str = "00081110", reason: int | None = None) -> dict[str, Any]:
    """The same with Referenced Study Sequence."""
    why = {"00081197": {"vr": "US", "Value": [reason]}} if reason is not None else {}
    instances = [{"00081155": ui(uid), **why} for uid in uids]
    of_class = {"0008114A": {"vr": "SQ", "Value": instances}, "00081150": ui(CT)}
    of_series = {"00081112": {"vr": "SQ", "Value": [of_class]}, "0020000E": ui(series)}
    return {tag: {"vr": "SQ", "Value": [{"00081115": {"vr": "SQ", "Value": [of_series]}, "0020000D": ui(study)}]}}


def ask(client: TestClient, body: Any, url: str = URL, **headers: str) -> httpx2.Response:
    given = {"Content-Type": JSON, **{name.replace("_", "-"): value for name, value in headers.items()}}
    answer: httpx2.Response = client.post(url, json=body, headers=given)
    return answer


def failures(answer: httpx2.Response) -> dict[str, int]:
    (dataset,) = answer.json()
    return {one["00081155"]["Value"][0]: one["00081197"]["Value"][0] for one in dataset.get("00081198", {}).get("Value", ())}


def committed(answer: httpx2.Response) -> list[str]:
    (dataset,) = answer.json()
    return [one["00081155"]["Value"][0] for one in dataset.get("00081199", {}).get("Value", ())]


def work_off(archive: Archive) -> int:
    """What a worker does, now."""
    queue, run = JobQueue(archive.index), kinds(Work(archive, Settings()))
    done = 0
    for job in queue.claim("test", kinds=[KIND], limit=10):
        run[job.kind](job)
        assert queue.done(job) or archive.index
        done += 1
    return done


def test_what_is_stored_is_committed_to_at_once(client: TestClient, archive: Archive) -> None:
    answer = ask(client, flat((CT, A), (CT, NONE), (MR, B)))
    assert (answer.status_code, answer.headers["content-type"]) == (200, JSON)
    assert committed(answer) == [A]
    assert failures(answer) == {NONE: 0x0112, B: 0x0119}
    # Again, for as long as the result is kept.
    again = client.get(URL)
    assert (again.status_code, again.content) == (200, answer.content)
    assert JobQueue(archive.index).counts()["waiting"] == 0


def test_without_failures_there_is_no_sequence_of_them(client: TestClient) -> None:
    (dataset,) = ask(client, flat((CT, A), (CT, B))).json()
    assert set(dataset) == {"00081199"}
    (dataset,) = ask(client, flat((CT, NONE)), "commitment-requests/2.25.2").json()
    assert set(dataset) == {"00081198"}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (nested(STUDY, SERIES, A, B), nested(STUDY, SERIES, A, B)),
        (nested(STUDY, SERIES, A, NONE), {**nested(STUDY, SERIES, A), **nested(STUDY, SERIES, NONE, tag="0008119B", reason=0x0112)}),
        # It is stored, but not there.
        (nested("1.2.9", SERIES, A), nested("1.2.9", SERIES, A, tag="0008119B", reason=0x0112)),
        (nested(STUDY, "1.2.9", A), nested(STUDY, "1.2.9", A, tag="0008119B", reason=0x0112)),
        ({**flat((CT, B)), **nested(STUDY, SERIES, A)}, {**flat((CT, B)), **nested(STUDY, SERIES, A)}),
    ],
)
def test_by_studies_the_answer_has_their_order(client: TestClient, asked: dict[str, Any], expected: dict[str, Any]) -> None:
    """Table J.2-1."""
    answer = ask(client, asked)
    assert answer.status_code == 200
    assert answer.json() == [expected]


def test_damage_is_no_commitment(client: TestClient, archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = archive.blobs.stream
    monkeypatch.setattr(archive.blobs, "stream", lambda key, **more: (piece[:-1] + b"?" for piece in stream(key, **more)))
    assert failures(ask(client, flat((CT, A)))) == {A: 0x0110}


@pytest.mark.parametrize("accept", ["", JSON, "application/json", XML])
@pytest.mark.parametrize("content_type", [JSON, "application/json", XML])
def test_media_types(client: TestClient, content_type: str, accept: str) -> None:
    body = to_xml(flat((CT, A))) if content_type == XML else httpx2.Request("POST", "http://x", json=[flat((CT, A))]).content
    answer = client.post(URL, content=body, headers={"Content-Type": content_type, "Accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (200, accept or JSON)
    found = from_xml(answer.content) if accept == XML else answer.json()[0]
    assert found["00081199"]["Value"][0]["00081155"]["Value"] == [A]


BAD = [
    # Path, body, Content-Type, status, what the error says.
    (URL, {}, JSON, 400, "neither ReferencedSOPSequence"),
    (URL, {"00081199": {"vr": "SQ"}}, JSON, 400, "has no items"),
    (URL, {"00081199": {"vr": "SQ", "Value": ["x"]}}, JSON, 400, "DICOM JSON model"),
    (URL, {"00081199": "x"}, JSON, 400, "DICOM JSON model"),
    (URL, flat((CT, "")), JSON, 400, "has no UID in 00081155"),
    (URL, flat(("", A)), JSON, 400, "has no UID in 00081150"),
    (URL, {"00081110": {"vr": "SQ", "Value": [{"0020000D": ui(STUDY)}]}}, JSON, 400, "00081115 is missing"),
    (URL, [1], JSON, 400, "one data set"),
    (URL, flat((CT, A)), "text/plain", 415, "type"),
    ("commitment-requests/x", flat((CT, A)), JSON, 400, "Transaction UID"),
]


@pytest.mark.parametrize(("url", "body", "kind", "status", "says"), BAD)
def test_bad_requests_say_what_is_wrong(client: TestClient, url: str, body: Any, kind: str, status: int, says: str) -> None:
    answer = client.post(url, json=body, headers={"Content-Type": kind})
    assert answer.status_code == status
    assert says in answer.json()["error"]
    assert client.get(URL).status_code == 404, "nothing is kept of it"


def test_what_cannot_be_accepted_is_not_begun(client: TestClient) -> None:
    assert ask(client, flat((CT, A)), Accept="image/png").status_code == 406
    assert ask(client, flat((CT, A))).status_code == 200


def test_a_transaction_uid_is_used_once(client: TestClient) -> None:
    assert ask(client, flat((CT, A))).status_code == 200
    answer = ask(client, flat((CT, B)))
    assert (answer.status_code, answer.json()["error"]) == (409, "the Transaction UID is in use")
    assert committed(client.get(URL)) == [A]


def test_an_unknown_one_is_not_found(client: TestClient) -> None:
    answer = client.get("commitment-requests/2.25.9")
    assert (answer.status_code, set(answer.json())) == (404, {"status", "error", "reference", "todo"})


LARGE: list[Callable[[pytest.MonkeyPatch], None]] = [
    lambda patch: patch.setattr(service, "AT_ONCE", 1),
    lambda patch: patch.setattr(service, "AT_ONCE_BYTES", 100),
]


@pytest.mark.parametrize("large", LARGE, ids=["many", "large"])
def test_large_requests_are_a_workers(client: TestClient, archive: Archive, monkeypatch: pytest.MonkeyPatch, large: Callable[[pytest.MonkeyPatch], None]) -> None:
    large(monkeypatch)
    answer = ask(client, flat((CT, A), (CT, B)))
    assert (answer.status_code, answer.content) == (202, b"")
    assert int(answer.headers["retry-after"]) > 0
    working = client.get(URL)
    assert (working.status_code, working.content, "retry-after" in working.headers) == (202, b"", True)
    assert ask(client, flat((CT, A))).status_code == 409
    assert work_off(archive) == 1
    assert committed(client.get(URL)) == [A, B]
    assert JobQueue(archive.index).counts() == {"waiting": 0, "running": 0, "dead": 0}


def test_who_would_rather_not_wait_need_not(client: TestClient, archive: Archive) -> None:
    """RFC 7240 4.1."""
    answer = ask(client, flat((CT, A)), Prefer="return=minimal, respond-async")
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "respond-async")
    assert work_off(archive) == 1
    assert committed(client.get(URL)) == [A]


def test_what_cannot_be_read_now_is_read_later(client: TestClient, archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_arguments: object, **_more: object) -> None:
        raise StoreUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(archive.blobs, "stream", away)
        assert ask(client, flat((CT, A))).status_code == 202
    assert client.get(URL).status_code == 202
    monkeypatch.setattr("storage.jobs.time.time", lambda: 1e10)
    queue = JobQueue(archive.index, clock=lambda: 1e10)
    (job,) = queue.claim("test", kinds=[KIND])
    kinds(Work(archive, Settings()))[KIND](job)
    assert queue.done(job)
    assert committed(client.get(URL)) == [A]


def test_of_several_at_once_one_has_the_uid(index: Index) -> None:
    """On both engines."""
    requests = CommitmentRequests(index)
    begun: list[bool] = []

    def begin() -> None:
        begun.append(requests.begin("2.25.1", [Reference(CT, A)], at_once=False))

    threads = [threading.Thread(target=begin) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(begun) == [False] * 5 + [True]
    assert JobQueue(index).counts()["waiting"] == 1
    assert requests.result("2.25.1") is None
    requests.finish("2.25.1", [Checked(Reference(CT, A), None)])
    requests.finish("2.25.1", [Checked(Reference(CT, A), Failure.PROCESSING_FAILURE)])
    assert requests.result("2.25.1") == [Checked(Reference(CT, A), None)], "the first result stays"
    assert JobQueue(index).counts()["waiting"] == 0


def test_old_results_are_forgotten(client: TestClient, archive: Archive) -> None:
    assert ask(client, flat((CT, A))).status_code == 200
    forget(Work(archive, Settings()))
    assert client.get(URL).status_code == 200
    later = time.time() + RESULT_DAYS * 86_400 + 60
    assert CommitmentRequests(archive.index, clock=lambda: later).tidy(RESULT_DAYS * 86_400) == 1
    assert client.get(URL).status_code == 404
    assert ask(client, flat((CT, A))).status_code == 200
