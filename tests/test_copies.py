"""HTJ2K copies: made by a job, served instead of being encoded, gone with their originals, and no instances."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.uid import RLELossless

from dicomweb import frames
from dicomweb.settings import WebSettings
from pacs.processing import KINDS, Work, kinds
from pacs.settings import Settings
from storage import copies, upkeep
from storage.archive import Archive
from storage.codecs import PixelDescription
from storage.codecs.encoding import encode_here
from storage.copying import order
from storage.deletion import remove_object
from storage.errors import CannotDecode, ObjectMissing
from storage.index import Index, open_index
from storage.ingest import Ingest
from storage.jobs import JobQueue
from storage.transfer_syntaxes import EXPLICIT_LITTLE, HTJ2K_RPCL
from storage.types import Scope, Source
from tests.support import made, web
from tests.support.archive import Store
from tests.support.commands import Pacs
from tests.test_transcoding import layout_of

UIDS = ("1.2.3", "1.2.3.4", "1.2.3.4.1")
ONE: Final = "studies/1.2.3/series/1.2.3.4/instances/1.2.3.4.1"
COPIED = WebSettings(htj2k_copies=True)
FIRST = WebSettings(htj2k_copies=True, htj2k_first=True)


def copied(archive: Archive) -> str:
    """The key of the original, whose copy has been made."""
    assert copies.make(archive, Scope(*UIDS))
    return layout_of(archive, *UIDS).located.object_key


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is encoded for a request."""

    def encoded(*_arguments: object) -> None:
        raise AssertionError("encoded for the request")

    monkeypatch.setattr(frames, "_encoded", encoded)


# Modality, what is chosen, and whether a copy is to be made.
CHOSEN = (
    (made.instance(), ("CT",), True), (made.instance(), ("*",), True), (made.instance(), ("MG", "DX"), False), (made.instance(), (), False),
    (made.instance(pixels=False), ("*",), False), (made.instance(Modality="MG"), ("MG",), True),
    (made.encapsulated([b"\0" * 64], HTJ2K_RPCL), ("*",), False), (made.encapsulated([b"\0" * 64], made.MP4), ("*",), False),
)  # fmt: skip


@pytest.mark.parametrize(("content", "chosen", "expected"), CHOSEN)
def test_a_job_follows_what_is_chosen(archive: Archive, content: bytes, chosen: tuple[str, ...], expected: bool) -> None:
    taking = Ingest(archive.index, archive.blobs, jobs_for=copies.jobs_for(chosen))
    with archive.spool() as spool:
        spool.write(content)
        taking(spool, Source("import"))
    taking.close()
    claimed = JobQueue(archive.index).claim("test", kinds=[copies.KIND])
    assert bool(claimed) == expected
    if expected:
        kinds(Work(archive, Settings()))[copies.KIND](claimed[0])
        assert list(archive.blobs.list("copies/"))
    assert copies.KIND in KINDS


@pytest.mark.usefixtures("never")
def test_frames_come_from_the_copy(archive: Archive, store: Store) -> None:
    store(made.instance(frames=3, side=80))
    copied(archive)
    with web.client(archive, COPIED) as client:
        one = client.get(f"{ONE}/frames/2", headers={"Accept": "image/jphc"})
        assert (one.status_code, one.headers["content-type"]) == (200, f"image/jphc; transfer-syntax={HTJ2K_RPCL}")
        assert np.array_equal(imagecodecs.htj2k_decode(one.content), np.full((80, 80), 200))
        several = web.parts(client.get(f"{ONE}/frames/3,1", headers={"Accept": 'multipart/related; type="image/jphc"'}))
        assert [int(imagecodecs.htj2k_decode(part.content)[0, 0]) for part in several] == [300, 100]
        part = client.get(f"{ONE}/frames/2", headers={"Accept": "image/jphc", "Range": "bytes=5-60"})
        assert (part.status_code, part.content) == (206, one.content[5:61])


# Whether copies come first, Accept, and the transfer syntax that comes of it.
ASKED = (
    (FIRST, "*/*", HTJ2K_RPCL), (FIRST, "", HTJ2K_RPCL), (COPIED, "*/*", EXPLICIT_LITTLE),
    (FIRST, f"application/octet-stream; transfer-syntax={EXPLICIT_LITTLE}", EXPLICIT_LITTLE),
    (FIRST, "application/octet-stream", EXPLICIT_LITTLE),
    (FIRST, "multipart/related; type=application/octet-stream; transfer-syntax=*", HTJ2K_RPCL),
    (COPIED, "multipart/related; type=application/octet-stream; transfer-syntax=*", EXPLICIT_LITTLE),
)  # fmt: skip


