"""Bodies that are kept compressed: one making, every coding, bounded, and only what came to its end."""

from __future__ import annotations

import gzip
import itertools
import json
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
import zstandard

from dicomweb.finished import Finished, coding_of
from storage.archive import Archive
from tests.support import made, web
from tests.support.web import Watched

SERIES = "studies/1.2.3/series/1.2.3.4"


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        ("", "identity"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip, deflate", "gzip"),
        ("x-gzip", "gzip"),
        ("GZIP;q=0.5", "gzip"),
        ("zstd;q=0, gzip;q=0.0", "identity"),
        ("zstd;q=0, gzip", "gzip"),
        ("*", "gzip"),
        ("gzip;q=0, *", "identity"),
        ("*;q=0", "identity"),
        ("br", "identity"),
        ("gzip;q=half", "gzip"),
    ],
)
def test_the_coding_that_a_client_takes(header: str, coding: str) -> None:
    assert coding_of(header) == coding


@pytest.mark.parametrize("order", list(itertools.permutations(["identity", "gzip", "zstd"])))
def test_a_series_metadata_is_joined_once_and_sent_in_every_coding(archive: Archive, order: tuple[str, ...]) -> None:
    index = Watched(archive.index)
    with web.client(replace(archive, index=index)) as client:  # type: ignore[arg-type]
        web.stow(client, [*(made.instance(number) for number in range(1, 10))])
        bodies = []
        for times in range(2):
            for coding in order:
                index.asked.clear()
                answer = client.get(f"{SERIES}/metadata", headers={"Accept-Encoding": coding})
                assert answer.status_code == 200
                assert answer.headers.get("content-encoding", "identity") == coding
                assert "accept-encoding" in answer.headers["vary"].lower()
                assert ("metadata" in index.asked) is (times == 0 and coding == order[0])
                if times:
                    assert int(answer.headers["content-length"]) <= len(answer.content)
                bodies.append(_unzstd(answer.content) if coding == "zstd" else answer.content)
        assert len(set(bodies)) == 1
        assert len(json.loads(bodies[0])) == 9
        web.stow(client, [made.instance(10)])
        assert len(client.get(f"{SERIES}/metadata", headers={"Accept-Encoding": "gzip"}).json()) == 10


@pytest.mark.parametrize("order", list(itertools.permutations(["identity", "gzip", "zstd"])))
def test_a_large_body_is_the_same_however_it_is_asked_for(order: tuple[str, ...]) -> None:
    chance = random.Random(7)
    content = [chance.randbytes(1000) * 900 for _ in range(5)]
    undo: dict[str, Callable[[bytes], bytes]] = {"identity": bytes, "gzip": gzip.decompress, "zstd": _unzstd}
    finished = Finished(64 << 20)
    for times, coding in enumerate(order * 2):
        body = finished.body("large", coding, lambda: iter(content))
        sent = b"".join(body.pieces)
        assert undo[coding](sent) == b"".join(content)
        assert body.length == (len(sent) if times else None)


def _unzstd(content: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(content)


def test_no_more_bodies_are_kept_than_fit() -> None:
    finished = Finished(40_000)
    for number in range(50):
        content = random.Random(number).randbytes(3000)
        assert b"".join(finished.body(number, "identity", lambda content=content: iter((content,))).pieces) == content  # type: ignore[misc]
    assert finished.kept.bytes <= 40_000
    assert finished.kept.get(0) is None
    assert finished.kept.get(49) is not None
    b"".join(finished.body("large", "gzip", lambda: iter((random.Random(1).randbytes(20_000),))).pieces)
    assert finished.kept.get("large") is None


def test_a_body_that_was_not_sent_to_its_end_is_not_kept() -> None:
    finished = Finished(1 << 20)
    pieces = finished.body("cut", "identity", lambda: iter((bytes(1 << 20), b"end"))).pieces
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert finished.kept.get("cut") is None
