"""Person names made comparable: as they are written, and as they sound (PS3.5 6.2.1, PS3.4 C.2.2.2.1)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

GROUPS = ("Alphabetic", "Ideographic", "Phonetic")

# A name longer than this is compared by its beginning: database indexes do not take keys without end.
LONGEST = 256

# Letters that Unicode does not decompose but that people type without their strokes.
_PLAIN = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "ħ": "h", "ŧ": "t"}
)
_APOSTROPHES = str.maketrans("", "", "'’‘ʼ`´")
_COMPONENTS = re.compile("[=^]")
# The most words of a component that are also looked for as one.
_MOST_JOINED = 5
_WORD = re.compile(r"[^\W_]+")
# Scripts written without spaces: a part of a name is looked for anywhere in it.
_UNSPACED = re.compile(r"[\u1100-\u11ff\u3040-\u30ff\u3130-\u318f\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")
_LATIN = re.compile(r"[a-z]+")
_SOUND_OF = {
    letter: digit
    for digit, letters in {"1": "bfpv", "2": "cgjkqsxz", "3": "dt", "4": "l", "5": "mn", "6": "r"}.items()
    for letter in letters
}
# What names begin with, and the letter that sounds the same.
_ONSETS = (
    ("sch", "s"), ("ph", "f"), ("pf", "f"), ("kn", "n"), ("gn", "n"), ("wr", "r"), ("ps", "s"), ("ce", "se"),
    ("ci", "si"), ("cy", "si"), ("ch", "k"), ("c", "k"), ("q", "k"), ("x", "s"), ("z", "s"), ("v", "f"), ("y", "j"),
)  # fmt: skip


def group_key(text: str) -> str:
    """One component group without what does not matter: case, spaces around components, trailing empty components."""
    folded = unicodedata.normalize("NFC", text.replace("\0", "")).casefold()
    components = (" ".join(component.split()) for component in folded.split("^"))
    return "^".join(components).rstrip("^")[:LONGEST].rstrip("^ ")


def name_keys(value: Any) -> tuple[str, str, str]:
    """The keys of the alphabetic, ideographic and phonetic groups of a PN value of the DICOM JSON model.

    A value may also be text as in a data set, its groups separated by `=`.
    """
    if isinstance(value, Mapping):
        first, second, third = (group_key(str(value.get(group) or "")) for group in GROUPS)
    else:
        groups = [group_key(group) for group in str(value or "").split("=")[:3]]
        first, second, third = (*groups, "", "")[:3]
    return first, second, third


def plain(text: str) -> str:
    """Letters without case, accents or width."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    bare = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    return unicodedata.normalize("NFC", bare).translate(_PLAIN).translate(_APOSTROPHES)


def words(text: str) -> list[str]:
    """The plain words of a name or of what somebody typed, in their order."""
    return _WORD.findall(plain(text))


def unspaced(word: str) -> bool:
    """Whether a word is in a script that is written without spaces."""
    return _UNSPACED.search(word) is not None


def sound(word: str) -> str:
    """How a plain Latin word sounds, as a letter and three digits (after Russell and Odell); empty for any other."""
    if len(word) < 3 or not _LATIN.fullmatch(word):
        return ""
    for onset, letter in _ONSETS:
        if word.startswith(onset):
            word = letter + word[len(onset) :]
            break
    digits, last = "", _SOUND_OF.get(word[0], "")
    for letter in word[1:]:
        digit = _SOUND_OF.get(letter, "")
        if digit and digit != last:
            digits += digit
        # h and w do not separate equal sounds; vowels do.
        if letter not in "hw":
            last = digit
    return f"{word[0].upper()}{digits[:3]:0<3}"


def fuzzy_key(keys: tuple[str, str, str]) -> str:
    """Everything by which a name may be found loosely, each word and each sound between spaces."""
    found: list[str] = []
    for key in keys:
        parts = words(key)
        found += parts
        if any(unspaced(part) for part in parts):
            found.append("".join(parts))
        # De la Cruz is also Delacruz.
        found += [joined for component in key.split("^") for joined in _whole(words(component))]
    sounds = [code for word in found if (code := sound(word))]
    return f" {' '.join([*found, *sounds])} " if found else ""


def fuzzy_readings(text: str) -> tuple[tuple[tuple[str, ...], ...], ...]:
    """The ways to read what was typed, of which one will do: its words as they are, then with neighbours joined.

    A reading is, for each word, the strings of which one must be in a name's `fuzzy_key`. Wildcards mean nothing.
    """
    components = [found for one in _COMPONENTS.split(text) if (found := words(one))]
    each = [tuple(_needles(word)) for component in components for word in component]
    readings = [each] if each else []
    at = 0
    for component in components:
        for begin, end in _runs(component):
            needle = (f" {''.join(component[begin:end])}",)
            readings.append([*each[: at + begin], needle, *each[at + end :]])
        at += len(component)
    return tuple(tuple(reading) for reading in readings)


def _whole(parts: Sequence[str]) -> list[str]:
    """All the words of a component written as one, where there is more than one."""
    return ["".join(parts[begin:end]) for begin, end in _runs(parts) if end - begin == len(parts)]


def _runs(parts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Where neighbours might be one word: in as few words as names have, so that long texts do not multiply."""
    if 1 < len(parts) <= _MOST_JOINED and not any(unspaced(part) for part in parts):
        for begin in range(len(parts) - 1):
            for end in range(begin + 2, len(parts) + 1):
                yield begin, end


def _needles(word: str) -> list[str]:
    if unspaced(word):
        return [word]
    code = sound(word)
    return [f" {word}", f" {code} "] if code else [f" {word}"]
