"""VRs for tags where the bytes do not tell (implicit VR, UN), and the spelling of tags; from pydicom's dictionaries."""

from __future__ import annotations

from pydicom._dicom_dict import DicomDictionary
from pydicom.datadict import dictionary_VR, private_dictionary_VR

# Tag -> eight upper-case hexadecimal digits, for the tags that come up.
KEYS: dict[int, str] = {tag: f"{tag:08X}" for tag in DicomDictionary}

# VR as written in an explicit header -> VR, and whether a reserved field and a 32-bit length follow (PS3.5 7.1.2).
_LONG = ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")
_SHORT = (
    *("AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "PN", "SH", "SL", "SS", "ST", "TM"),
    *("UI", "UL", "US"),
)
EXPLICIT_VRS: dict[bytes, tuple[str, bool]] = {
    **{vr.encode(): (vr, True) for vr in _LONG},
    **{vr.encode(): (vr, False) for vr in _SHORT},
}

_STANDARD: dict[int, str] = {tag: entry[0] for tag, entry in DicomDictionary.items()}


def spell(tag: int) -> str:
    """Eight upper-case hexadecimal digits."""
    return KEYS.get(tag) or f"{tag:08X}"


def vr_of(tag: int, creator: str | None, *, signed: bool) -> str:
    """The VR of an attribute whose header does not say; UN where nobody knows.

    `creator` is the private creator of its block (PS3.5 7.8.1); `signed` is Pixel Representation, which decides
    between US and SS. Pixel and LUT data are OW in implicit VR (PS3.5 annex A.1).
    """
    vr = _STANDARD.get(tag) or _looked_up(tag, creator)
    if " " not in vr:
        return vr
    if "OW" in vr:
        return "OW"
    return "SS" if signed else "US"


def _looked_up(tag: int, creator: str | None) -> str:
    group, element = tag >> 16, tag & 0xFFFF
    if group & 1:
        if 0x10 <= element <= 0xFF:
            return "LO"
        return _private(tag, creator) if creator else "UN"
    if element == 0:
        return "UL"
    try:
        return dictionary_VR(tag)
    except KeyError:
        return "UN"


def _private(tag: int, creator: str) -> str:
    try:
        vr = private_dictionary_VR(tag, creator)
    except KeyError:
        return "UN"
    return vr if vr.isalpha() and len(vr) == 2 else "UN"


def is_vr_like(code: bytes) -> bool:
    """Whether the two bytes look like a VR, known or not: two capital letters (PS3.5 6.2)."""
    return code.isalpha() and code.isupper()
