"""STOW-RS through the routes: what is stored, what is answered for each instance, and bodies that are not as they should be."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import httpx2
import pytest
from starlette.testclient import TestClient

from dicomweb.errors import WebRefusal
from dicomweb.intake import Intake
from dicomweb.native_xml import from_xml
from dicomweb.request_body import batches
from dicomweb.settings import WebSettings
from dicomweb.store_response import Failed, Outcome, response, status_for, warning_header
from storage import errors
from storage.archive import Archive
from storage.types import Flag, Scope, Source, Stored, Uids
from storage.types import Outcome as Ended
from tests.support import made, web

REFERENCED, FAILED, OTHER = "00081199", "00081198", "0008119A"


@pytest.fixture
def client(archive: Archive) -> Iterator[TestClient]:
    with web.client(archive, WebSettings(store_in_flight=3)) as client:
        yield client


def items(answer: httpx2.Response, tag: str) -> list[dict[str, Any]]:
    """The items of a sequence of the answer, as {keyword-less tag: first value}."""
    found = answer.json().get(tag, {}).get("Value", [])
    return [{name: element["Value"][0] for name, element in item.items()} for item in found]


def stored_bytes(archive: Archive, instance: str, study: str = "1.2.3", series: str = "1.2.3.4") -> bytes:
    (located,) = archive.index.locate(Scope(study, series, instance))
    return archive.blobs.read(located.object_key)


def test_every_instance_is_answered_for_and_found_byte_for_byte(client: TestClient, archive: Archive) -> None:
    sent = [made.instance(number) for number in range(1, 11)]
    answer = web.stow(client, sent)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/dicom+json")
    assert answer.json()["00081190"] == {"vr": "UR", "Value": ["http://pacs.test/dicom-web/studies/1.2.3"]}
    assert items(answer, REFERENCED) == [
        {
            "00081150": made.CT,
            "00081155": f"1.2.3.4.{number}",
            "00081190": f"http://pacs.test/dicom-web/studies/1.2.3/series/1.2.3.4/instances/1.2.3.4.{number}",
        }
        for number in range(1, 11)
    ]
    assert [stored_bytes(archive, f"1.2.3.4.{number}") for number in range(1, 11)] == sent


@pytest.mark.parametrize(
    "content_type",
    [
        'multipart/related; type="application/dicom"; boundary="b-o=u?n:d"',
        "multipart/related; type=application/dicom; boundary=boundary",
        "multipart/related; boundary=boundary",
        "Multipart/Related; Boundary=boundary; Type=Application/DICOM; start=<x>",
    ],
)
@pytest.mark.parametrize("part_headers", ["", "Content-Type: application/dicom\r\n", "Content-Type: application/dicom; transfer-syntax=1.2.840.10008.1.2.1\r\nContent-Location: /x\r\n"])
def test_content_types_that_senders_use(client: TestClient, content_type: str, part_headers: str) -> None:
    boundary = "b-o=u?n:d" if "n:d" in content_type else "boundary"
    body = f"--{boundary}\r\n{part_headers}\r\n".encode() + made.instance() + f"\r\n--{boundary}--".encode()
    answer = client.post("studies", content=body, headers={"Content-Type": content_type, "Accept": "*/*"})
    assert (answer.status_code, len(items(answer, REFERENCED))) == (200, 1)


def test_a_single_instance_without_multipart(client: TestClient) -> None:
    answer = client.post("studies", content=made.instance(), headers={"Content-Type": "application/dicom"})
    assert (answer.status_code, len(items(answer, REFERENCED))) == (200, 1)


def test_the_same_again_is_success_and_other_bytes_are_a_conflict(client: TestClient, archive: Archive) -> None:
    first = made.instance()
    assert [web.stow(client, [first]).status_code for _ in range(2)] == [200, 200]
    answer = web.stow(client, [made.instance(PatientID="P2")])
    assert answer.status_code == 409
    assert items(answer, FAILED) == [{"00081150": made.CT, "00081155": "1.2.3.4.1", "00081197": 0x0111}]
    assert "quarantine" in answer.headers["warning"]
    assert stored_bytes(archive, "1.2.3.4.1") == first


def test_failures_do_not_cost_their_neighbours(client: TestClient, archive: Archive) -> None:
    sent = [made.instance(1), b"this is no DICOM", made.instance(2, study="1.2.9", series="1.2.9.1"), b"", made.instance(3)]
    answer = web.stow(client, sent, "studies/1.2.3")
    assert answer.status_code == 202
    assert [item["00081155"] for item in items(answer, REFERENCED)] == ["1.2.3.4.1", "1.2.3.4.3"]
    assert items(answer, FAILED) == [{"00081150": made.CT, "00081155": "1.2.9.1.2", "00081197": 0xA900}]
    assert items(answer, OTHER) == [{"00081197": 0xC000}] * 2
    assert archive.index.counts().instances == 2


def test_nothing_stored_is_409(client: TestClient) -> None:
    answer = web.stow(client, [b"this is no DICOM"])
    assert (answer.status_code, items(answer, OTHER)) == (409, [{"00081197": 0xC000}])


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        (None, b"x", 415),
        ("nonsense", b"x", 415),
        ("text/plain", b"x", 415),
        ("multipart/form-data; boundary=b", b"x", 415),
        ('multipart/related; type="application/dicom+json"; boundary=b', b"x", 400),
        ('multipart/related; type="image/jpeg"; boundary=b', b"x", 415),
        ('multipart/related; type="application/dicom"', b"x", 400),
        ('multipart/related; type="application/dicom"; boundary=b', b"", 400),
        ('multipart/related; type="application/dicom"; boundary=b', b"--b--", 400),
        ('multipart/related; type="application/dicom"; boundary=b', b"no boundary in here", 400),
        ('multipart/related; type="application/dicom"; boundary=b', b"--b\r\n\r\nwithout an end", 400),
        ("application/dicom", b"", 400),
    ],
)
def test_bodies_that_are_refused(client: TestClient, content_type: str | None, body: bytes, status: int) -> None:
    answer = client.post("studies", content=body, headers={"Content-Type": content_type} if content_type else {})
    assert answer.status_code == status
    assert answer.json()["status"] == status
    assert answer.json()["reference"] == "PS3.18 10.5"


def test_a_compressed_body_is_refused(client: TestClient) -> None:
    headers = {"Content-Type": "application/dicom", "Content-Encoding": "gzip"}
    assert client.post("studies", content=b"x", headers=headers).status_code == 415


def test_a_body_that_breaks_off_keeps_what_came_whole(client: TestClient, archive: Archive) -> None:
    body, headers = web.related([made.instance(1), made.instance(2)])
    answer = client.post("studies", content=body[:-100], headers=headers)
    assert answer.status_code == 202
    assert [item["00081155"] for item in items(answer, REFERENCED)] == ["1.2.3.4.1"]
    assert len(items(answer, OTHER)) == 1
    assert archive.index.counts().instances == 1


def test_too_large_a_request(archive: Archive) -> None:
    with web.client(archive, WebSettings(max_request_bytes=1000)) as client:
        assert web.stow(client, [made.instance()] * 2).status_code == 413
        body, headers = web.related([made.instance()] * 2)
        answer = client.post("studies", content=iter([body]), headers=headers)
        assert (answer.status_code, "content-length" in answer.request.headers) == (413, False)
    assert archive.index.counts().instances == 0


def test_too_many_parts(archive: Archive) -> None:
    from dicomweb.multipart import PartLimits

    with web.client(archive, WebSettings(parts=PartLimits(parts=2))) as client:
        answer = web.stow(client, [made.instance(number) for number in range(1, 5)])
    assert answer.status_code == 202
    assert (len(items(answer, REFERENCED)), len(items(answer, OTHER))) == (2, 1)


class Unwell:
    """An ingest that answers with an error."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self, *_arguments: Any, **_keywords: Any) -> Stored:
        raise self.error

    def submit(self, *_arguments: Any, **_keywords: Any) -> Any:
        from concurrent.futures import Future

        future: Future[Stored] = Future()
        future.set_exception(self.error)
        return future


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (errors.StoreFull("no room"), 507, 0xA700),
        (errors.IndexUnavailable("away"), 503, 0xA700),
        (errors.LimitExceeded("too deep"), 413, 0xC000),
        (RuntimeError("unforeseen: Doe^John"), 409, 0x0110),
    ],
)
def test_when_nothing_can_be_stored(archive: Archive, error: Exception, status: int, reason: int) -> None:
    broken = Archive(archive.index, archive.blobs, Unwell(error), archive.spool_folder, 1 << 20)  # type: ignore[arg-type]
    with web.client(broken, WebSettings(retry_after=7)) as client:
        answer = web.stow(client, [made.instance(1), made.instance(2)])
    assert (answer.status_code, answer.headers.get("retry-after")) == (status, "7" if status in (503, 507) else None)
    assert [item["00081197"] for item in items(answer, FAILED)] == [reason, reason]
    assert "Doe" not in answer.text + str(answer.headers)