@pytest.mark.parametrize(("settings", "accept", "expected"), ASKED)
def test_which_is_liked_best(archive: Archive, store: Store, settings: WebSettings, accept: str, expected: str) -> None:
    store(made.instance(side=80))
    with web.client(archive, settings) as client:
        before = client.get(f"{ONE}/frames/1", headers={"Accept": accept})
        assert EXPLICIT_LITTLE in str(before.headers["content-type"])
        copied(archive)
        after = client.get(f"{ONE}/frames/1", headers={"Accept": accept})
        assert f"transfer-syntax={expected}" in after.headers["content-type"] + after.text[:400]


def test_without_a_copy_frames_are_encoded(archive: Archive, store: Store) -> None:
    store(made.instance(side=80))
    with web.client(archive, COPIED) as client:
        encoded = client.get(f"{ONE}/frames/1", headers={"Accept": "image/jphc"})
        copied(archive)
        assert client.get(f"{ONE}/frames/1", headers={"Accept": "image/jphc"}).content == encoded.content
        assert client.get(f"{ONE}/frames/2", headers={"Accept": "image/jphc"}).status_code == 404


def test_it_goes_with_its_original_and_is_no_orphan_before(archive: Archive, store: Store) -> None:
    store(made.instance(side=80))
    key = copied(archive)
    assert list(upkeep.orphans(archive, grace=timedelta(0))) == []
    assert list(upkeep.rebuild(archive)) == []
    archive.blobs.read(copies.key_of(key))
    assert not remove_object(archive, key)
    archive.blobs.read(copies.key_of(key))


def test_a_rebuilt_index_knows_it_again(archive: Archive, store: Store, another: Callable[[Archive], Archive]) -> None:
    store(made.instance(side=80))
    key = copied(archive)
    empty = another(archive)
    assert [finding.key for finding in upkeep.orphans(empty, grace=timedelta(0))] == sorted((copies.key_of(key), key))
    assert list(upkeep.rebuild(empty)) == []
    assert len(list(empty.index.locate(Scope("1.2.3")))) == 1
    found = copies.frames_of(empty.blobs, layout_of(empty, *UIDS), [1])
    assert found is not None


def test_without_a_row_both_are_removed(archive: Archive, store: Store, another: Callable[[Archive], Archive]) -> None:
    store(made.instance(side=80))
    key = copied(archive)
    assert remove_object(another(archive), key)
    for gone in (key, copies.key_of(key)):
        with pytest.raises(ObjectMissing):
            archive.blobs.read(gone)


@pytest.fixture
def another(tmp_path: Path) -> Iterator[Callable[[Archive], Archive]]:
    """The same objects with an empty index."""
    opened: list[Index] = []

    def make(archive: Archive) -> Archive:
        index = open_index(f"sqlite:///{tmp_path / 'another.sqlite'}")
        opened.append(index)
        return replace(archive, index=index)

    yield make
    for index in opened:
        index.close()


def test_a_frame_that_cannot_be_read_is_why_the_job_failed(archive: Archive, store: Store) -> None:
    store(made.encapsulated([b"\0" * 64], RLELossless))
    with pytest.raises(CannotDecode):
        copies.make(archive, Scope(*UIDS))
    assert list(archive.blobs.list("copies/")) == []


def test_what_htj2k_cannot_hold_has_none(archive: Archive, store: Store) -> None:
    one = pydicom.dcmread(io.BytesIO(made.instance(side=8)))
    one.BitsAllocated = one.BitsStored = 32
    one.HighBit, one.PixelData = 31, bytes(256)
    store(made.written(one, EXPLICIT_LITTLE))
    assert not copies.make(archive, Scope(*UIDS))
    assert not copies.make(archive, Scope("1.2.3", "1.2.3.4", "1.2.3.4.9"))


