"""The SOP classes that are not storage as one table: what they are for, and what is agreed about them. Pure.

Presentation contexts, roles, extended negotiation, the choice of what answers a command, and the conformance statement are
made from it. A service of another kind needs a `Kind`, its rows here, and what answers its operations in `services`.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import cache
from typing import Final, NamedTuple

from pydicom.uid import UID

from storage.non_patient import CATEGORIES
from storage.transfer_syntaxes import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE
from storage.types import Level


class Kind(StrEnum):
    """What a SOP class is for: with the command it says what answers."""

    VERIFICATION = "verification"
    STORAGE = "storage"
    FIND = "query"
    MOVE = "retrieve by C-MOVE"
    GET = "retrieve by C-GET"
    COMMITMENT = "storage commitment"
    WORKLIST = "modality worklist"
    PERFORMED_STEP = "performed procedure steps"
    PERFORMED_STEP_RETRIEVE = "performed procedure steps, as they are"
    WORKITEM = "unified procedure steps"
    WORKITEM_EVENT = "events of unified procedure steps"


PLAIN: Final = (EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG)


class SopClass(NamedTuple):
    """One SOP class. `syntaxes` None: any; `levels` of a query/retrieve model, the uppermost first.

    `information` is the service-class-application-information that we support, byte by byte (PS3.7 D.3.3.5): an answer has
    what was asked for and is here. `both_roles`: the peer may be provider too, where it asks for that role. `about`: the storage
    SOP classes of a model without levels, whose objects are of no patient.
    """

    uid: str
    kind: Kind
    syntaxes: tuple[str, ...] | None = PLAIN
    levels: tuple[Level, ...] = ()
    information: bytes = b""
    both_roles: bool = False
    about: tuple[str, ...] = ()


VERIFICATION: Final = "1.2.840.10008.1.1"
COMMITMENT: Final = "1.2.840.10008.1.20.1"
# The well-known instance of storage commitment (PS3.4 J.3.5).
COMMITMENT_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
# PS3.4 K.6.1.
WORKLIST: Final = "1.2.840.10008.5.1.4.31"
# PS3.4 F.7, F.8; not notification (F.9).
PERFORMED_STEP: Final = "1.2.840.10008.3.1.2.3.3"
PERFORMED_STEP_RETRIEVE: Final = "1.2.840.10008.3.1.2.3.4"
# PS3.4 CC.3. On a context of UPS Event the peer is told, and asks for nothing.
_STEPS: Final = "1.2.840.10008.5.1.4.34.6."
UPS_PUSH: Final = _STEPS + "1"
UPS_WATCH: Final = _STEPS + "2"
UPS_PULL: Final = _STEPS + "3"
UPS_EVENT: Final = _STEPS + "4"
UPS_QUERY: Final = _STEPS + "5"
STORAGE_SERVICE_CLASS: Final = "1.2.840.10008.4.2"

_MODELS: Final = "1.2.840.10008.5.1.4.1.2."
PATIENT_ROOT_FIND: Final = _MODELS + "1.1"
PATIENT_ROOT_MOVE: Final = _MODELS + "1.2"
PATIENT_ROOT_GET: Final = _MODELS + "1.3"
STUDY_ROOT_FIND: Final = _MODELS + "2.1"
STUDY_ROOT_MOVE: Final = _MODELS + "2.2"
STUDY_ROOT_GET: Final = _MODELS + "2.3"
PATIENT_STUDY_ONLY_FIND: Final = _MODELS + "3.1"
PATIENT_STUDY_ONLY_MOVE: Final = _MODELS + "3.2"
PATIENT_STUDY_ONLY_GET: Final = _MODELS + "3.3"

_PATIENT_ROOT: Final = (Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE)
_STUDY_ROOT: Final = (Level.STUDY, Level.SERIES, Level.IMAGE)
_PATIENT_STUDY_ONLY: Final = (Level.PATIENT, Level.STUDY)
# PS3.4 C.5.1.1.1: relational queries, dates and times combined, fuzzy matching of names; not time zone adjustment and
# enhanced multi-frame conversion.
FIND_INFORMATION: Final = bytes((1, 1, 1))
# PS3.4 K.5.1: two reserved ones, fuzzy matching of names; not time zone adjustment.
WORKLIST_INFORMATION: Final = bytes((1, 1, 1))
# PS3.4 C.5.2.1.1, C.5.3.1.1: relational retrieval; not enhanced multi-frame conversion.
RETRIEVE_INFORMATION: Final = bytes((1,))
# PS3.4 B.3.1: level 2 (every attribute is kept), signatures are preserved (level 3), nothing is coerced.
STORAGE_INFORMATION: Final = bytes((2, 0, 3, 0, 0, 0))

# The information models of non-patient objects: root of their UIDs, the number of FIND, which MOVE and GET follow, and what
# they are about (PS3.4 annexes U, X, BB, HH, II and JJ).
_NON_PATIENT: Final = (
    ("1.2.840.10008.5.1.4.38", 2, CATEGORIES["hanging-protocols"].sop_classes),
    ("1.2.840.10008.5.1.4.39", 2, CATEGORIES["color-palettes"].sop_classes),
    *((one.removesuffix(".1"), 2, (one,)) for one in CATEGORIES["implant-templates"].sop_classes),
    ("1.2.840.10008.5.1.4.20", 1, CATEGORIES["defined-procedure-protocols"].sop_classes),
    ("1.2.840.10008.5.1.4.1.1.200", 4, CATEGORIES["protocol-approvals"].sop_classes),
    ("1.2.840.10008.5.1.4.1.1.201", 2, CATEGORIES["inventories"].sop_classes),
)

SOP_CLASSES: Final[dict[str, SopClass]] = {
    row.uid: row
    for row in (
        SopClass(VERIFICATION, Kind.VERIFICATION),
        # An archive that we have asked reports as provider, on an association of its own (PS3.4 J.3.3).
        SopClass(COMMITMENT, Kind.COMMITMENT, both_roles=True),
        *(SopClass(uid, Kind.WORKITEM) for uid in (UPS_PUSH, UPS_WATCH, UPS_PULL, UPS_QUERY)),
        SopClass(UPS_EVENT, Kind.WORKITEM_EVENT),
        SopClass(PERFORMED_STEP, Kind.PERFORMED_STEP),
        SopClass(PERFORMED_STEP_RETRIEVE, Kind.PERFORMED_STEP_RETRIEVE),
        SopClass(WORKLIST, Kind.WORKLIST, information=WORKLIST_INFORMATION),
        SopClass(PATIENT_ROOT_FIND, Kind.FIND, PLAIN, _PATIENT_ROOT, FIND_INFORMATION),
        SopClass(STUDY_ROOT_FIND, Kind.FIND, PLAIN, _STUDY_ROOT, FIND_INFORMATION),
        SopClass(PATIENT_STUDY_ONLY_FIND, Kind.FIND, PLAIN, _PATIENT_STUDY_ONLY, FIND_INFORMATION),
        SopClass(PATIENT_ROOT_MOVE, Kind.MOVE, PLAIN, _PATIENT_ROOT, RETRIEVE_INFORMATION),
        SopClass(STUDY_ROOT_MOVE, Kind.MOVE, PLAIN, _STUDY_ROOT, RETRIEVE_INFORMATION),
        SopClass(PATIENT_STUDY_ONLY_MOVE, Kind.MOVE, PLAIN, _PATIENT_STUDY_ONLY, RETRIEVE_INFORMATION),
        SopClass(PATIENT_ROOT_GET, Kind.GET, PLAIN, _PATIENT_ROOT, RETRIEVE_INFORMATION),
        SopClass(STUDY_ROOT_GET, Kind.GET, PLAIN, _STUDY_ROOT, RETRIEVE_INFORMATION),
        SopClass(PATIENT_STUDY_ONLY_GET, Kind.GET, PLAIN, _PATIENT_STUDY_ONLY, RETRIEVE_INFORMATION),
        *(
            SopClass(f"{model}.{first + number}", kind, PLAIN, about=about)
            for model, first, about in _NON_PATIENT
            for number, kind in enumerate((Kind.FIND, Kind.MOVE, Kind.GET))
        ),
    )
}

# "Storage" in the name and yet no C-STORE of an instance: commitment, and the directory of a medium.
NOT_STORAGE: Final = frozenset({COMMITMENT, "1.2.840.10008.1.20.2", "1.2.840.10008.1.3.10"})
UID_GRAMMAR: Final = re.compile(r"[0-9.]{1,64}")


@cache
def is_storage(sop_class_uid: str) -> bool:
    """Whether instances of this SOP class are stored; what the dictionary does not know may well be."""
    if not UID_GRAMMAR.fullmatch(sop_class_uid):
        return False
    entry = UID(sop_class_uid)
    # A UID that is not in the dictionary has no type; a retired one of which it has forgotten the name has no name.
    if not entry.type or not entry.name:
        return True
    return entry.type == "SOP Class" and "Storage" in entry.name and sop_class_uid not in NOT_STORAGE


def kind_of(sop_class_uid: str) -> Kind:
    """What an accepted context's SOP class is for: storage, where it is not in the table."""
    row = SOP_CLASSES.get(sop_class_uid)
    return row.kind if row else Kind.STORAGE
