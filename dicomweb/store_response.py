"""The answer to STOW-RS: the Store Instances Response Module and the status that sums it up (PS3.18 10.5.3, annex I)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.datadict import keyword_for_tag

from dicomweb import errors
from storage.errors import LightboxError, statuses
from storage.non_patient import BY_SOP_CLASS
from storage.types import Flag, Stored

# PS3.18 annex I, table I.1-2: what a flag of the scanner means as Warning Reason (0008,1196). B007: the data set does
# not match its SOP class, here because the picture that it promises is not, or not all, in it. Other flags are for the
# administrator: the instance is kept as it was sent, and a warning would make its sender believe otherwise.
WARNING_REASONS: dict[str, int] = dict.fromkeys(
    ("truncated", "short-pixel-data", "no-fragments", "no-image-size"), 0xB007
)


@dataclass(frozen=True, slots=True)
class Failed:
    """An instance that was not stored; its UIDs where they could be read."""

    error: BaseException
    sop_class_uid: str = ""
    sop_instance_uid: str = ""


Outcome = Stored | Failed


def status_for(outcomes: Iterable[Outcome]) -> int:
    """PS3.18 table 10.5.3-1: 200 all stored, 202 some, or with warnings; otherwise why none was."""
    outcomes = list(outcomes)
    stored = [outcome for outcome in outcomes if isinstance(outcome, Stored)]
    if stored:
        plain = len(stored) == len(outcomes) and not any(_warning(outcome) for outcome in stored)
        return 200 if plain else 202
    reasons = {errors.status_of(outcome.error) for outcome in outcomes if isinstance(outcome, Failed)}
    only = reasons.pop() if len(reasons) == 1 else 409
    return only if only in (413, 503, 507) else 409


def response(outcomes: Sequence[Outcome], root: str) -> dict[str, Any]:
    """The Store Instances Response Module (PS3.18 annex I, table I.1-1) in the DICOM JSON model."""
    stored = [outcome for outcome in outcomes if isinstance(outcome, Stored)]
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    studies = {outcome.uids.study for outcome in stored if outcome.sop_class_uid not in BY_SOP_CLASS}
    # Type 2: without a value where there is no study, or more than one.
    answer = {"00081190": _element("UR", f"{root}/studies/{studies.pop()}") if len(studies) == 1 else {"vr": "UR"}}
    sequences = {
        "00081198": [_failed_item(item) for item in failed if item.sop_instance_uid],
        "00081199": [_stored_item(item, root) for item in stored],
        "0008119A": [{"00081197": _element("US", statuses(item.error).store)} for item in failed if not item.sop_instance_uid],
    }
    answer.update({tag: {"vr": "SQ", "Value": items} for tag, items in sequences.items() if items})
    return answer


def warning_header(outcomes: Iterable[Outcome]) -> str:
    """Why instances failed, and what is odd about those that were stored, in words, once per reason (RFC 7234 5.5).

    Table I.1-1 has numbers only; the attribute that a number is about is named here.
    """
    counted = Counter(text for outcome in outcomes for text in _texts(outcome))
    return ", ".join(f'299 lightbox "{times} x {_quotable(text)}"' for text, times in counted.most_common(4))


def _texts(outcome: Outcome) -> Iterator[str]:
    if isinstance(outcome, Failed):
        yield str(outcome.error) if isinstance(outcome.error, LightboxError) else "processing failure"
        return
    flag = _warned(outcome)
    if flag is not None:
        yield f"stored with a warning: {flag.text}{_named(flag.tag)}"


def _named(tag: str) -> str:
    """The attribute of a flag, by keyword and tag; nothing where it is about none."""
    if not tag:
        return ""
    return f" ({keyword_for_tag(int(tag, 16))} {tag[:4]},{tag[4:]})".replace("( ", "(")


def _quotable(text: str) -> str:
    plain = text.encode("ascii", "replace").decode("ascii").replace("\\", "/").replace('"', "'")
    return "".join(character if character.isprintable() else " " for character in plain)[:300]


def _stored_item(stored: Stored, root: str) -> dict[str, Any]:
    item = {
        "00081150": _element("UI", stored.sop_class_uid),
        "00081155": _element("UI", stored.uids.instance),
        "00081190": _element("UR", f"{root}/{_place(stored)}"),
    }
    warning = _warning(stored)
    if warning:
        item["00081196"] = _element("US", warning)
    return item


def _place(stored: Stored) -> str:
    uids, category = stored.uids, BY_SOP_CLASS.get(stored.sop_class_uid)
    if category is not None:
        return f"{category.name}/{uids.instance}"
    return f"studies/{uids.study}/series/{uids.series}/instances/{uids.instance}"


def _failed_item(failed: Failed) -> dict[str, Any]:
    return {
        "00081150": _element("UI", failed.sop_class_uid),
        "00081155": _element("UI", failed.sop_instance_uid),
        "00081197": _element("US", statuses(failed.error).store),
    }


def _warning(stored: Stored) -> int:
    flag = _warned(stored)
    return WARNING_REASONS[flag.code] if flag is not None else 0


def _warned(stored: Stored) -> Flag | None:
    """The flag that makes a warning of a success (table I.1-1 has room for one)."""
    return next((flag for flag in stored.flags if flag.code in WARNING_REASONS), None)


def _element(vr: str, value: str | int) -> dict[str, Any]:
    return {"vr": vr, "Value": [value]}
