"""What a data set says of itself when its pixels have been compressed with loss: that it is another instance, and of which one.

PS3.3 C.7.6.1.1.5: it has a new SOP Instance UID, Image Type DERIVED, and Lossy Image Compression 01 with ratio and method, which are
appended where it had some. It stays in its study and its series, which are those of the patient's examination and of the equipment
(PS3.3 A.1.2) and in whose resource it was asked for. Nothing in it depends on the time: the same request gives the same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from storage.codecs.lossy import LOSSY
from storage.errors import NotAcceptable
from storage.named_uids import named_uid
from storage.rewriting import Replacement
from storage.transfer_syntaxes import lookup
from storage.types import Dataset, Located

_IMAGE_TYPE, _FRAME_TYPE, _SOP_INSTANCE = 0x00080008, 0x00089007, 0x00080018
_DESCRIPTION, _DERIVATION_CODE, _SOURCE_IMAGE = 0x00082111, 0x00089215, 0x00082112
_LOSSY, _RATIO, _METHOD = 0x00282110, 0x00282112, 0x00282114
_SMALLEST_AND_LARGEST = (0x00280106, 0x00280107)
_PURPOSE = 0x0040A170

_LOSSY_COMPRESSION = ("113040", "Lossy Compression")
_UNCOMPRESSED, _PROCESSED = ("121320", "Uncompressed predecessor"), ("121322", "Source image for image processing operation")

# Whose samples are labels or doses, and no picture that could be a little different.
_NO_PICTURES = frozenset({
    "1.2.840.10008.5.1.4.1.1.66.4",
    "1.2.840.10008.5.1.4.1.1.66.7",
    "1.2.840.10008.5.1.4.1.1.481.2",
    "1.2.840.10008.5.1.4.1.1.30",
    "1.2.840.10008.5.1.4.1.1.66.8",
})  # fmt: skip

Change = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Derivation:
    """How a data set is to be rewritten: see the parameters of `storage.rewriting.Rewriting`; `inside` are changes in items."""

    replaced: dict[int, Replacement] = field(default_factory=dict)
    changed: dict[int, Change] = field(default_factory=dict)
    inside: dict[int, Change] = field(default_factory=dict)
    appended: dict[int, bytes] = field(default_factory=dict)


def lossy_uid(sop_instance_uid: str, target: str) -> str:
    """The SOP Instance UID of what an instance is in `target`: the same each time, and another for other parameters."""
    return named_uid(f"{sop_instance_uid} in {target} with {LOSSY[target].how}")


def check_may_lose(sop_class_uid: str) -> None:
    """Raise NotAcceptable for an instance whose samples may not change."""
    if sop_class_uid in _NO_PICTURES:
        raise NotAcceptable("segments, doses and parameters cannot be compressed with loss; get them without")


def derivation(dataset: Dataset, located: Located, target: str, ratio: float) -> Derivation:
    """What becomes of `dataset` when its pixels are coded in `target` with loss; `ratio` is how much smaller they are."""
    encoder, name = LOSSY[target], lookup(target).name
    text = f"Lossy compression by {name}, {encoder.how}, about {ratio:.3g}:1"
    before = dataset.get(f"{_LOSSY:08X}", {}).get("Value") == ["01"] or lookup(located.transfer_syntax_uid).lossy
    derived = Derivation(inside={_FRAME_TYPE: _derived})
    derived.replaced.update({tag: Replacement("") for tag in _SMALLEST_AND_LARGEST})
    derived.replaced[_SOP_INSTANCE] = _replacement("UI", lossy_uid(located.uids.instance, target))
    derived.replaced[_LOSSY] = _replacement("CS", "01")
    for tag, vr, change in (
        (_IMAGE_TYPE, "CS", _derived),
        (_DESCRIPTION, "ST", _and(text, "; ")),
        (_RATIO, "DS", _and(f"{ratio:.2f}", "\\")),
        (_METHOD, "CS", _and(encoder.method, "\\")),
    ):
        if f"{tag:08X}" in dataset:
            derived.changed[tag] = change
        else:
            derived.replaced[tag] = Replacement(vr, (change(b""),))
    for tag, item in (
        (_DERIVATION_CODE, _code(*_LOSSY_COMPRESSION)),
        (_SOURCE_IMAGE, _source(located, _PROCESSED if before else _UNCOMPRESSED)),
    ):
        if f"{tag:08X}" in dataset:
            derived.appended[tag] = item
        else:
            derived.replaced[tag] = Replacement("SQ", (item,))
    return derived


def _derived(value: bytes) -> bytes:
    """Image Type or Frame Type, value 1 of which says that it is derived; value 2 has no other default."""
    rest = value.rstrip(b" \0").split(b"\\")[1:] or [b"SECONDARY"]
    return _even(b"\\".join((b"DERIVED", *rest)))


def _and(text: str, separator: str) -> Change:
    """What is there, and `text` behind it."""

    def change(value: bytes) -> bytes:
        there = value.rstrip(b" \0")
        return _even((there + separator.encode() if there else b"") + text.encode("ascii"))

    return change


def _even(value: bytes, padding: bytes = b" ") -> bytes:
    return value + padding * (len(value) % 2)


def _replacement(vr: str, value: str) -> Replacement:
    return Replacement(vr, (_even(value.encode("ascii"), b"\0" if vr == "UI" else b" "),))


def _element(tag: int, vr: str, value: bytes) -> bytes:
    """An element in Explicit VR Little Endian, in which all that is compressed is (PS3.5 A.4)."""
    value = _even(value, b"\0" if vr == "UI" else b" ")
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode("ascii"))
    return head + (struct.pack("<HI", 0, len(value)) if vr == "SQ" else struct.pack("<H", len(value))) + value


def _item(*elements: bytes) -> bytes:
    value = b"".join(elements)
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(value)) + value


def _code(value: str, meaning: str) -> bytes:
    """An item of a code sequence (PS3.3 table 8.8-1), of DCM."""
    values = ((0x00080100, "SH", value), (0x00080102, "SH", "DCM"), (0x00080104, "LO", meaning))
    return _item(*(_element(tag, vr, text.encode("ascii")) for tag, vr, text in values))


def _source(located: Located, purpose: tuple[str, str]) -> bytes:
    """An item of Source Image Sequence (PS3.3 C.12.4.1.2)."""
    return _item(
        _element(0x00081150, "UI", located.sop_class_uid.encode("ascii")),
        _element(0x00081155, "UI", located.uids.instance.encode("ascii")),
        _element(_PURPOSE, "SQ", _code(*purpose)),
    )
