"""One instance whose bulk data is here (PS3.18 10.5.2): its transfer syntax, what is derived, and its bytes in order."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Final

from dicomweb.bulk_parts import HEAD_BYTES, BulkPart
from dicomweb.codestreams import FRAMES, VIDEOS, Stream, image_pixels, stream_of
from dicomweb.encoding import Encoded, Hole, element, header
from dicomweb.media_types import OCTETS
from storage.codecs.headers import JP2_SIGNATURE
from storage.dictionary import spell
from storage.errors import BadRequest, LimitExceeded, NotStorable
from storage.transfer_syntaxes import EXPLICIT_LITTLE, TABLE, Coding, lookup

# PS3.3 C.7.6.3: Type 1 with native pixel data, which does not say any of it.
IMAGE_PIXEL: Final = {
    "00280002": "Samples per Pixel",
    "00280004": "Photometric Interpretation",
    "00280010": "Rows",
    "00280011": "Columns",
    "00280100": "Bits Allocated",
    "00280101": "Bits Stored",
    "00280102": "High Bit",
    "00280103": "Pixel Representation",
}
PIXELS, _OFFSETS, _OFFSET_LENGTHS = 0x7FE00010, 0x7FE00001, 0x7FE00002
_DOCUMENT, DOCUMENT_TYPE, _DOCUMENT_LENGTH = 0x00420011, 0x00420012, 0x00420015
# What a stream must not contradict: the size of the picture.
SIZE: Final = {0x00280002: "Samples per Pixel", 0x00280010: "Rows", 0x00280011: "Columns"}
# An item of pixel data has 32 bits for its length (PS3.5 A.4).
_ITEM, _END = struct.Struct("<HHI"), b"\xfe\xff\xdd\xe0\0\0\0\0"
_LONGEST: Final = 0xFFFFFFFE
_BINARY: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
# Attributes that are added only where the metadata has them without a value: then the value replaces what is there.
_DERIVED: Final = frozenset({*(int(tag, 16) for tag in IMAGE_PIXEL), 0x00280006, DOCUMENT_TYPE, _OFFSETS, _OFFSET_LENGTHS})


@dataclass
class Waiting:
    """An instance whose metadata is here, and what is still to come of it."""

    encoded: Encoded
    described: Mapping[int, Any]
    sop_class_uid: str
    sop_instance_uid: str
    syntax: str
    frames: int
    missing: set[str] = field(default_factory=set)


class Filling:
    """What goes into the holes of one instance, and which elements stand beside them because of it."""

    def __init__(self, waiting: Waiting, holes: Mapping[Hole, list[BulkPart]]) -> None:
        self._waiting = waiting
        self._holes = holes
        # Elements that are added, and those that are left out.
        self._added: dict[int, bytes] = {}
        self._dropped: set[int] = set()
        # Offset, in its part, of where the code stream of each frame begins, and its length.
        self._frames: list[tuple[BulkPart, int, int]] = []
        self._starts: list[int] = []
        self._document()

    def native(self, pixels: Hole | None) -> str:
        """Uncompressed (PS3.18 8.7.3.3.1), whatever the data was once stored in. Raises NotStorable for what is not described."""
        if pixels is not None:
            if len(self._holes[pixels]) > 1:
                raise BadRequest(f"there are {len(self._holes[pixels])} parts for the uncompressed pixel data; send one with all frames")
            self._whole()
        elif encapsulated(self._waiting.syntax) and any(tag == PIXELS for tag, _ in self._waiting.encoded.elements):
            raise BadRequest("encapsulated pixel data cannot be InlineBinary; send each frame in a part")
        return EXPLICIT_LITTLE

    def _whole(self) -> None:
        """Raises NotStorable, naming what the Image Pixel module lacks: neither the metadata nor a code stream has it."""
        there = {tag for tag, value in self._waiting.described.items() if value not in (None, "")} | self._added.keys()
        absent = [f"{name} ({tag[:4]},{tag[4:]})" for tag, name in IMAGE_PIXEL.items() if int(tag, 16) not in there]
        if absent:
            raise NotStorable(f"{', '.join(absent)}: Type 1, but missing in the metadata, and the pixel data does not say it")

    def pixels(self, hole: Hole) -> str:
        """The transfer syntax of the pixel data that came, with frames and derived attributes made ready."""
        parts = self._holes[hole]
        kind = parts[0].media_type
        if any(part.media_type.type != kind.type for part in parts):
            raise BadRequest("the frames of the pixel data are of different media types; send all in one")
        named = kind.transfer_syntax if kind.transfer_syntax not in ("", "*") else ""
        if kind.type in VIDEOS:
            return self._video(parts, stream_of(kind.type, b"", named or _kept(self._waiting.syntax, Coding.VIDEO)))
        if kind.type == OCTETS and not encapsulated(named) and not self._looks_encapsulated(parts[0]):
            return self.native(hole)
        if kind.type != OCTETS and kind.type not in FRAMES:
            raise BadRequest(f"pixel data does not come as {kind.type}; send it uncompressed as {OCTETS}, or its frames as PS3.18 table 8.7.3-5 has them")
        return self._still(parts, kind.type, named or self._waiting.syntax)

    def _looks_encapsulated(self, part: BulkPart) -> bool:
        """Whether octets are frames after all: the metadata names a compressed syntax, and the bytes begin like it."""
        syntax = lookup(self._waiting.syntax).coding if encapsulated(self._waiting.syntax) else None
        return syntax is not None and part.head()[:4].startswith((b"\xff\xd8\xff", b"\xff\x4f\xff\x51"))

    def _still(self, parts: list[BulkPart], media_type: str, named: str) -> str:
        if named in TABLE and not encapsulated(named):
            named = ""
        if len(parts) > self._waiting.frames:
            raise BadRequest(f"{len(parts)} frames came, but Number of Frames (0028,0008) is {self._waiting.frames}")
        streams = []
        for part in parts:
            offset, length = _codestream(part)
            self._frames.append((part, offset, length))
            streams.append(stream_of(media_type, b"".join(part.read(offset, min(length, HEAD_BYTES))), named))
        if len({stream.transfer_syntax_uid for stream in streams}) > 1:
            raise BadRequest("the frames of the pixel data are in different transfer syntaxes; send all in one")
        self._derive(streams)
        self._whole()
        return streams[0].transfer_syntax_uid

    def _derive(self, streams: list[Stream]) -> None:
        """PS3.18 10.5.2: what the metadata leaves out of the Image Pixel module is taken from the stream."""
        for stream in streams:
            for tag, (vr, value) in image_pixels(stream).items():
                said = self._waiting.described.get(tag)
                if said in (None, ""):
                    written = struct.pack("<H", value) if isinstance(value, int) else value.encode()
                    self._added.setdefault(tag, element(tag, vr, written))
                elif tag in SIZE and str(said) != str(value):
                    raise BadRequest(f"{SIZE[tag]} ({spell(tag)[:4]},{spell(tag)[4:]}) is {said} in the metadata and {value} in the code stream; make them agree")

    def _video(self, parts: list[BulkPart], stream: Stream) -> str:
        if len(parts) > 1:
            raise BadRequest("a video comes in one part (PS3.18 8.7.3.3.2)")
        self._whole()
        self._frames = [(parts[0], 0, parts[0].size)]
        if parts[0].size > _LONGEST:
            raise BadRequest("a video of 4 GiB or more does not go into one fragment (PS3.5 8.2.5); send it as a Part 10 file")
        return stream.transfer_syntax_uid

    def _document(self) -> None:
        """PS3.3 C.24.2: an encapsulated document's type, and its length without padding."""
        hole = next((hole for hole in self._holes if hole.path == spell(_DOCUMENT)), None)
        if hole is None:
            return
        part, said = self._holes[hole][0], self._waiting.described.get(DOCUMENT_TYPE)
        came = part.media_type.type
        if said in (None, "") and came != OCTETS:
            self._added[DOCUMENT_TYPE] = element(DOCUMENT_TYPE, "LO", came.encode())
        elif isinstance(said, str) and came not in (OCTETS, said.partition(";")[0].strip().lower()):
            raise BadRequest(f"MIME Type of Encapsulated Document (0042,0012) is not {came}, as the part's Content-Type says; make them agree")
        if 0 < part.size <= _LONGEST:
            self._added[_DOCUMENT_LENGTH] = element(_DOCUMENT_LENGTH, "UL", struct.pack("<I", part.size))
            self._dropped.add(_DOCUMENT_LENGTH)

    # ---- writing

    def written(self) -> Iterator[bytes]:
        """The data set."""
        if self._frames:
            self._offset_tables()
        there = dict(self._waiting.encoded.elements)
        for tag in sorted({*there, *self._added}):
            if tag in self._added and (tag not in there or tag in self._dropped or tag in _DERIVED):
                yield self._added[tag]
                continue
            if tag in self._dropped:
                continue
            for piece in there[tag]:
                if isinstance(piece, bytes):
                    yield piece
                else:
                    yield from self._value(piece)

    def _value(self, hole: Hole) -> Iterator[bytes]:
        if self._frames and hole.path == spell(PIXELS):
            yield from self._fragments()
            return
        part = self._holes[hole][0]
        if part.size > _LONGEST:
            raise LimitExceeded(f"the value of {hole.path} is longer than 4 GiB, which no element can be; send its frames compressed")
        length = part.size + part.size % 2
        yield header(hole.tag, self._vr(hole, length), length)
        yield from part.read()
        if part.size % 2:
            yield b"\0" if hole.vr in _BINARY or hole.vr == "UI" else b" "

    def _vr(self, hole: Hole, length: int) -> str:
        """Pixel data of more than 8 bits is OW in explicit VR (PS3.5 A.2)."""
        if hole.path == spell(PIXELS):
            bits = self._waiting.described.get(0x00280100)
            return "OW" if isinstance(bits, int) and bits > 8 else hole.vr if hole.vr in ("OB", "OW") else "OW"
        return hole.vr

    def _offset_tables(self) -> None:
        """A Basic Offset Table where its 32 bits suffice, else an Extended one (PS3.5 A.4, PS3.3 C.7.6.3.1.8)."""
        self._dropped |= {_OFFSETS, _OFFSET_LENGTHS}
        sizes = [length + length % 2 for _, _, length in self._frames]
        self._starts = [0, *accumulate(size + 8 for size in sizes)][: len(sizes)]
        if self._starts[-1] > 0xFFFFFFFF:
            count = len(sizes)
            lengths = [length for _, _, length in self._frames]
            self._added[_OFFSETS] = element(_OFFSETS, "OV", struct.pack(f"<{count}Q", *self._starts))
            self._added[_OFFSET_LENGTHS] = element(_OFFSET_LENGTHS, "OV", struct.pack(f"<{count}Q", *lengths))
            self._starts = []

    def _fragments(self) -> Iterator[bytes]:
        """Each frame a fragment of its own (PS3.5 A.4)."""
        table = struct.pack(f"<{len(self._starts)}I", *self._starts) if len(self._starts) > 1 else b""
        yield header(PIXELS, "OB", 0xFFFFFFFF) + _ITEM.pack(0xFFFE, 0xE000, len(table)) + table
        for part, offset, length in self._frames:
            yield _ITEM.pack(0xFFFE, 0xE000, length + length % 2)
            yield from part.read(offset, length)
            if length % 2:
                yield b"\0"
        yield _END


def _codestream(part: BulkPart) -> tuple[int, int]:
    """Where the code stream lies in a part: DICOM has no JP2 boxes around it (PS3.5 A.4.4), some senders have."""
    head = part.head()
    if not head.startswith(JP2_SIGNATURE):
        return 0, part.size
    at = 0
    while at + 16 <= len(head):
        length, kind = int.from_bytes(head[at : at + 4], "big"), head[at + 4 : at + 8]
        begin = 8
        if length == 1:
            length, begin = int.from_bytes(head[at + 8 : at + 16], "big"), 16
        if kind == b"jp2c":
            return at + begin, (length or part.size - at) - begin
        if length < begin:
            break
        at += length
    raise BadRequest("a frame is a JP2 file without a code stream; send the code stream alone")


def encapsulated(syntax: str) -> bool:
    """Whether `syntax` is one of those whose pixel data is in fragments (PS3.5 A.4)."""
    return bool(syntax) and syntax in TABLE and TABLE[syntax].encapsulated


def _kept(syntax: str, coding: Coding) -> str:
    return syntax if syntax in TABLE and TABLE[syntax].coding is coding else ""
