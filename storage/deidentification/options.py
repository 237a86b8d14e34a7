"""Which attributes the options of the profile are about (PS3.15 table E.1-1, its columns of options)."""

from __future__ import annotations

from typing import Final

from pydicom.datadict import tag_for_keyword

from storage.coercion.rules import vr_of_tag
from storage.deidentification.profile import Profile, Word
from storage.deidentification.table import ACTIONS, action_of


def _tags(text: str) -> frozenset[int]:
    return frozenset(int(tag, 16) for tag in text.split())


_DEVICE: Final = _tags("""
    00181007 0018700A 00500020 3010002D 00181000 00181002 0018100B 00181008 00181005 0016004F 00160050 00160051 0016004E
    30100043 00400241 00404030 00400242 00404028 00181004 00400011 00400001 00404027 00400010 00404025 00321020 00321021
    300A0216 30080105 00081010 00185011 300A00B2 0018100A 00181009 00189371 00189373 00189367
""")
_INSTITUTION: Final = _tags("00120060 00120081 00120030 00120031 00080080 00080081 00080082 00081040 00081041")
_CHARACTERISTICS: Final = _tags("00102160 00101010 00100040 00102203 00101020 00101030 001021C0 001021A0")
# UIDs that the option leaves to the profile: of digital signatures, and of content.
_NOT_RETAINED: Final = _tags("04000100 0040A124")
# The patient's own dates are not retained; what shifts with the others has no date in it.
_BIRTH: Final = _tags("00100030 00100032")
_OFFSET: Final = 0x00080201
_DATES: Final = frozenset({"DA", "DT", "TM"})
_PROSE: Final = frozenset({"LT", "ST", "UT"})
# Text that is to be understood by people: what is kept of it by the option is cleaned.
DESCRIPTORS: Final = _tags("""
    00081030 0008103E 00181030 00180010 00181400 00189424 00082111 00081080 00400254 00400007 00321060 00402400 00400280
    00204000 00189937 0018A003 00189185 00380062 0018937B 0018937F 300A0002 300A0003 300A0004 300A00C3 30060002 30060004
    30060006 30060026 30060028 30060038 30060085 30060088 00500021 00181401 00380040 00181160
""") & ACTIONS.keys()
# What things are, not which: kept though they are UIDs.
_CLASSES: Final = frozenset(
    tag_for_keyword(word)
    for word in ["SOPClassUID", "RelatedGeneralSOPClassUID", "OriginalSpecializedSOPClassUID", "SOPClassesInStudy", "CodingSchemeUID", "ContextGroupExtensionCreatorUID", "ContextUID", "MappingResourceUID", "StoredInstanceTransferSyntaxUID", "ReferencedSOPClassUID", "SOPClassesSupported", "AvailableTransferSyntaxUID", "FlowTransferSyntaxUID", "MACCalculationTransferSyntaxUID", "EncryptedContentTransferSyntaxUID", "PertinentSOPClassesInStudy", "PertinentSOPClassesInSeries"]
)
# The one sequence that may not be kept, and whose dummy could not be told from a finding.
_ANNOTATIONS: Final = 0x00700001


def decided(tag: int, vr: str, profile: Profile) -> str:
    """What becomes of an attribute: X, Z, D, U, K, or C (a date that is moved, a description that is cleaned)."""
    action = action_of(tag)
    if action in "XK" and tag not in ACTIONS:
        return action if action == "X" else _unlisted(tag, vr, profile)
    if tag in _DEVICE and Word.RETAIN_DEVICE in profile:
        return "K"
    if tag in _INSTITUTION and Word.RETAIN_INSTITUTION in profile:
        return "K"
    if tag in _CHARACTERISTICS and Word.RETAIN_CHARACTERISTICS in profile:
        return "K"
    if tag in DESCRIPTORS and Word.CLEAN_DESCRIPTORS in profile:
        return "C"
    if action == "U" or (vr == "UI" and action == "D"):
        return "K" if Word.RETAIN_UIDS in profile and tag not in _NOT_RETAINED else "U"
    if vr in _DATES or tag == _OFFSET:
        return _date(tag, action, profile)
    if (vr == "SQ" and ACTIONS[tag] in ("X/D", "X/Z/D")) or tag == _ANNOTATIONS:
        return "X"
    return action


def _unlisted(tag: int, vr: str, profile: Profile) -> str:
    """What the table does not name stays, but for what could identify somebody by its kind."""
    if not vr_of_tag(tag):
        return "X"
    if vr == "PN":
        return "Z"
    if vr in _PROSE:
        return "X"
    if vr == "UI":
        return "K" if tag in _CLASSES or Word.RETAIN_UIDS in profile else "U"
    return _date(tag, "Z", profile) if vr in _DATES else "K"


def _date(tag: int, action: str, profile: Profile) -> str:
    if tag in _BIRTH:
        return action
    if Word.RETAIN_DATES in profile:
        return "K"
    return "C" if Word.MODIFY_DATES in profile else action