def test_an_instance_over_the_limit_fails_alone(archive: Archive) -> None:
    small = Archive(archive.index, archive.blobs, archive.ingest, archive.spool_folder, 5000)
    with web.client(small) as client:
        answer = web.stow(client, [made.instance(1), made.instance(2, side=64), made.instance(3)])
    assert answer.status_code == 202
    assert [item["00081155"] for item in items(answer, REFERENCED)] == ["1.2.3.4.1", "1.2.3.4.3"]
    assert archive.index.counts().instances == 2


def test_spools_are_bounded_and_closed(archive: Archive) -> None:
    """Constant memory: no more than `in_flight` instances are held, however many a request brings."""
    open_now: set[int] = set()
    most = 0

    class Counting:
        def __init__(self) -> None:
            self.inner = archive.spool()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        def close(self) -> None:
            open_now.discard(id(self))
            self.inner.close()

    def spool() -> Any:
        nonlocal most
        made_now = Counting()
        open_now.add(id(made_now))
        most = max(most, len(open_now))
        return made_now

    class Watched:
        ingest = archive.ingest

        def __init__(self) -> None:
            self.spool = spool

    intake = Intake(Watched(), Source("stow"), None, 4)  # type: ignore[arg-type]
    for number in range(1, 31):
        intake.begin()
        intake.write(made.instance(number))
        intake.end()
    intake.begin()
    intake.write(b"left unfinished")
    assert len(intake.finish()) == 30
    intake.close()
    assert (most, open_now) == (4, set())


