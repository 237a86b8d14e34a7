"""What an AE title's profile of de-identification is made of: words, each an option of PS3.15 E.3 or a decision of its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from storage.errors import BadRequest


class Word(StrEnum):
    """One word of a profile."""

    BASIC = "basic"
    RETAIN_UIDS = "retain-uids"
    RETAIN_DATES = "retain-dates"
    MODIFY_DATES = "modify-dates"
    RETAIN_DEVICE = "retain-device"
    RETAIN_INSTITUTION = "retain-institution"
    RETAIN_CHARACTERISTICS = "retain-patient-characteristics"
    CLEAN_DESCRIPTORS = "clean-descriptors"
    # Not of the standard.
    UNCHECKED_PIXELS = "unchecked-pixels"
    KEEP_ORIGINALS = "keep-originals"


MEANING: Final = {
    Word.BASIC: "everything that the Basic Application Level Confidentiality Profile names is removed, emptied or replaced",
    Word.RETAIN_UIDS: "UIDs stay as they are",
    Word.RETAIN_DATES: "dates and times stay as they are, but for that of birth",
    Word.MODIFY_DATES: "dates are moved, by a number of days that is the same for all of a patient's",
    Word.RETAIN_DEVICE: "what identifies the device stays",
    Word.RETAIN_INSTITUTION: "what identifies the institution stays",
    Word.RETAIN_CHARACTERISTICS: "sex, age, size, weight, ethnic group, smoking and pregnancy status stay",
    Word.CLEAN_DESCRIPTORS: "descriptions keep their words from the vocabulary of DICOM, and lose all others",
    Word.UNCHECKED_PIXELS: "objects that often have text in their pixels are taken, unless they say that they have",
    Word.KEEP_ORIGINALS: "what was received is kept, for administrators",
}

# PS3.16 CID 7050, in the scheme DCM: of what is said to have been done.
CODES: Final = {
    Word.BASIC: ("113100", "Basic Application Confidentiality Profile"),
    Word.CLEAN_DESCRIPTORS: ("113105", "Clean Descriptors Option"),
    Word.RETAIN_DATES: ("113106", "Retain Longitudinal Temporal Information Full Dates Option"),
    Word.MODIFY_DATES: ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
    Word.RETAIN_CHARACTERISTICS: ("113108", "Retain Patient Characteristics Option"),
    Word.RETAIN_DEVICE: ("113109", "Retain Device Identity Option"),
    Word.RETAIN_UIDS: ("113110", "Retain UIDs Option"),
    Word.RETAIN_INSTITUTION: ("113112", "Retain Institution Identity Option"),
}


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile by its words, `basic` among them. Raises BadRequest for words that contradict each other."""

    words: frozenset[Word]

    def __post_init__(self) -> None:
        if Word.BASIC not in self.words:
            raise BadRequest("a profile of de-identification begins with basic; its other words are options of that")
        if {Word.RETAIN_DATES, Word.MODIFY_DATES} <= self.words:
            raise BadRequest("dates are either retained or modified: give one of retain-dates and modify-dates")

    def __contains__(self, word: Word) -> bool:
        return word in self.words

    def listed(self) -> list[str]:
        """The words in the order of `Word`."""
        return [word.value for word in Word if word in self.words]


def profile_of(words: Iterable[str]) -> Profile | None:
    """The profile of some words; None of none. Raises BadRequest for a word that is none."""
    found = set()
    for word in words:
        if word not in set(Word):
            raise BadRequest(f"there is no word {word!r} for de-identification: use {', '.join(Word)}")
        found.add(Word(word))
    return Profile(frozenset(found)) if found else None
