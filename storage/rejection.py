"""Why instances are deleted: the rejection codes of DICOM, and what each means for instances that come again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from storage.errors import BadRequest

_LONGEST: Final = 1000
# As a code alone, or as viewers write one in a path: code, its scheme, perhaps its meaning.
_CODE = re.compile(r"(\d{6})(\^DCM(\^.*)?)?")


@dataclass(frozen=True, slots=True)
class Rejection:
    """A document title by which images are rejected (PS3.16 CID 7011, IHE Imaging Object Change Management).

    `final`: what was rejected so is wrong, and is not taken when it comes again; whoever has it sends a corrected instance
    under another UID. What was deleted for any other reason is taken, for then somebody wants it.

    `leaves_no_note`: what has expired is gone as if it had never been here, and its note with it; the others are shown, for whoever
    has the images elsewhere must learn from the note that they are not to be used.

    `may_be_used`: a site may leave what is rejected so in regular use, note and images (IHE RAD TF-3 4.66.4.1.3); the others are
    hidden always.
    """

    code: str
    meaning: str
    final: bool
    leaves_no_note: bool = False
    may_be_used: bool = False


REJECTIONS: Final = {
    one.code: one
    for one in (
        Rejection("113001", "Rejected for Quality Reasons", final=True, may_be_used=True),
        Rejection("113037", "Rejected for Patient Safety Reasons", final=True),
        Rejection("113038", "Incorrect Modality Worklist Entry", final=True),
        Rejection("113039", "Data Retention Policy Expired", final=False, leaves_no_note=True),
    )
}


@dataclass(frozen=True, slots=True)
class Why:
    """The reason of a deletion: a code of `REJECTIONS` or none, and what somebody wrote about it."""

    code: str = ""
    comment: str = ""

    @property
    def final(self) -> bool:
        """Whether what is deleted so is not taken again."""
        return is_final(self.code)


def is_final(code: str) -> bool:
    """Whether what was deleted under a code is not taken again."""
    return code in REJECTIONS and REJECTIONS[code].final


def meaning_of(code: str) -> str:
    """What a code means; nothing for none."""
    return REJECTIONS[code].meaning if code in REJECTIONS else ""


def why(reason: str = "", comment: str = "") -> Why:
    """A reason as people and programs write it: `113001`, `113001^DCM`, or words.

    Raises BadRequest for a code that rejects nothing, and for text that is too long or has control characters.
    """
    reason, comment = reason.strip(), comment.strip()
    for text in (reason, comment):
        if len(text) > _LONGEST or not all(character.isprintable() for character in text):
            raise BadRequest(f"a reason is one line of at most {_LONGEST} characters")
    found = _CODE.fullmatch(reason)
    if found is None:
        return Why(comment=f"{reason}: {comment}" if reason and comment else reason or comment)
    if found[1] not in REJECTIONS:
        known = ", ".join(f"{one.code} ({one.meaning})" for one in REJECTIONS.values())
        raise BadRequest(f"{found[1]} is no code by which images are rejected; use one of {known}, or words")
    return Why(found[1], comment)
