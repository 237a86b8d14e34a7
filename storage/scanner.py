"""One bounded pass over an instance: its UIDs, its DICOM JSON, where each frame lies, and what is odd about it."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from storage.charsets import DEFAULT, Charset
from storage.dictionary import EXPLICIT_VRS, KEYS
from storage.elements import Reader
from storage.errors import LimitExceeded, NotDicom, NotStorable, Truncated
from storage.frames import FrameTable
from storage.framing import frame_table
from storage.levels import Limits
from storage.named_uids import named_uid
from storage.non_patient import BY_SOP_CLASS
from storage.part10 import Meta, preamble_danger, read_meta
from storage.per_frame import PER_FRAME_GROUPS, Encoded, with_items
from storage.transfer_syntaxes import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    Coding,
    TransferSyntax,
    lookup,
)
from storage.types import BulkItem, Flag, Uids

__all__ = ("Limits", "Scan", "encoding", "inflate", "scan")

# What is taken for a UID, and what is one (PS3.5 9.1). Real files carry UIDs of 67 digits or hexadecimal ones: an archive
# that refused them would lose images. They are flagged; keys and paths never contain them unescaped.
# What is kept and flagged, because such objects exist (hashes for UIDs, a few characters too many). It does not begin
# with a dot, so that it is never a step in a path.
_UID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,127}")
_PROPER_UID = re.compile(r"(?=.{1,64}$)(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
_DIRECTORY = "1.2.840.10008.1.3.10"
_NOT_AN_INSTANCE = "a DICOMDIR is an index of a medium, not an instance; import the folder that it lies in"


@dataclass(frozen=True, slots=True)
class Scan:
    """What one pass found. Offsets are in the object or, when `inflated`, in its inflated data set.

    `dataset` is the DICOM JSON model (PS3.18 F.2) without group 0002, `encoded` its encoding; their BulkDataURIs read
    `bulk:/studies/…/bulkdata/{path}`, for the web to complete. `dataset_offset` is 0 for a data set without file meta.
    """

    dataset: Mapping[str, Any]
    encoded: Encoded
    uids: Uids
    sop_class_uid: str
    transfer_syntax_uid: str
    dataset_offset: int
    inflated: bool
    frames: FrameTable
    bulk: tuple[BulkItem, ...]
    flags: tuple[Flag, ...]

    @property
    def json(self) -> bytes:
        """The encoding of the data set, without the items that frames have where those are in parts."""
        return self.encoded.json


def scan(
    view: memoryview | bytes, limits: Limits | None = None, assumed: Mapping[str, Charset] | None = None
) -> Scan:
    """Read an instance's header; pixel data is walked over, never read.

    `assumed` are the character sets of senders that do not name theirs, by Source Application Entity Title (0002,0016).

    Raises NotDicom, NotStorable, Truncated and LimitExceeded; anything else that is odd is flagged.
    """
    limits = limits or Limits()
    with memoryview(view) as whole:
        meta = read_meta(whole)
        if meta.sop_class_uid == _DIRECTORY:
            raise NotStorable(_NOT_AN_INSTANCE)
        return _scan(whole, meta, limits, (assumed or {}).get(meta.source_ae, DEFAULT))


def _scan(whole: memoryview, meta: Meta, limits: Limits, assumed: Charset) -> Scan:
    declared = lookup(meta.transfer_syntax_uid) if meta.transfer_syntax_uid else None
    data, start, whole_stream = whole, meta.dataset_offset, True
    deflated = declared is not None and declared.deflated and not _begins_plainly(whole, start)
    if deflated:
        inflated, whole_stream = _inflate(whole, start, limits)
        data, start = memoryview(inflated), 0
    explicit, little = encoding(data, start, declared.little_endian if declared else None)
    reader = Reader(data, limits, assumed)
    syntax = _syntax(declared, explicit, little, deflated, reader)
    _flag_head(whole, meta, reader)
    if not whole_stream:
        reader.truncated = True
        reader.flag("truncated", "the deflated data set is cut off")
    reader.run(start, explicit=explicit, little=little)
    uids, sop_class = _identify(reader)
    for element, path in reader.references:
        element["BulkDataURI"] = (
            f"bulk:/studies/{uids.study}/series/{uids.series}/instances/{uids.instance}/bulkdata/{path}"
        )
    frames = frame_table(reader, syntax)
    if lookup(syntax).coding is Coding.VIDEO:
        # OHIF takes Pixel Data that it is referred to for something to load before it plays, and waits for ever.
        reader.dataset.pop("7FE00010", None)
    dataset, encoded = _encoded(reader)
    return Scan(
        dataset=dataset,
        encoded=encoded,
        uids=uids,
        sop_class_uid=sop_class,
        transfer_syntax_uid=syntax,
        dataset_offset=meta.dataset_offset,
        inflated=deflated,
        frames=frames,
        bulk=tuple(reader.bulk.values()),
        flags=tuple(reader.flags.values()),
    )


def _encoded(reader: Reader) -> tuple[Mapping[str, Any], Encoded]:
    """The data set and its encoding, with the items of frames that were set aside."""
    json = orjson.dumps(reader.dataset)
    # An empty list is in no element but that of a sequence whose items were set aside; one that stands behind it, and counts, may be no sequence.
    if reader.dataset.get(PER_FRAME_GROUPS) != {"vr": "SQ", "Value": []}:
        return reader.dataset, Encoded(json)
    parts = reader.frame_items.parts()
    return with_items(reader.dataset, parts), Encoded(json, parts)


def inflate(view: memoryview | bytes, dataset_offset: int, limits: Limits | None = None) -> bytes:
    """The data set of a deflated object (PS3.5 A.5). Raises LimitExceeded for a bomb, Truncated for a broken stream."""
    return _inflate(memoryview(view), dataset_offset, limits or Limits())[0]


def _inflate(view: memoryview, dataset_offset: int, limits: Limits) -> tuple[bytes, bool]:
    """The data set, and whether its stream has an end."""
    source = view[dataset_offset:]
    most = min(limits.inflated_bytes, limits.inflation_ratio * len(source) + 65536)
    # Some writers leave the header of zlib before the stream (RFC 1950), which PS3.5 A.5 has without.
    wrapped = len(source) > 1 and source[0] == 0x78 and (source[0] << 8 | source[1]) % 31 == 0
    decompressor = zlib.decompressobj(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)
    try:
        data = decompressor.decompress(source, most)
    except zlib.error as error:
        raise Truncated(f"the deflated data set cannot be inflated ({error}); send it again") from error
    if len(data) >= most and not decompressor.eof:
        raise LimitExceeded(
            f"the deflated data set inflates to more than {most} bytes ({limits.inflation_ratio} times its size);"
            " send it in Explicit VR Little Endian"
        )
    return data, decompressor.eof


def _begins_plainly(data: memoryview, start: int) -> bool:
    """Whether what is declared deflated is not: a known attribute and a VR do not come out of a compressor by chance."""
    if len(data) < start + 8:
        return False
    group, element, code = struct.unpack_from("<HH2s", data, start)
    return code in EXPLICIT_VRS and (group << 16 | element) in KEYS


def encoding(data: memoryview, start: int, declared_little: bool | None) -> tuple[bool, bool]:
    """(explicit, little endian), from the first element itself: what files declare is not always what they are."""
    if len(data) < start + 8:
        raise NotDicom("there is no data set; send a DICOM Part 10 file")
    first = bytes(data[start : start + 8])
    little = _little(first, declared_little)
    explicit = first[4:6] in EXPLICIT_VRS
    group, element, length = struct.unpack("<HHI" if little else ">HHI", first)
    fits = explicit or length == 0xFFFFFFFF or length <= len(data) - start - 8
    # Without a head that says DICOM, chance bytes must not pass for a data set: its first attribute is a standard one.
    known = start or not element or group << 16 | element in KEYS
    if not (0 < group <= 0x7FE0 and fits and known):
        raise NotDicom("the bytes are not DICOM: no data set begins where one should; send a DICOM Part 10 file")
    return explicit, little


def _little(first: bytes, declared: bool | None) -> bool:
    """Whichever order makes a known attribute of the first tag; else the declared one; else that of the smaller group."""
    (low, low_element), (high, high_element) = struct.unpack_from("<HH", first), struct.unpack_from(">HH", first)
    known = (low << 16 | low_element) in KEYS
    if known != ((high << 16 | high_element) in KEYS):
        return known
    return declared if declared is not None else bool(low <= high)


def _syntax(declared: TransferSyntax | None, explicit: bool, little: bool, deflated: bool, reader: Reader) -> str:
    """The transfer syntax by which the data set is to be read, flagged where it is not the declared one."""
    actual = EXPLICIT_LITTLE if explicit and little else IMPLICIT_LITTLE if little else EXPLICIT_BIG
    if declared is None:
        reader.flag("guessed-syntax", "no transfer syntax is declared; it was guessed from the bytes")
        return actual
    if (declared.explicit_vr, declared.little_endian, declared.deflated) == (explicit, little, deflated):
        return declared.uid
    reader.flag("wrong-syntax", "the data set is not in the transfer syntax that the file declares")
    return actual if declared.coding is Coding.NATIVE else declared.uid


def _flag_head(whole: memoryview, meta: Meta, reader: Reader) -> None:
    if meta.dataset_offset == 0:
        reader.flag("no-meta", "there is no preamble and no File Meta Information")
        return
    if meta.problem:
        reader.flag("bad-meta", meta.problem)
    danger = preamble_danger(whole[:4]) if meta.dataset_offset > 132 else ""
    if danger:
        reader.flag("executable-preamble", f"the preamble is that of {danger}; it is blanked on the way out")


def _identify(reader: Reader) -> tuple[Uids, str]:
    sop_class = _uid(reader, "SOP Class UID", "00080016")
    if sop_class == _DIRECTORY:
        raise NotStorable(_NOT_AN_INSTANCE)
    instance = _uid(reader, "SOP Instance UID", "00080018")
    if sop_class in BY_SOP_CLASS and not reader.truncated:
        return _alone(reader, instance), sop_class
    return Uids(_parent_uid(reader, "Study", "0020000D", instance), _parent_uid(reader, "Series", "0020000E", instance), instance), sop_class


def _alone(reader: Reader, instance: str) -> Uids:
    """An object of no patient has neither study nor series (PS3.4 GG.1); the index gives it some that nobody sees."""
    study, series = (
        _uid(reader, f"{name} Instance UID", tag) if _value(reader, tag) else named_uid(f"{name} of {instance}")
        for name, tag in (("Study", "0020000D"), ("Series", "0020000E"))
    )
    return Uids(study, series, instance)


def _value(reader: Reader, tag: str) -> str:
    value = ((reader.dataset.get(tag) or {}).get("Value") or [""])[0]
    return value if isinstance(value, str) else ""


def _uid(reader: Reader, name: str, tag: str) -> str:
    uid = _value(reader, tag)
    if not uid:
        if reader.truncated:
            raise Truncated(f"the data ends before {name}; send the whole object")
        raise NotStorable(f"{name} is missing; an instance without it cannot be told from others")
    if not _UID.fullmatch(uid):
        raise NotStorable(f"{name} is not a UID: digits and dots, at most 64, are what it may hold (PS3.5 9.1)")
    several = len(reader.dataset[tag]["Value"]) > 1
    if several or not _PROPER_UID.fullmatch(uid):
        reader.flag("odd-uid", f"{name} breaks the rules for UIDs (PS3.5 9.1)", tag)
    return uid


def _parent_uid(reader: Reader, name: str, tag: str, instance: str) -> str:
    """The study or series; assigned where it has none, so that nothing is lost: the same instance gets the same one.

    Test images come without.
    """
    if _value(reader, tag) or reader.truncated:
        return _uid(reader, f"{name} Instance UID", tag)
    uid = named_uid(f"{name} of {instance}")
    reader.flag("assigned-uid", f"{name} Instance UID is missing; one was assigned", tag)
    reader.dataset[tag] = {"vr": "UI", "Value": [uid]}
    return uid
