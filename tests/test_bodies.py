"""Bodies of bytes and extents: reading, cutting, conditional and ranged answers, and the cache of layouts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomweb.bodies import EAGER, Body, read, respond, settled, stream
from dicomweb.errors import WebRefusal
from dicomweb.exchange import Answer, Call
from dicomweb.ranges import Span
from storage.blobs.in_file import in_hand
from storage.errors import CannotDecode, ObjectMissing
from storage.pieces import Extent, Made
from storage.types import Blob, Content

OBJECT = bytes(range(256)) * 40_000


class OneObject:
    """A store with one object, which counts what is asked of it."""

    def __init__(self, data: bytes = OBJECT) -> None:
        self.data = data
        self.reads: list[tuple[int, int | None]] = []

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        if key != "key":
            raise ObjectMissing("no such object")
        self.reads.append((offset, length))
        return self.data[offset:][:length]

    def stream(self, key: str, offset: int = 0, length: int | None = None, *, fresh: bool = False) -> Iterator[bytes]:
        data = self.read(key, offset, length)
        return (data[at : at + 1000] for at in range(0, len(data), 1000))

    def put(self, key: str, content: Content, *, replace: bool = False) -> bool:
        raise NotImplementedError

    def resident(self, key: str, offset: int, length: int) -> bytes | None:
        raise NotImplementedError

    def opened(self, key: str) -> int | None:
        return None

    def delete(self, key: str) -> None:
        raise NotImplementedError

    def list(self, prefix: str = "") -> Iterator[Blob]:
        raise NotImplementedError


MIXED = Body((b"head", Extent("key", 10, 20), b"between", Extent("key", 35, 5), Made(4, lambda: b"made"), b""))
WHOLE = b"head" + OBJECT[10:30] + b"between" + OBJECT[35:40] + b"made"


def call(headers: Mapping[str, str] | None = None, method: str = "GET") -> Call:
    return Call(method, {}, headers=headers or {})


def sent(answer: Answer) -> bytes:
    return b"".join(in_hand(answer.body))


def test_pieces_are_read_in_order_and_neighbours_together() -> None:
    blobs = OneObject()
    assert b"".join(read(blobs, MIXED)) == WHOLE
    assert blobs.reads == [(10, 30)]
    assert b"".join(stream(blobs, MIXED)) == WHOLE


def test_distant_and_backward_extents_are_read_apart() -> None:
    blobs = OneObject()
    far = Body((Extent("key", 0, 5), Extent("key", 1_000_000, 5), Extent("key", 0, 5)))
    assert b"".join(read(blobs, far)) == OBJECT[:5] + OBJECT[1_000_000:1_000_005] + OBJECT[:5]
    assert len(blobs.reads) == 3


@given(st.integers(0, len(WHOLE)), st.integers(0, len(WHOLE)))
def test_a_cut_is_the_slice_of_the_whole(start: int, stop: int) -> None:
    blobs = OneObject()
    cut = MIXED.cut(Span(start, stop))
    assert b"".join(read(blobs, cut)) == b"".join(stream(blobs, cut)) == WHOLE[start:stop]
    assert cut.length == len(WHOLE[start:stop])


@pytest.mark.parametrize(
    ("headers", "status", "body", "content_range"),
    [
        ({}, 200, WHOLE, None),
        ({"range": "bytes=0-"}, 206, WHOLE, f"bytes 0-{len(WHOLE) - 1}/{len(WHOLE)}"),
        ({"range": "bytes=2-9"}, 206, WHOLE[2:10], f"bytes 2-9/{len(WHOLE)}"),
        ({"range": "bytes=-4"}, 206, b"made", f"bytes {len(WHOLE) - 4}-{len(WHOLE) - 1}/{len(WHOLE)}"),
        ({"range": "bytes=0-1,4-5"}, 200, WHOLE, None),
        ({"range": "bytes=2-9", "if-range": '"tag"'}, 206, WHOLE[2:10], f"bytes 2-9/{len(WHOLE)}"),
        ({"range": "bytes=2-9", "if-range": '"other"'}, 200, WHOLE, None),
        ({"if-none-match": '"other", W/"tag"'}, 304, b"", None),
        ({"if-none-match": "*"}, 304, b"", None),
        ({"if-none-match": '"other"'}, 200, WHOLE, None),
    ],
)
def test_conditional_and_ranged_answers(
    headers: dict[str, str], status: int, body: bytes, content_range: str | None
) -> None:
    answer = respond(call(headers), OneObject(), MIXED, {}, '"tag"')
    assert (answer.status, sent(answer), answer.headers.get("Content-Range")) == (status, body, content_range)
    assert answer.headers["ETag"] == '"tag"'


def test_a_range_outside_says_how_long_the_body_is() -> None:
    with pytest.raises(WebRefusal) as refused:
        respond(call({"range": "bytes=999-"}), OneObject(), MIXED, {}, '"tag"')
    assert (refused.value.status, refused.value.headers) == (416, {"Content-Range": f"bytes */{len(WHOLE)}"})


def test_large_bodies_are_streamed_with_their_length_and_heads_read_nothing() -> None:
    blobs = OneObject()
    body = Body((b"x", Extent("key", 0, EAGER + 1)))
    answer = respond(call(), blobs, body, {}, '"tag"')
    assert not isinstance(answer.body, tuple)
    assert (answer.headers["Content-Length"], sent(answer)) == (str(EAGER + 2), b"x" + OBJECT[: EAGER + 1])
    blobs.reads.clear()
    head = respond(call(method="HEAD"), blobs, body, {}, '"tag"')
    assert (head.headers["Content-Length"], sent(head), blobs.reads) == (str(EAGER + 2), b"", [])


@pytest.mark.parametrize("length", [10, EAGER + 10])
def test_an_object_that_ends_early_is_damage_and_never_served_as_whole(length: int) -> None:
    with pytest.raises(ObjectMissing):
        sent(respond(call(), OneObject(OBJECT[: length - 1]), Body((Extent("key", 0, length),)), {}, '"tag"'))


def test_a_missing_object_is_an_error_before_the_first_byte() -> None:
    with pytest.raises(ObjectMissing):
        respond(call(), OneObject(), Body((Extent("gone", 0, EAGER + 10),)), {}, '"tag"')


def test_what_is_made_has_the_length_that_was_announced() -> None:
    with pytest.raises(CannotDecode):
        respond(call(), OneObject(), Body((Made(5, lambda: b"made"),)), {}, '"tag"')


def test_a_range_of_what_is_made_is_of_the_length_that_was_announced() -> None:
    with pytest.raises(CannotDecode):
        respond(call({"range": "bytes=1-2"}), OneObject(), Body((Made(5, lambda: b"made"),)), {}, '"tag"')


def test_settled_closes_what_it_wraps() -> None:
    closed: list[bool] = []

    def pieces() -> Iterator[bytes]:
        try:
            while True:
                yield bytes(EAGER)
        finally:
            closed.append(True)

    begun = settled(pieces())
    assert not isinstance(begun, tuple)
    assert len(next(begun)) == EAGER
    begun.close()  # type: ignore[attr-defined]
    assert closed == [True]
