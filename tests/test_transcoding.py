"""A stored instance in another transfer syntax: pydicom reads what comes out, and every attribute is as it went in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from storage import transcoding
from storage.archive import Archive
from storage.errors import CannotDecode, NotAcceptable
from storage.index import Layout
from storage.rewriting import elements, to_implicit
from storage.transfer_syntaxes import TABLE, Coding, lookup
from storage.types import Scope
from tests.support import made
from tests.support.archive import Store
from tests.support.corpus import CorpusFile, corpus_files, present

ELE, ILE = str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian)
JPEG_LS, VIDEO = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.102"
PIXELS = ("PhotometricInterpretation", "PlanarConfiguration", "HighBit", "PixelData")


def layout(archive: Archive) -> Layout:
    """Of the one instance in the archive."""
    (match,) = archive.index.objects(0, 2)
    uids = match.uids
    found = archive.index.layout(Scope(uids.study, uids.series, uids.instance))
    assert found is not None
    return found


def read(archive: Archive, wanted: str) -> Any:
    made_of = transcoding.transcoded(layout(archive), archive.blobs, wanted)
    data = b"".join(made_of.dataset())
    assert len(data) == made_of.length
    whole = b"".join(made_of.part10())
    assert whole.endswith(data)
    read_back = dcmread(BytesIO(whole))
    assert read_back.file_meta.TransferSyntaxUID == made_of.transfer_syntax_uid == wanted
    return read_back


def differences(one: Any, other: Any) -> list[str]:
    """Elements that are not the same, pixel data and what describes it left out."""
    tags = {element.tag for element in one} | {element.tag for element in other}
    ignored = {0x7FE00001, 0x7FE00002, 0x7FE00010, 0x00280004, 0x00280006, 0x00280102, 0xFFFCFFFC}
    return [
        str(tag)
        for tag in sorted(tags)
        if int(tag) not in ignored and int(tag) & 0xFFFF and (tag not in one or tag not in other or one[tag].value != other[tag].value)
    ]


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (ELE, (ELE, ILE)),
        (ILE, (ILE,)),
        (JPEG_LS, (JPEG_LS, ELE, ILE)),
        (VIDEO, (VIDEO,)),
        ("1.2.840.10008.1.2.4.94", ("1.2.840.10008.1.2.4.94",)),
        ("1.2.3.4", ("1.2.3.4",)),
    ],
)
def test_targets(stored: str, expected: tuple[str, ...]) -> None:
    assert transcoding.targets(stored) == expected


def rich() -> Any:
    """Everything that is hard about headers: nested and empty sequences, defined and undefined lengths, private attributes."""
    inner, outer = Dataset(), Dataset()
    inner.CodeValue, inner.CodeMeaning = "T-1", "odd"
    outer.ReferencedSOPInstanceUID = "1.2.3"
    outer.PurposeOfReferenceCodeSequence = Sequence([inner, Dataset()])
    return {
        "ReferencedImageSequence": Sequence([outer, Dataset()]),
        "ReferencedStudySequence": Sequence([]),
        "TextValue": "x" * 70_000,
    }


def private(data: bytes) -> bytes:
    """With a private block, a sequence of undefined length in it, and something behind the pixel data."""
    dataset = dcmread(BytesIO(data))
    block = dataset.private_block(0x0029, "MAKER", create=True)
    block.add_new(0x01, "OB", b"\1\2\3\4")
    item = Dataset()
    item.CodeValue = "X"
    block.add_new(0x02, "SQ", Sequence([item]))
    dataset[block.get_tag(0x02)].is_undefined_length = True
    dataset.ReferencedImageSequence[0].is_undefined_length_sequence_item = True
    dataset["ReferencedImageSequence"].is_undefined_length = True
    dataset.add_new(0x7FE10010, "LO", "MAKER")
    dataset.add_new(0x7FE11001, "UN", b"behind the pixels!")
    dataset.add_new(0xFFFCFFFC, "OB", bytes(32))
    return made.written(dataset, dataset.file_meta.TransferSyntaxUID)


@pytest.mark.parametrize("wanted", [ELE, ILE])
@pytest.mark.parametrize("side", [4, 5])
def test_native(archive: Archive, store: Store, wanted: str, side: int) -> None:
    whole = private(made.instance(frames=3, side=side, **rich()))
    store(whole)
    before, after = dcmread(BytesIO(whole)), read(archive, wanted)
    assert differences(before, after) == []
    assert before.PixelData == after.PixelData
    if wanted == ILE:
        assert 0xFFFCFFFC not in after


@pytest.mark.parametrize("wanted", [ELE, ILE])
def test_compressed(archive: Archive, store: Store, wanted: str) -> None:
    plain = dcmread(BytesIO(private(made.instance(frames=3, side=5, **rich()))))
    expected = plain.pixel_array
    plain.compress(RLELossless)
    whole = made.written(plain, str(RLELossless))
    store(whole)
    after = read(archive, wanted)
    assert differences(plain, after) == []
    assert np.array_equal(after.pixel_array, expected)


def test_without_pixels(archive: Archive, store: Store) -> None:
    whole = made.instance(pixels=False, sop_class=made.PDF, EncapsulatedDocument=b"%PDF-1.7 ...")
    store(whole)
    assert differences(dcmread(BytesIO(whole)), read(archive, ILE)) == []


def test_what_cannot_be_decoded(archive: Archive, store: Store) -> None:
    store(made.encapsulated([b"no picture"], JPEG_LS))
    with pytest.raises(CannotDecode):
        list(transcoding.transcoded(layout(archive), archive.blobs, ELE).dataset())


def test_what_would_lose_something(archive: Archive, store: Store) -> None:
    store(made.instance())
    with pytest.raises(NotAcceptable, match="without loss"):
        transcoding.transcoded(layout(archive), archive.blobs, JPEG_LS)


def test_bits_that_share_a_byte(archive: Archive, store: Store) -> None:
    frames = [b"\0\2" + bytes(62)] * 2
    store(
        made.instance(
            syntax=str(RLELossless), frames=2, Rows=3, Columns=3, BitsAllocated=1, BitsStored=1, HighBit=0, pixel_vr="OB",
            PixelData=encapsulate(frames),
        )
    )
    with pytest.raises(NotAcceptable, match="share a byte"):
        transcoding.transcoded(layout(archive), archive.blobs, ELE)


def examples() -> Iterator[CorpusFile]:
    """Small good files of every compressed syntax: at most three of each."""
    seen: dict[str, int] = {}
    for file in sorted(corpus_files(), key=lambda one: int(one.row["bytes"])) if present() else ():
        syntax = file.row["transfer_syntax_uid"]
        good = file.row["expected_parse"] == "ok" and file.row["pydicom_parse"] == "ok"
        if not good or syntax not in TABLE or lookup(syntax).coding in (Coding.VIDEO, Coding.REFERENCED):
            continue
        if file.path.name.startswith("DICOMDIR"):
            continue
        if len(transcoding.targets(syntax)) > 1 and seen.get(syntax, 0) < 3:
            seen[syntax] = seen.get(syntax, 0) + 1
            yield file


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("file", list(examples()), ids=lambda file: file.path.name)
def test_the_corpus(archive: Archive, store: Store, file: CorpusFile) -> None:
    """What comes out in either syntax is what went in, or it is refused in words."""
    store(file.path)
    before = dcmread(file.path)
    for wanted in (ELE, ILE):
        try:
            after = read(archive, wanted)
        except (CannotDecode, NotAcceptable):
            continue
        # What a private attribute is in Implicit VR, only its maker knows.
        assert [tag for tag in differences(before, after) if wanted == ELE or int(tag[4], 16) % 2 == 0] == []
        if "PixelData" in after:
            size = after.Rows * after.Columns * int(after.get("NumberOfFrames") or 1) * after.SamplesPerPixel
            size = (size * after.BitsAllocated + 7) // 8
            assert len(after.PixelData) >= size


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    view = memoryview(data)
    for read_all in (lambda: list(elements(view, 0, len(view))), lambda: to_implicit(view, 0, len(view))):
        with suppress(CannotDecode):
            read_all()
