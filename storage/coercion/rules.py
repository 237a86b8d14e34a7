"""Rules of coercion: one line of text each, the same on the command line, in the API, on the page and in the database.

    set InstitutionName "St. Mary"                        a value, whatever was there
    set IssuerOfPatientID "MARY" if absent                only where there is none; `if present`: only where there is one
    copy AccessionNumber to StudyID if absent
    move PatientComments to ImageComments                 copied, and removed where it was
    remove PatientTelephoneNumbers
    prefix PatientID "MARY-"                              not twice; `suffix` likewise
    set IssuerOfAccessionNumberSequence.LocalNamespaceEntityID "RIS" where Modality = "CT" and StationName = "CT*"
    set PatientSex "O" because correct                    CORRECT rather than COERCE (PS3.3 C.12.1.1.9)

An attribute is a keyword of PS3.6 or eight hex digits; inside sequences a path, which means every item of them, and an item
is made where there is none. Conditions match as they do in queries: `*` any letters, `?` one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

from storage.coercion.values import fits, problem
from storage.errors import BadRequest

MOST: Final = 200
_LONGEST: Final = 4096
_DEEPEST: Final = 8
_WORDS: Final = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|([^\s"=]+)|(=))')
_TAG: Final = re.compile(r"[0-9A-Fa-f]{8}")

Path = tuple[int, ...]


class Action(StrEnum):
    """What a rule does with its attribute."""

    SET = "set"
    COPY = "copy"
    MOVE = "move"
    REMOVE = "remove"
    PREFIX = "prefix"
    SUFFIX = "suffix"


class When(StrEnum):
    """Whether the attribute must have a value, or must not."""

    ALWAYS = ""
    ABSENT = "absent"
    PRESENT = "present"


class Reason(StrEnum):
    """Reason for the Attribute Modification (0400,0565)."""

    COERCE = "COERCE"
    CORRECT = "CORRECT"


class Where(NamedTuple):
    """A further condition: an attribute's value, with wildcards."""

    path: Path
    pattern: str


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; `source` only of `copy` and `move`, `value` only of those that have one."""

    action: Action
    target: Path
    value: str = ""
    source: Path = ()
    when: When = When.ALWAYS
    where: tuple[Where, ...] = ()
    reason: Reason = Reason.COERCE

    def __str__(self) -> str:
        words = [self.action.value]
        if self.source:
            words += [spelled(self.source), "to"]
        words.append(spelled(self.target))
        if self.action in _WITH_VALUE:
            words.append(_quoted(self.value))
        if self.when:
            words += ["if", self.when.value]
        for number, one in enumerate(self.where):
            words += ["and" if number else "where", spelled(one.path), "=", _quoted(one.pattern)]
        if self.reason is not Reason.COERCE:
            words += ["because", self.reason.lower()]
        return " ".join(words)


_WITH_VALUE: Final = frozenset({Action.SET, Action.PREFIX, Action.SUFFIX})
_WITH_SOURCE: Final = frozenset({Action.COPY, Action.MOVE})
_AFFIXED: Final = frozenset({"AE", "CS", "LO", "LT", "SH", "ST", "UC", "UT"})
# What ties instances together, says how bytes are to be read, or is written by coercion itself; by tag, and why not.
_IDENTITY: Final = "it identifies the instance"
_PIXELS: Final = "the pixel data would be read otherwise than it is meant"
_KEPT: Final = {
    **dict.fromkeys((0x00080016, 0x00080018, 0x0020000D, 0x0020000E), _IDENTITY),
    **dict.fromkeys((0x00280002, 0x00280004, 0x00280006, 0x00280008, 0x00280010, 0x00280011), _PIXELS),
    **dict.fromkeys((0x00280100, 0x00280101, 0x00280102, 0x00280103, 0x00282110, 0x00282112), _PIXELS),
    **dict.fromkeys((0x00281101, 0x00281102, 0x00281103, 0x00281201, 0x00281202, 0x00281203), _PIXELS),
    0x00080005: "the text would be read otherwise than it is meant: use the node's character set to assume instead",
    0x04000561: "what was there before is written into it",
    0x04000550: "what was there before is written into it",
}


def rules_of(lines: Sequence[str]) -> tuple[Rule, ...]:
    """The rules of lines; empty lines, and what begins with #, are passed over. Raises BadRequest naming the line."""
    rules = []
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                rules.append(rule_of(line))
            except BadRequest as error:
                raise BadRequest(f"rule {number}: {error}") from None
    if len(rules) > MOST:
        raise BadRequest(f"an AE title has at most {MOST} rules")
    return tuple(rules)


def rule_of(line: str) -> Rule:
    """The rule of one line. Raises BadRequest, saying what to write."""
    words = _Words(line)
    action = words.take("set, copy, move, remove, prefix or suffix")
    if action not in set(Action):
        raise BadRequest(f"{action!r} is no action: a rule begins with {', '.join(Action)}")
    done = Action(action)
    source: Path = ()
    if done in _WITH_SOURCE:
        source = path_of(words.take("an attribute to take the value from"))
        words.expect("to", "behind the first attribute")
    target = path_of(words.take("an attribute"))
    value = words.take("a value in double quotes", quoted=True) if done in _WITH_VALUE else ""
    when, where, reason = _conditions(words)
    rule = Rule(done, target, value, source, when, where, reason)
    _check(rule)
    return rule


