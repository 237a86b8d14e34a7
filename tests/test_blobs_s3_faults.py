"""The S3 store when the server is down, overloaded, slow, old or wrong: no unverified success, an answer in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from storage.blobs.s3 import S3Blobs
from storage.blobs.s3_reading import S3Stream
from storage.errors import ObjectMissing, StoreFull, StoreUnavailable
from storage.spool import Spool
from tests.support import chaos
from tests.support.chaos import Answer, ChaosProxy, Fault, Forward, Request, only
from tests.support.s3 import S3Bucket
from tests.test_blobs import bucket_store, key_of, keys, memory_spool, pattern

pytestmark = pytest.mark.s3

DATA = pattern(300_000)
KEY = key_of(DATA)


@pytest.fixture(autouse=True)
def short_delays(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the test of a server that is down waits as long as a real archive does."""
    if request.node.name != "test_server_down":
        monkeypatch.setattr("storage.blobs.s3_calls._DELAYS", (0.01, 0.02, 0.03))


@pytest.fixture
def proxy(s3_bucket: S3Bucket) -> Iterator[ChaosProxy]:
    with chaos.before(s3_bucket.server.endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def store(s3_bucket: S3Bucket, proxy: ChaosProxy) -> Iterator[S3Blobs]:
    """The store through the proxy."""
    blobs = bucket_store(s3_bucket, endpoint_url=proxy.url)
    yield blobs
    blobs.close()


@pytest.fixture
def direct(s3_bucket: S3Bucket) -> Iterator[S3Blobs]:
    """The same store, past the proxy."""
    blobs = bucket_store(s3_bucket)
    yield blobs
    blobs.close()


@pytest.fixture
def spool() -> Iterator[Spool]:
    with memory_spool(DATA) as made:
        yield made


def answering(change: Callable[[Answer], Answer]) -> Fault:
    """The server's answer, changed on its way."""

    def fault(request: Request, forward: Forward) -> Answer:
        return change(forward(request))

    return fault


def without_etag(answer: Answer) -> Answer:
    """As a server that encrypts: an ETag that is no MD5, and no checksum."""
    kept = {name: value for name, value in answer.headers.items() if name.lower() != "etag"}
    return replace(answer, headers={**kept, "ETag": '"0123456789abcdef0123456789abcdef"'})


def wrong_checksum(answer: Answer) -> Answer:
    return replace(answer, headers={**answer.headers, "x-amz-checksum-sha256": "A" * 43 + "="})


def without_condition(request: Request, forward: Forward) -> Answer:
    """As a server that has not learnt conditional writes and says so."""
    if request.header("If-None-Match"):
        return Answer(501, {}, b"<Error><Code>NotImplemented</Code></Error>")
    return forward(request)


# What a fault that goes away after one or two requests makes of a put: written, or found there already.
PASSING_FAULTS: list[tuple[str, Fault, bool]] = [
    ("503 once", only("PUT", chaos.refusing(503, "SlowDown"), times=1), True),
    ("500 twice", only("PUT", chaos.refusing(500, "InternalError"), times=2), True),
    ("no answer, not carried out", only("PUT", lambda request, forward: None, times=1), True),
    ("carried out, answer lost", only("PUT", chaos.losing, times=1), False),
    ("a bit flipped on the way", only("PUT", chaos.garbling, times=1), True),
    ("two writers at once", only("PUT", chaos.refusing(409, "ConditionalRequestConflict"), times=1), True),
    ("no checksum, no MD5", only("PUT", answering(without_etag)), True),
    ("a wrong checksum of right bytes", only("PUT", answering(wrong_checksum)), True),
    ("no conditional writes", without_condition, True),
]


@pytest.mark.parametrize(("name", "fault", "written"), PASSING_FAULTS, ids=[row[0] for row in PASSING_FAULTS])
def test_a_put_survives(
    store: S3Blobs, proxy: ChaosProxy, direct: S3Blobs, spool: Spool, name: str, fault: Fault, written: bool
) -> None:
    proxy.fault = fault
    assert store.put(KEY, spool) is written
    assert direct.read(KEY) == DATA
    proxy.fault = chaos.passing
    assert store.put(KEY, spool) is False


LASTING_FAULTS: list[tuple[str, Fault, type[Exception], str]] = [
    ("503", chaos.refusing(503, "SlowDown"), StoreUnavailable, "SlowDown"),
    ("500", chaos.refusing(500, "InternalError"), StoreUnavailable, "InternalError"),
    ("507", chaos.refusing(507, "InsufficientStorage"), StoreFull, "make room"),
    ("quota", chaos.refusing(403, "QuotaExceeded"), StoreFull, "QuotaExceeded"),
    ("403", chaos.refusing(403, "AccessDenied"), StoreUnavailable, "credentials"),
    ("signature", chaos.refusing(403, "SignatureDoesNotMatch"), StoreUnavailable, "credentials"),
    ("no bucket", chaos.refusing(404, "NoSuchBucket"), StoreUnavailable, "PACS_STORE_URL"),
    ("no answer", lambda request, forward: None, StoreUnavailable, "send again"),
    ("an answer that is no XML", lambda request, forward: Answer(502, {}, b"<html>Bad Gateway"), StoreUnavailable, "502"),
    ("a bit flipped on the way", only("PUT", chaos.garbling), StoreUnavailable, "SHA256|not hold"),
]


@pytest.mark.parametrize(("name", "fault", "error", "says"), LASTING_FAULTS, ids=[row[0] for row in LASTING_FAULTS])
def test_a_put_that_cannot_be_is_refused_in_time(
    store: S3Blobs,
    proxy: ChaosProxy,
    direct: S3Blobs,
    spool: Spool,
    name: str,
    fault: Fault,
    error: type[Exception],
    says: str,
) -> None:
    proxy.fault = fault
    begun = time.monotonic()
    with pytest.raises(error, match=says):
        store.put(KEY, spool)
    assert time.monotonic() - begun < 15
    proxy.fault = chaos.passing
    assert store.put(KEY, spool) is True
    assert direct.read(KEY) == DATA


@pytest.mark.parametrize("fault", [chaos.refusing(503, "SlowDown"), lambda request, forward: None])
def test_every_call_is_refused_in_time(store: S3Blobs, proxy: ChaosProxy, spool: Spool, fault: Fault) -> None:
    store.put(KEY, spool)
    proxy.fault = fault
    calls: list[Callable[[], object]] = [
        lambda: store.read(KEY),
        lambda: store.read(KEY, 5, 0),
        lambda: store.stream(KEY),
        lambda: store.delete(KEY),
        lambda: list(store.list()),
        store.ping,
    ]
    for call in calls:
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable):
            call()
        assert time.monotonic() - begun < 15
    proxy.fault = chaos.passing
    assert store.read(KEY) == DATA
    assert keys(store) == [KEY]