def feed(chunks: list[bytes | float], settings: WebSettings) -> bytes:
    """What `batches` makes of a body that arrives so; a number is a pause in seconds."""

    async def run() -> bytes:
        rest = list(chunks)

        async def receive() -> Any:
            chunk = rest.pop(0) if rest else b""
            if isinstance(chunk, float):
                await anyio.sleep(chunk)
                chunk = rest.pop(0) if rest else b""
            if not chunk and not rest:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": chunk, "more_body": bool(rest)}

        return b"".join([bytes(batch) async for batch in batches(receive, settings)])

    return anyio.run(run)


def test_bodies_in_pieces() -> None:
    assert feed([b"a" * 300_000, b"", b"b" * 300_000, b"c"], WebSettings()) == b"a" * 300_000 + b"b" * 300_000 + b"c"


@pytest.mark.parametrize(
    ("chunks", "settings", "status"),
    [
        ([b"a", 5.0, b"b"], WebSettings(body_idle_seconds=0.05), 408),
        ([b"a", *([0.02, b"a"] * 50)], WebSettings(body_idle_seconds=0.1, body_minimum_rate=1000), 408),
        ([b"a" * 9999, *([0.02, b"a"] * 50)], WebSettings(body_total_seconds=0.1, body_minimum_rate=1), 408),
    ],
)
def test_slow_bodies_are_cut(chunks: list[bytes | float], settings: WebSettings, status: int) -> None:
    with pytest.raises(WebRefusal) as refused:
        feed(chunks, settings)
    assert (refused.value.status, refused.value.headers["Connection"]) == (status, "close")


def test_a_client_that_leaves_ends_the_body() -> None:
    with pytest.raises(WebRefusal):
        feed([b"a", 0.0], WebSettings())


def stored(flags: tuple[Flag, ...] = (), study: str = "1") -> Stored:
    return Stored(Ended.STORED, Uids(study, "2", "3"), "4", "5", "6", 7, flags)


FLAGGED = stored((Flag("short-pixel-data", "the pixel data is too short"),))
FULL, AWAY, LARGE, ODD = (Failed(error("x"), "4", "3") for error in (errors.StoreFull, errors.IndexUnavailable, errors.LimitExceeded, errors.NotDicom))


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        # PS3.18 table 10.5.3-1
        ([stored()], 200),
        ([stored(), stored()], 200),
        ([stored((Flag("executable-preamble", "x"),))], 200),
        ([FLAGGED], 202),
        ([stored(), ODD], 202),
        ([stored(), FULL], 202),
        ([ODD], 409),
        ([FULL], 507),
        ([AWAY, AWAY], 503),
        ([FULL, AWAY], 409),
        ([LARGE], 413),
        ([LARGE, ODD], 409),
    ],
)
def test_statuses(outcomes: list[Outcome], status: int) -> None:
    assert status_for(outcomes) == status