def test_a_quarter_of_a_mammogram_comes_from_a_tenth_of_its_bytes() -> None:
    """2048 x 2560 with twelve bits: a breast with structures of every size and noise, on black."""
    noise = np.random.default_rng(5)
    row, column = np.mgrid[:2560, :2048]
    inside = ((row - 1280) / 1250) ** 2 + (column / 1400) ** 2 < 1
    texture = np.zeros(row.shape)
    for size in (2, 4, 8, 16, 32, 64):
        cells = noise.normal(0, 18 * size**0.5, (2560 // size, 2048 // size))
        texture += cells.repeat(size, 0).repeat(size, 1)
    values = np.where(inside, 1500 + texture - column * 0.4 + noise.normal(0, 12, row.shape), 0).clip(0, 4095).astype("<u2")
    pixels = PixelDescription(2560, 2048, 1, 16, 12, 11, False, "MONOCHROME2", 0, EXPLICIT_LITTLE)
    stream = encode_here(values.tobytes(), pixels, HTJ2K_RPCL)
    quarter = imagecodecs.htj2k_decode(stream, skipres=2)
    assert quarter.shape == (640, 512)
    assert np.array_equal(imagecodecs.htj2k_decode(stream[: len(stream) // 10], skipres=2, resilient=True), quarter)


def test_copies_of_what_is_stored_are_made_by_jobs(archive: Archive, store: Store) -> None:
    for number in (1, 2):
        store(made.instance(number, side=80))
    store(made.instance(1, series="1.2.3.5", side=80, Modality="MG"))
    store(made.instance(2, series="1.2.3.5", pixels=False, Modality="MG"))
    store(made.instance(1, study="1.2.9", series="1.2.9.1", side=80, Modality="MG"))
    assert [order(archive.index, *asked) for asked in ((["US"],), (["MG"],), (["MG"], "1.2.3"), (["CT", "MG"], "1.2.3"), (["*"],))] == [0, 2, 1, 3, 4]
    queue, run = JobQueue(archive.index), kinds(Work(archive, Settings()))
    while claimed := queue.claim("test", kinds=[copies.KIND]):
        run[copies.KIND](claimed[0])
        queue.done(claimed[0])
    assert len(list(archive.blobs.list("copies/htj2k/"))) == 4


@pytest.mark.usefixtures("never")
def test_one_that_is_there_is_not_made_again(archive: Archive, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store(made.instance(side=80))
    copied(archive)

    def again(*_arguments: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(copies, "encoded_frames", again)
    assert copies.make(archive, Scope(*UIDS))


def _rewritten(archive: Archive, key: str, damage: Callable[[bytes], bytes]) -> None:
    whole = b"".join(archive.blobs.stream(key))
    archive.blobs.delete(key)
    with archive.spool() as spool:
        spool.write(damage(whole))
        archive.blobs.put(key, spool)


DAMAGES: tuple[Callable[[bytes], bytes], ...] = (
    lambda whole: whole[:-1], lambda whole: whole[:20], lambda whole: b"", lambda whole: whole + b"\0",
    lambda whole: whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:], lambda whole: whole[:50] + bytes([whole[50] ^ 1]) + whole[51:], lambda whole: b"LBFRAME1" + whole[8:],
)  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_verify_finds_a_damaged_copy_and_it_is_removed_and_made_again(archive: Archive, store: Store, damage: Callable[[bytes], bytes]) -> None:
    store(made.instance(frames=3, side=80))
    key = copies.key_of(copied(archive))
    assert list(upkeep.verify(archive)) == []
    right = b"".join(archive.blobs.stream(key))
    _rewritten(archive, key, damage)
    (finding,) = upkeep.verify(archive)
    assert (finding.fault, finding.key) == (upkeep.Fault.DAMAGED, key)
    assert list(upkeep.verify(archive, fixity=False)) == []
    assert [one.key for one in upkeep.remove_orphans(archive)] == [key]
    assert list(upkeep.verify(archive)) == []
    copied(archive)
    assert b"".join(archive.blobs.stream(key)) == right


def test_the_command(pacs: Pacs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one.dcm").write_bytes(made.instance(side=80, Modality="MG"))
    pacs("import", str(tmp_path / "one.dcm"))
    assert "1 images have jobs for copies" in pacs("copies", "make", "--modality", "MG")
    assert "PACS_HTJ2K_COPIES is set" in pacs("copies", "make", "--modality", "*", "--study", "1.2.3")
    assert "1 series have jobs for thumbnails" in pacs("copies", "make", "--thumbnails")
    assert "--modality MG" in pacs("copies", "make", status=1)
    assert "no UID" in pacs("copies", "make", "--modality", "MG", "--study", "all", status=1)
    monkeypatch.setenv("PACS_HTJ2K_COPIES", "MG")
    assert pacs("copies", "make").strip().endswith("one after the other")
