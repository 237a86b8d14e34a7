"""Part 10 files: preamble and File Meta Information, read, made for C-STORE, and made safe on the way out (PS3.10 7)."""

from __future__ import annotations

import struct
from typing import NamedTuple

from storage.dictionary import EXPLICIT_VRS

PREAMBLE = bytes(128)
PREFIX = b"DICM"

# Lightbox's own: a UUID-derived UID under 2.25 (PS3.5 B.2), and a name of at most 16 characters.
IMPLEMENTATION_CLASS_UID = "2.25.221257404073785076073531315844775892542"
IMPLEMENTATION_VERSION_NAME = "LIGHTBOX_0_1"

# The first bytes of programs and archives. TIFF is what the preamble is for (PS3.10 7.1) and stays.
_EXECUTABLE = (
    (b"MZ", "a Windows program"),
    (b"\x7fELF", "an ELF program"),
    (b"\xca\xfe\xba\xbe", "a Mach-O program"),
    (b"\xfe\xed\xfa\xce", "a Mach-O program"),
    (b"\xfe\xed\xfa\xcf", "a Mach-O program"),
    (b"\xce\xfa\xed\xfe", "a Mach-O program"),
    (b"\xcf\xfa\xed\xfe", "a Mach-O program"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"#!", "a script"),
)


class Meta(NamedTuple):
    """What was found before the data set. `dataset_offset` 0 means that there was neither preamble nor meta."""

    dataset_offset: int
    transfer_syntax_uid: str = ""
    sop_class_uid: str = ""
    problem: str = ""
    # Source Application Entity Title (0002,0016): who has written it, or sent it to us.
    source_ae: str = ""


_META_GROUP = b"\x02\x00"


def read_meta(data: memoryview) -> Meta:
    """Find the File Meta Information and where the data set begins; copes without preamble and with wrong lengths."""
    head = bytes(data[:134])
    headless = head[4:6] in EXPLICIT_VRS
    # A bare data set may have the letters DICM just there: then it is not group 0002 that follows.
    if head[128:132] == PREFIX and (head[132:] == _META_GROUP or not headless):
        return _group_two(data, 132)
    if head[:4] == PREFIX:
        return _group_two(data, 4)._replace(problem="the 128 bytes before DICM are missing")
    if head[:2] == _META_GROUP and headless:
        return _group_two(data, 0)._replace(problem="the preamble and DICM are missing")
    return Meta(0)


def _group_two(data: memoryview, start: int) -> Meta:
    """Elements of group 0002, explicit VR little endian, until another group begins; the group length is not believed."""
    pos, size, promised = start, len(data), None
    values: dict[int, str] = {}
    while pos + 8 <= size:
        group, element, code, length = struct.unpack_from("<HH2sH", data, pos)
        if group != 2:
            break
        pos += 8
        vr, is_long = EXPLICIT_VRS.get(code, ("UN", False))
        if is_long:
            if pos + 4 > size:
                break
            (length,) = struct.unpack_from("<I", data, pos)
            pos += 4
        if pos + length > size:
            break
        if element == 0 and length == 4:
            (promised,) = struct.unpack_from("<I", data, pos)
            promised += pos + 4
        elif vr in ("UI", "AE"):
            values[element] = data[pos : pos + length].tobytes().strip(b" \0").decode("ascii", "replace")
        pos += length
    problem = "" if promised == pos else "the length of the File Meta Information is wrong or missing"
    return Meta(pos, values.get(0x0010, ""), values.get(0x0002, ""), problem, values.get(0x0016, ""))


def preamble_danger(head: bytes | memoryview) -> str:
    """What a double click on the file would run, in words; empty when the preamble is harmless (PS3.10 7.5)."""
    first = bytes(head[:4])
    for magic, name in _EXECUTABLE:
        if first.startswith(magic):
            return name
    return ""


def file_meta(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, *, source_ae: str = "") -> bytes:
    """Preamble, DICM and group 0002 for a data set that came without them, as every C-STORE does (PS3.10 7.1)."""
    body = b"".join(
        (
            struct.pack("<HH2sHI2s", 2, 1, b"OB", 0, 2, b"\0\1"),
            _short(0x0002, b"UI", sop_class_uid),
            _short(0x0003, b"UI", sop_instance_uid),
            _short(0x0010, b"UI", transfer_syntax_uid),
            _short(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
            _short(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME),
            _short(0x0016, b"AE", source_ae) if source_ae else b"",
        )
    )
    return PREAMBLE + PREFIX + struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(body)) + body


def _short(element: int, vr: bytes, value: str) -> bytes:
    raw = value.encode("ascii", "replace")
    if len(raw) % 2:
        raw += b"\0" if vr == b"UI" else b" "
    return struct.pack("<HH2sH", 2, element, vr, len(raw)) + raw


def outgoing_head(head: bytes, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """What to send in place of `head`, the stored bytes before the data set.

    A file with its preamble goes out as it came, but for an executable preamble, which is blanked. Where there was no
    preamble or no meta, or one that names another transfer syntax than the data set is in, a proper one is made: what
    we send is always a Part 10 file that can be read.
    """
    if head[128:132] != PREFIX or read_meta(memoryview(head)).transfer_syntax_uid != transfer_syntax_uid:
        return file_meta(sop_class_uid, sop_instance_uid, transfer_syntax_uid)
    return PREAMBLE + head[128:] if preamble_danger(head) else head
