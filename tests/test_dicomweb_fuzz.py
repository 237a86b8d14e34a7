"""Odd paths, headers and parameters on every route: only documented answers, and never a 500 (RELIABILITY: fuzz)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from dicomweb.search_parameters import PARAMETERS
from tests.support import made, web
from tests.support.archive import close_archive, open_archive

ROUTES = (
    "studies",
    "series",
    "instances",
    "studies/{a}",
    "studies/{a}/series",
    "studies/{a}/instances",
    "studies/{a}/metadata",
    "studies/{a}/thumbnail",
    "studies/{a}/series/{b}",
    "studies/{a}/series/{b}/instances",
    "studies/{a}/series/{b}/metadata",
    "studies/{a}/series/{b}/rendered",
    "studies/{a}/series/{b}/instances/{c}",
    "studies/{a}/series/{b}/instances/{c}/metadata",
    "studies/{a}/series/{b}/instances/{c}/rendered",
    "studies/{a}/series/{b}/instances/{c}/frames/{d}",
    "studies/{a}/series/{b}/instances/{c}/frames/{d}/rendered",
    "studies/{a}/series/{b}/instances/{c}/frames/{d}/thumbnail",
    "studies/{a}/series/{b}/instances/{c}/bulkdata/{d}",
    "hanging-protocols",
    "hanging-protocols/{a}",
    "hanging-protocols/{a}/bulkdata/{d}",
    "commitment-requests/{a}",
    "{a}/{b}",
)
EXPECTED = {200, 206, 304, 400, 404, 405, 406, 415, 416}

odd = st.text(max_size=30)
uid = st.one_of(st.sampled_from(["1.2.3", "1.2.3.4", "1.2.3.4.1"]), odd)
frames = st.one_of(st.sampled_from(["1", "1,1", "2", "0", "7FE00010", "00080100/0/00080100", "-1"]), odd)
header = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=60)
accept = st.one_of(
    st.sampled_from(
        ["*/*", "image/png", "application/dicom", "multipart/related", "multipart/related; type=application/octet-stream; transfer-syntax=*"]
    ),
    header,
)
byte_range = st.one_of(st.from_regex(r"bytes=[0-9]{0,5}-[0-9]{0,5}", fullmatch=True), header)
parameter = st.tuples(
    st.one_of(
        st.sampled_from([*sorted(PARAMETERS), "00091001", "00090010", "PatientName", "StudyDate", "00080061", "window", "viewport", "quality"]),
        odd,
    ),
    odd,
)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    archive = open_archive(Path(tmp_path_factory.mktemp("fuzz")))
    with web.client(archive) as client:
        assert web.stow(client, [made.instance(1, frames=2), made.instance(2)]).status_code == 200
        yield client
    close_archive(archive)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    method=st.sampled_from(["GET", "GET", "GET", "HEAD", "OPTIONS", "DELETE"]),
    route=st.sampled_from(ROUTES),
    segments=st.tuples(uid, uid, uid, frames),
    headers=st.fixed_dictionaries({"accept": accept}, optional={"range": byte_range, "if-none-match": header, "host": header}),
    query=st.lists(parameter, max_size=3),
)
def test_nothing_odd_is_a_500(
    client: TestClient, method: str, route: str, segments: tuple[str, str, str, str], headers: dict[str, str], query: list[tuple[str, str]]
) -> None:
    a, b, c, d = (quote(segment, safe=",/" if index == 3 else "") for index, segment in enumerate(segments))
    text = "&".join(f"{quote(name)}={quote(value)}" for name, value in query)
    raw = {name.encode(): value.encode("latin-1") for name, value in headers.items()}
    answer = client.request(method, f"{route.format(a=a, b=b, c=c, d=d)}?{text}", headers=raw)
    # 204: OPTIONS, and a search in XML that finds nothing.
    assert answer.status_code in EXPECTED | {204}, answer.text
    if answer.status_code >= 400 and method != "HEAD":
        assert sorted(answer.json()) == ["error", "reference", "status", "todo"]


json_value = st.recursive(
    st.one_of(st.none(), st.integers(), odd, st.sampled_from(["1.2.3.4.1", "1.2.840.10008.5.1.4.1.1.2"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.fixed_dictionaries({"vr": st.sampled_from(["SQ", "UI"]), "Value": st.lists(inner, max_size=2)}),
        st.dictionaries(st.sampled_from(["00081199", "00081110", "00081115", "00081150", "00081155", "0020000D"]), inner, max_size=3),
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(transaction=uid, body=json_value)
def test_no_request_for_commitment_is_a_500(client: TestClient, transaction: str, body: object) -> None:
    answer = client.post(f"commitment-requests/{quote(transaction, safe='')}", json=body, headers={"Content-Type": "application/dicom+json"})
    assert answer.status_code in {200, 400, 404, 405, 409}, answer.text


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(content_type=st.one_of(st.just('multipart/related; type="application/dicom"; boundary=b'), st.just("application/dicom"), header), body=st.binary(max_size=300), framed=st.booleans())
def test_no_body_is_a_500(client: TestClient, content_type: str, body: bytes, framed: bool) -> None:
    content = b"--b\r\n\r\n" + body + b"\r\n--b--" if framed else body
    answer = client.post("studies", content=content, headers={b"content-type": content_type.encode("latin-1")})
    assert answer.status_code in {400, 409, 413, 415}, answer.text