def test_answers_across_studies_have_no_common_url() -> None:
    """Retrieve URL is of Type 2 (table I.1-1): there without a value."""
    assert response([stored(study="1"), stored(study="2")], "/d")["00081190"] == {"vr": "UR"}
    assert response([FLAGGED], "/d")[REFERENCED]["Value"][0]["00081196"] == {"vr": "US", "Value": [0xB007]}


def test_the_warning_header_is_one_line_of_ascii() -> None:
    header = warning_header([Failed(errors.NotDicom('no "DICM"\r\nInjected: ü')), ODD, ODD, stored()])
    assert header == "299 lightbox \"2 x x\", 299 lightbox \"1 x no 'DICM'  Injected: ?\""


def test_cut_pixel_data_is_stored_with_a_warning(client: TestClient) -> None:
    answer = web.stow(client, [made.instance()[:-10], made.instance(2)])
    assert answer.status_code == 202
    assert [item.get("00081196") for item in items(answer, REFERENCED)] == [0xB007, None]


def test_the_answer_in_xml(client: TestClient) -> None:
    """PS3.18 10.5.3: the Store Instances Response Module in the Native DICOM Model, where it is preferred."""
    body, headers = web.related([made.instance(1), b"no DICOM"])
    answer = client.post("studies", content=body, headers={**headers, "Accept": "application/dicom+xml, application/dicom+json;q=0.5"})
    assert (answer.status_code, answer.headers["content-type"]) == (202, "application/dicom+xml")
    in_json = client.post("studies", content=body, headers={**headers, "Accept": "text/html"})
    assert in_json.headers["content-type"] == "application/dicom+json"
    assert from_xml(answer.content) == in_json.json()


def test_a_warning_names_the_attribute(client: TestClient) -> None:
    """Accepted with the picture that is there; the sender is told which attribute is wrong (PS3.18 10.5.3, I.2.1)."""
    answer = web.stow(client, [made.instance(1, PixelData=b"\0\0")])
    assert (answer.status_code, items(answer, REFERENCED)[0]["00081196"]) == (202, 0xB007)
    assert "(PixelData 7FE0,0010)" in answer.headers["warning"]


# ---- what a client says of the length, and what it sends, on a real socket


def _raw(url: str, head: str, body: bytes, *, leave: bool) -> bytes:
    """Send a request as it is written here; the answer, or nothing where the client leaves before it."""
    host = url.removeprefix("http://").partition("/")[0]
    with socket.create_connection((host.partition(":")[0], int(host.partition(":")[2])), timeout=10) as connection:
        request = f"POST /dicom-web/studies HTTP/1.1\r\nHost: {host}\r\n{head}Connection: close\r\n\r\n".encode()
        connection.sendall(request + body)
        if leave:
            return b""
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


def _eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def test_a_client_that_leaves_in_mid_body(archive: Archive) -> None:
    """What came whole is stored, nothing else is, and no temporary file stays (RELIABILITY: I4, I7)."""
    body, headers = web.related([made.instance(1), made.instance(2), made.instance(3, side=512)])
    head = f"Content-Type: {headers['Content-Type']}\r\nContent-Length: {len(body)}\r\n"
    with web.serving(archive) as url:
        _raw(url, head, body[:-1000], leave=True)
        assert _eventually(lambda: archive.index.counts().instances == 2)
        assert _eventually(lambda: not list(archive.spool_folder.glob("spool-*")))


@pytest.mark.parametrize("left_out", [5, 300])
def test_a_content_length_that_is_too_small(archive: Archive, left_out: int) -> None:
    """RFC 9112 6.3: the body ends where it is said to end, here in the middle of the second instance."""
    body, headers = web.related([made.instance(1), made.instance(2)])
    head = f"Content-Type: {headers['Content-Type']}\r\nContent-Length: {len(body) - left_out}\r\n"
    with web.serving(archive) as url:
        answer = _raw(url, head, body[: len(body) - left_out], leave=False)
    assert answer.startswith(b"HTTP/1.1 202 ")
    assert archive.index.counts().instances == 1


def test_a_content_length_that_is_none(archive: Archive) -> None:
    with web.serving(archive) as url:
        assert _raw(url, "Content-Type: application/dicom\r\nContent-Length: many\r\n", b"x", leave=False).startswith(b"HTTP/1.1 400 ")
