"""Whether what came from outside is a data set of the DICOM JSON model (PS3.18 F.2) that can be written in every other form."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson
from pydicom.datadict import dictionary_VR

from storage.attributes import name_of
from storage.dictionary import EXPLICIT_VRS
from storage.errors import BadRequest
from storage.matching.names import GROUPS
from storage.matching.times import moment
from storage.types import Dataset
from storage.values import BULK_VRS

DEEPEST: Final = 16
_TAG: Final = re.compile(r"[0-9A-F]{8}")
# Groups of command sets and File Meta Information, and of delimiters: no data set has them (PS3.5 7.1, 7.5).
_NO_GROUPS: Final = frozenset({"0000", "0001", "0002", "0003", "0004", "0005", "0006", "0007", "FFFE", "FFFF"})
_WHOLE: Final = {
    vr: range(-(1 << bits - 1), 1 << bits - 1) if signed else range(1 << bits)
    for vr, bits, signed in (
        ("US", 16, False), ("SS", 16, True), ("UL", 32, False), ("SL", 32, True), ("UV", 64, False), ("SV", 64, True),
        ("IS", 32, True),
    )
}  # fmt: skip
# A short VR's length has 16 bits, and is even (PS3.5 7.1.2).
_LONGEST_SHORT: Final = 0xFFFE
_LARGEST_FLOAT: Final = 3.4028234663852886e38
_NO_NUMBERS: Final = frozenset({"NaN", "Infinity", "-Infinity"})
_DECIMAL: Final = re.compile(r"\s*([+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?)?\s*")
_SHORT_TEXT: Final = frozenset({vr for vr, is_long in EXPLICIT_VRS.values() if not is_long} - {"AT", "FL", "FD", *_WHOLE})


def vrs_of(tag: str) -> tuple[str, ...]:
    """The VRs that a tag may have; none when no dictionary knows it."""
    try:
        return tuple(dictionary_VR(int(tag, 16)).split(" or "))
    except KeyError:
        return ()


def check(dataset: Any, depth: int = 0) -> None:
    """Raises BadRequest naming the attribute unless `dataset` is one of the model, its VRs those of the dictionary and its
    values such as their VRs have."""
    if not isinstance(dataset, Mapping) or depth > DEEPEST:
        raise BadRequest(f"the body is no data set of the DICOM JSON model, or nested more than {DEEPEST} deep")
    for tag, element in dataset.items():
        if not (isinstance(tag, str) and _TAG.fullmatch(tag) and isinstance(element, Mapping)):
            raise BadRequest("the body is no data set of the DICOM JSON model: tags are eight upper-case hex digits, elements objects")
        if tag[:4] in _NO_GROUPS:
            raise BadRequest(f"{tag} is of a group that no data set has; leave it out")
        _check_element(tag, element, depth)


def read(raw: bytes) -> Dataset | None:
    """A data set as it was kept, None where it has not even the shape of one: whoever looks through many leaves that one out.

    Values may be odd all the same; who writes them down copes with that.
    """
    try:
        dataset = orjson.loads(raw)
    except ValueError:
        return None
    return dataset if _is_shaped(dataset) else None


def _is_shaped(dataset: Any) -> bool:
    return isinstance(dataset, dict) and all(map(_is_element, dataset.values()))


def _is_element(element: Any) -> bool:
    if not isinstance(element, dict) or not isinstance(element.get("vr"), str):
        return False
    values = element.get("Value", ())
    if not isinstance(values, list | tuple):
        return False
    return element["vr"] != "SQ" or all(map(_is_shaped, values))


def _check_element(tag: str, element: Mapping[str, Any], depth: int) -> None:
    vr, values = element.get("vr"), element.get("Value", [])
    if not isinstance(vr, str) or vr.encode() not in EXPLICIT_VRS or vr not in (vrs_of(tag) or (vr,)):
        raise BadRequest(f"{name_of(tag)} has no VR, or another one than the data dictionary")
    if not isinstance(values, list | tuple):
        raise BadRequest(f"{name_of(tag)} has a Value that is no list")
    if "BulkDataURI" in element:
        raise BadRequest(f"{name_of(tag)} refers to bulk data, which is not fetched; send its InlineBinary, or leave it out")
    if vr in BULK_VRS:
        _check_binary(tag, element)
    elif vr == "SQ":
        for one in values:
            check(one, depth + 1)
    elif "InlineBinary" in element:
        raise BadRequest(f"{name_of(tag)} is {vr} and cannot have InlineBinary; send its Value")
    else:
        _check_values(tag, vr, values)


def _check_binary(tag: str, element: Mapping[str, Any]) -> None:
    inline = element.get("InlineBinary", "")
    if not isinstance(inline, str) or "Value" in element or not _is_base64(inline):
        raise BadRequest(f"{name_of(tag)} has another value than InlineBinary in base64")


def _is_base64(text: str) -> bool:
    try:
        b64decode(text, validate=True)
    except ValueError:
        return False
    return True


def _check_values(tag: str, vr: str, values: Sequence[Any]) -> None:
    # JSON has null for a value among others that is empty (PS3.18 F.2.5).
    is_one = _OF_VR.get(vr, _is_text)
    if not all(value is None or is_one(vr, value) for value in values):
        raise BadRequest(f"{name_of(tag)} has a value that {vr} cannot have; {_HOW.get(vr, 'write it as PS3.5 6.2 says')}")
    if vr in _SHORT_TEXT and sum(len(str(value).encode("utf-8", "replace")) + 1 for value in values) > _LONGEST_SHORT:
        raise BadRequest(f"{name_of(tag)} is longer than the {_LONGEST_SHORT} bytes that {vr} can have")


def _is_text(_vr: str, value: Any) -> bool:
    return isinstance(value, str)


def _is_name(_vr: str, value: Any) -> bool:
    return isinstance(value, Mapping) and all(name in GROUPS and isinstance(group, str) for name, group in value.items())


def _is_whole(vr: str, value: Any) -> bool:
    """A number, or text where the VR is text or JavaScript would lose digits (PS3.18 F.2.3)."""
    if isinstance(value, str) and vr in ("IS", "SV", "UV"):
        text = value.strip()
        value = int(text) if re.fullmatch(r"[+-]?[0-9]{1,20}", text, re.ASCII) else None
    return isinstance(value, int) and not isinstance(value, bool) and value in _WHOLE[vr]


def _is_real(vr: str, value: Any) -> bool:
    if isinstance(value, str):
        # NaN and the infinities have no number in JSON (PS3.18 F.2.3), and a DS is text.
        return value in _NO_NUMBERS if vr != "DS" else _DECIMAL.fullmatch(value) is not None
    return isinstance(value, int | float) and not isinstance(value, bool) and (vr != "FL" or abs(value) <= _LARGEST_FLOAT)


def _is_tag(_vr: str, value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9A-Fa-f]{8}", value) is not None


def _is_moment(_vr: str, value: Any) -> bool:
    return isinstance(value, str) and (not value or moment(value) is not None)


_OF_VR: Final[Mapping[str, Callable[[str, Any], bool]]] = {
    "PN": _is_name, "AT": _is_tag, "DT": _is_moment, **dict.fromkeys(("DS", "FL", "FD"), _is_real),
    **dict.fromkeys(_WHOLE, _is_whole),
}  # fmt: skip
_HOW: Final = {
    "PN": 'write {"Alphabetic": "Family^Given"}',
    "AT": "write eight hex digits",
    "DT": "write YYYYMMDDHHMMSS, a date and time",
    **dict.fromkeys(_WHOLE, "write a whole number within its range"),
    **dict.fromkeys(("DS", "FL", "FD"), "write a number"),
}