def test_server_down(s3_bucket: S3Bucket, spool: Spool) -> None:
    with chaos.before(s3_bucket.server.endpoint_url) as proxy:
        url = proxy.url
    store = bucket_store(s3_bucket, endpoint_url=url)
    begun = time.monotonic()
    for call in (lambda: store.put(KEY, spool), lambda: store.read(KEY), store.ping):
        with pytest.raises(StoreUnavailable):
            call()
    assert time.monotonic() - begun < 15
    store.close()


def test_a_server_that_hangs(
    s3_bucket: S3Bucket, proxy: ChaosProxy, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not asked again: there would be no time for a second answer."""
    monkeypatch.setattr("storage.blobs.s3.READ_SECONDS", 1.0)
    monkeypatch.setattr("storage.blobs.s3_calls.RETRY_SECONDS", 0.3)
    store = bucket_store(s3_bucket, endpoint_url=proxy.url)
    stop = threading.Event()

    def hanging(request: Request, forward: Forward) -> None:
        stop.wait(20)

    proxy.fault = hanging
    for call in (lambda: store.put(KEY, spool), lambda: store.read(KEY)):
        proxy.requests.clear()
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable, match="Timeout"):
            call()
        assert 0.9 < time.monotonic() - begun < 5
        assert len(proxy.requests) == 1
    stop.set()
    store.close()


@pytest.mark.parametrize("after", [0, 1, 100_000, 299_999])
def test_a_truncated_answer_is_never_taken_for_the_object(
    store: S3Blobs, proxy: ChaosProxy, spool: Spool, after: int
) -> None:
    store.put(KEY, spool)
    proxy.fault = only("GET", chaos.cutting(after))
    with pytest.raises(StoreUnavailable):
        store.read(KEY)
    with pytest.raises(StoreUnavailable):
        b"".join(store.stream(KEY))
    with pytest.raises(StoreUnavailable):
        list(store.stream(KEY, 0, 300_000))
    # Found there already, but not to be read: no success without having seen the bytes.
    with pytest.raises(StoreUnavailable):
        store.put(KEY, spool)
    proxy.fault = only("GET", chaos.cutting(after), times=1)
    assert store.read(KEY) == DATA


def test_a_body_that_ends_early_without_saying_so() -> None:
    """boto3 and urllib3 notice as well; we do not rely on it."""

    class Body:
        pieces: ClassVar = [b"abc", b"", b""]

        def read(self, amt: int | None = None) -> bytes:
            return self.pieces.pop(0)

        def close(self) -> None:
            pass

    stream = S3Stream(Body(), 10, "read the object")
    assert next(stream) == b"abc"
    with pytest.raises(StoreUnavailable, match="IncompleteRead"):
        next(stream)


def test_a_proxy_that_ignores_ranges(store: S3Blobs, proxy: ChaosProxy, spool: Spool) -> None:
    store.put(KEY, spool)

    def whole(request: Request, forward: Forward) -> Answer:
        answer = forward(request)
        if request.header("Range") is None:
            return answer
        kept = {name: value for name, value in answer.headers.items() if name.lower() != "content-range"}
        return Answer(200, kept, DATA)

    proxy.fault = whole
    with pytest.raises(StoreUnavailable, match="range"):
        store.read(KEY, 10, 10)
    with pytest.raises(StoreUnavailable, match="range"):
        store.stream(KEY, 10)
    assert store.read(KEY) == DATA


def test_an_object_whose_checksum_the_server_disowns(store: S3Blobs, proxy: ChaosProxy, spool: Spool) -> None:
    """A server that keeps checksums sends them with a whole object; boto3 compares at the end."""
    store.put(KEY, spool)
    proxy.fault = only("GET", answering(wrong_checksum))
    with pytest.raises(StoreUnavailable, match="Checksum"):
        store.read(KEY)
    with pytest.raises(StoreUnavailable, match="Checksum"):
        list(store.stream(KEY))


@pytest.fixture
def small_parts(store: S3Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 5 MiB, the least that S3 takes, from 1 MiB on."""
    monkeypatch.setattr("storage.blobs.s3_writing.PART", 5 << 20)
    monkeypatch.setattr(store, "_large", 1 << 20)


@pytest.mark.usefixtures("small_parts")
def test_an_upload_in_parts_that_fails_is_aborted(store: S3Blobs, proxy: ChaosProxy, s3_bucket: S3Bucket) -> None:
    data = pattern(12 << 20)
    key = key_of(data)
    sent: list[str] = []

    def third_part_fails(request: Request, forward: Forward) -> Answer:
        if request.method == "PUT":
            sent.append(request.path)
        if "partNumber=3" in request.path:
            return Answer(503, {}, b"<Error><Code>SlowDown</Code></Error>")
        return forward(request)

    proxy.fault = third_part_fails
    with memory_spool(data) as spool:
        with pytest.raises(StoreUnavailable, match="part 3"):
            store.put(key, spool)
        assert len(sent) >= 5, "two parts, and the third several times"
        client = s3_bucket.server.client()
        assert client.list_multipart_uploads(Bucket=s3_bucket.name).get("Uploads", []) == []
        client.close()
        assert keys(store) == []
        proxy.fault = only("PUT", chaos.garbling, times=1)
        if s3_bucket.server.strict:
            assert store.put(key, spool) is True
        else:
            # moto takes the part as it came; its ETag gives it away.
            with pytest.raises(StoreUnavailable, match="part 1"):
                store.put(key, spool)
            assert store.put(key, spool) is True
    assert store.read(key) == data


@pytest.mark.usefixtures("small_parts")
def test_an_upload_in_parts_to_a_damaged_key(store: S3Blobs) -> None:
    data = pattern(7 << 20)
    with memory_spool(b"damaged") as other:
        store.put(key_of(data), other)
    with memory_spool(data) as spool:
        assert store.put(key_of(data), spool) is True
        assert store.put(key_of(data), spool) is False
    assert store.read(key_of(data)) == data


def test_a_long_list_comes_in_pages(store: S3Blobs, proxy: ChaosProxy) -> None:
    names = sorted(key_of(bytes([number])) for number in range(25))
    for number in range(25):
        with memory_spool(bytes([number])) as spool:
            store.put(key_of(bytes([number])), spool)

    def small_pages(params: dict[str, object], **_: object) -> None:
        params["MaxKeys"] = 10

    store._client.meta.events.register("provide-client-params.s3.ListObjectsV2", small_pages)
    proxy.requests.clear()
    assert keys(store) == names
    assert len(proxy.requests) == 3


def test_wrong_bucket_and_wrong_keys(s3_bucket: S3Bucket, spool: Spool) -> None:
    absent = bucket_store(replace(s3_bucket, name="no-such-bucket"))
    with pytest.raises(StoreUnavailable, match="PACS_STORE_URL"):
        absent.put(KEY, spool)
    with pytest.raises(StoreUnavailable, match="PACS_STORE_URL"):
        absent.read(KEY)
    with pytest.raises(StoreUnavailable, match="does not exist"):
        absent.ping()
    absent.close()
    if not s3_bucket.server.strict:
        pytest.skip("moto accepts any key, so that a wrong secret is not tested")
    stranger = bucket_store(replace(s3_bucket, server=replace(s3_bucket.server, secret_key="wrong")))
    with pytest.raises(StoreUnavailable, match="credentials"):
        stranger.put(KEY, spool)
    with pytest.raises(StoreUnavailable, match="credentials"):
        stranger.read(KEY)
    stranger.close()


def test_a_spool_on_disk_is_sent_from_its_file(store: S3Blobs, proxy: ChaosProxy, tmp_path: Path) -> None:
    """Again from its beginning when the first try fails."""
    proxy.fault = only("PUT", chaos.refusing(503, "SlowDown"), times=1)
    with Spool(tmp_path, memory_limit=0) as spool:
        spool.write(DATA)
        assert spool.path is not None
        assert store.put(KEY, spool) is True
    assert [len(request.body) for request in proxy.requests if request.method == "PUT"] == [len(DATA)] * 2
    assert store.read(KEY) == DATA
    with pytest.raises(ObjectMissing):
        store.read(key_of(b"absent"))