def _conditions(words: _Words) -> tuple[When, tuple[Where, ...], Reason]:
    when, where, reason = When.ALWAYS, list[Where](), Reason.COERCE
    while not words.over:
        word = words.take("")
        if word == "if" and not when:
            asked = words.take("absent or present")
            if asked not in (When.ABSENT, When.PRESENT):
                raise BadRequest("behind `if` stands absent or present")
            when = When(asked)
        elif word == ("and" if where else "where"):
            path = path_of(words.take("an attribute"))
            words.expect("=", f"behind {spelled(path)}")
            where.append(Where(path, words.take("a value in double quotes", quoted=True)))
        elif word == "because":
            given = words.take("coerce or correct").upper()
            if given not in set(Reason):
                raise BadRequest("behind `because` stands coerce or correct")
            reason = Reason(given)
        else:
            raise BadRequest(f"{word!r} is not understood here: behind the rule may stand `if`, `where … and …` and `because`")
    return when, tuple(where), reason


class _Words:
    """The words of a line, one after the other."""

    def __init__(self, line: str) -> None:
        if len(line) > _LONGEST:
            raise BadRequest(f"a rule has at most {_LONGEST} characters")
        self._words: list[tuple[str, bool]] = []
        at, line = 0, line.rstrip()
        while at < len(line):
            found = _WORDS.match(line, at)
            if found is None:
                raise BadRequest("a double quote is not closed; inside quotes write \\\" for one, and \\\\ for a backslash")
            quoted, plain, sign = found.groups()
            word = re.sub(r'\\(["\\])', r"\1", quoted) if quoted is not None else plain or sign
            self._words.append((word, quoted is not None))
            at = found.end()

    @property
    def over(self) -> bool:
        return not self._words

    def take(self, what: str, *, quoted: bool = False) -> str:
        if not self._words:
            raise BadRequest(f"the rule ends where {what} is missing")
        word, was_quoted = self._words.pop(0)
        if quoted and not was_quoted:
            raise BadRequest(f"write the value in double quotes: \"{word}\"")
        return word

    def expect(self, word: str, where: str) -> None:
        if not self._words or self._words.pop(0) != (word, False):
            raise BadRequest(f"{word!r} is missing {where}")


def path_of(text: str) -> Path:
    """The tags of an attribute, outermost first. Raises BadRequest for a keyword that there is not."""
    path = tuple(_tag_of(word) for word in text.split("."))
    if len(path) > _DEEPEST:
        raise BadRequest(f"{text} is more than {_DEEPEST} deep")
    for tag in path[:-1]:
        if vr_of_tag(tag) != "SQ":
            raise BadRequest(f"{spelled((tag,))} is no sequence, and nothing is in it")
    return path


def _tag_of(word: str) -> int:
    tag = int(word, 16) if _TAG.fullmatch(word) else tag_for_keyword(word)
    if tag is None:
        raise BadRequest(f"there is no attribute {word!r}: write a keyword of PS3.6, such as PatientID, or eight hex digits")
    if tag >> 16 < 8 or not tag & 0xFFFF or tag >> 16 >= 0xFFFA:
        raise BadRequest(f"{word} is no attribute of a data set")
    return tag


def vr_of_tag(tag: int) -> str:
    """Its VR; of several the first, and empty where no dictionary knows it."""
    try:
        return dictionary_VR(tag).split(" or ")[0]
    except KeyError:
        return ""


def spelled(path: Path) -> str:
    """A path as it is written."""
    return ".".join(keyword_for_tag(tag) or f"{tag:08X}" for tag in path)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _check(rule: Rule) -> None:
    _check_target(rule.target, rule.action)
    vr = vr_of_tag(rule.target[-1])
    if rule.action is Action.SET:
        wrong = problem(vr, rule.value)
        if wrong:
            raise BadRequest(f"the value for {spelled(rule.target)} {wrong}")
    if rule.action in (Action.PREFIX, Action.SUFFIX):
        if vr not in _AFFIXED:
            raise BadRequest(f"{spelled(rule.target)} is {vr}: only {', '.join(sorted(_AFFIXED))} take a {rule.action}")
        wrong = problem(vr, rule.value) if rule.value else "is empty"
        if wrong or "\\" in rule.value:
            raise BadRequest(f"the {rule.action} for {spelled(rule.target)} {wrong or 'has a backslash, which would divide it'}")
    if rule.source:
        _check_source(rule, vr)
    if rule.when is When.ABSENT and rule.action in (Action.REMOVE, Action.PREFIX, Action.SUFFIX):
        raise BadRequest(f"{rule.action} does nothing where the attribute is absent")


def _check_source(rule: Rule, vr: str) -> None:
    source = vr_of_tag(rule.source[-1])
    if rule.source == rule.target:
        raise BadRequest("an attribute cannot be copied to itself")
    if not source or not fits(source, vr):
        raise BadRequest(
            f"{spelled(rule.source)} is {source or 'of no known VR'} and {spelled(rule.target)} is {vr}: not every value of"
            " the one is one of the other"
        )
    if rule.action is Action.MOVE:
        _check_target(rule.source, Action.REMOVE)


def _check_target(path: Path, action: Action) -> None:
    name, tag = spelled(path), path[-1]
    # The reference of an instance is part of what a sequence is about; it goes with the sequence or stays.
    vr = vr_of_tag(tag)
    why = next((_KEPT[one] for one in path if one in _KEPT), "")
    if not why and any(one >> 16 == 0x7FE0 for one in path):
        why = "pixel data is never touched"
    if not why and vr == "UI":
        why = "UIDs tie instances together"
    if why:
        raise BadRequest(f"{name} cannot be coerced: {why}")
    if action is not Action.REMOVE and (not vr or tag >> 16 & 1):
        raise BadRequest(f"{name} is not in the data dictionary: it can only be removed")
