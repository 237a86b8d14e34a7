"""Reading and writing multipart/related, by tables and by chopping the input at every byte."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomweb import multipart
from dicomweb.media_types import parse_media_type
from dicomweb.multipart import Part, PartLimits, PartReader
from storage.errors import BadRequest, LimitExceeded


def read(body: bytes, boundary: str = "b", step: int = 1 << 20, limits: PartLimits | None = None) -> list[tuple[str, bytes]]:
    reader = PartReader(boundary, limits)
    parts: list[tuple[str, bytes]] = []
    for start in range(0, len(body), step):
        for event in reader.feed(body[start : start + step]):
            if isinstance(event, Part):
                parts.append((event.content_type, b""))
            elif event is not None:
                parts[-1] = (parts[-1][0], parts[-1][1] + event)
    reader.finish()
    return parts


TWO = b"preamble\r\n--b\r\nContent-Type: application/dicom\r\n\r\none\r\n--b\r\n\r\ntw\r\no--b\r\n--b--\r\nepilogue"


@pytest.mark.parametrize("step", [1, 2, 3, 7, 16, 1000])
def test_parts_come_out_whole_however_the_body_is_cut(step: int) -> None:
    assert read(TWO, step=step) == [("application/dicom", b"one"), ("", b"tw\r\no--b")]


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        (b"--b--\r\n", []),
        (b"--b\r\n\r\n\r\n--b--", [("", b"")]),
        (b"--b\r\ncontent-type:application/dicom; transfer-syntax=1.2\r\n\r\nx\r\n--b--", [("application/dicom; transfer-syntax=1.2", b"x")]),
        (b"--b\r\nContent-Type: a/b\r\nContent-Location: /x\r\nMIME-Version: 1.0\r\n\r\nx\r\n--b--", [("a/b", b"x")]),
        (b"--b\r\nContent-Length: 1\r\n\r\nx\r\n--b--", [("", b"x")]),
    ],
)
def test_shapes_that_senders_use(body: bytes, parts: list[tuple[str, bytes]]) -> None:
    assert read(body) == parts


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no boundary at all",
        b"--b",
        b"--b\r\n",
        b"--b\r\n\r\nthe closing delimiter is missing",
        b"--b\r\nno colon\r\n\r\nx\r\n--b--",
        b"--bother\r\n\r\nx\r\n--b--",
        b"--b\r\nContent-Length: 5\r\n\r\nx\r\n--b--",
        b"--b\n\nx\n--b--",
    ],
)
def test_what_is_not_multipart_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(BadRequest):
        read(body)


@pytest.mark.parametrize(
    "body",
    [
        b"--b\r\n\r\n\r\n" * 4 + b"--b--",
        b"--b\r\nX: " + b"x" * 200 + b"\r\n\r\n\r\n--b--",
        b"--b\r\n" + b"X: x\r\n" * 30 + b"\r\n\r\n--b--",
        b"--b\r\n" + b"X: x\r\n" * 40 + b"\r\n\r\n--b--",
        b"--b\r\nX: " + b"x" * 400,
    ],
)
def test_limits_hold(body: bytes) -> None:
    with pytest.raises(LimitExceeded):
        read(body, limits=PartLimits(parts=3, header_bytes=100))


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/related; boundary=abc", "abc"),
        ('multipart/related; type="application/dicom"; boundary="=_a?:;,b"', "=_a?:;,b"),
        ("multipart/related;boundary=----WebKitFormBoundary7MA4YWxk;type=application/dicom", "----WebKitFormBoundary7MA4YWxk"),
        ('multipart/related; BOUNDARY="with space"', "with space"),
        (r'multipart/related; boundary="a\"b"', 'a"b'),
    ],
)
def test_boundaries(content_type: str, boundary: str) -> None:
    assert multipart.boundary_of(parse_media_type(content_type)) == boundary
    body = f"--{boundary}\r\n\r\nx\r\n--{boundary}--".encode()
    assert read(body, boundary) == [("", b"x")]


@pytest.mark.parametrize("parameter", ["", "; boundary=", '; boundary=""', '; boundary="a\nb"', "; boundary=" + "x" * 201, '; boundary="ends "'])
def test_boundaries_that_cannot_be(parameter: str) -> None:
    with pytest.raises(BadRequest):
        multipart.boundary_of(parse_media_type("multipart/related" + parameter))


@given(st.lists(st.binary(max_size=300)), st.integers(min_value=1, max_value=200))
def test_what_the_writer_writes_the_reader_reads(parts: list[bytes], step: int) -> None:
    boundary = multipart.boundary_for("a", "b")
    body = b"".join(
        multipart.part_head(boundary, {"Content-Type": "application/dicom"}, first=not number) + part
        for number, part in enumerate(parts)
    ) + multipart.closing(boundary)
    assert read(body, boundary, step) == [("application/dicom", part) for part in parts]


@given(st.binary(max_size=400), st.integers(min_value=1, max_value=50))
def test_any_bytes_give_parts_or_one_of_the_documented_errors(noise: bytes, step: int) -> None:
    for body in (noise, b"--b\r\n" + noise, b"--b\r\n\r\n" + noise + b"\r\n--b--"):
        with contextlib.suppress(BadRequest, LimitExceeded):
            read(body, step=step)
