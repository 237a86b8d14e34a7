"""What the tables of storage say in a conformance statement: keys, kinds of matching, transfer syntaxes, errors, character sets."""

from __future__ import annotations

from collections.abc import Iterable

from storage.attributes import LEVELS, TABLE, Attribute
from storage.charsets import TERMS
from storage.codecs.decoding import DECODERS
from storage.codecs.lossy import LOSSY
from storage.errors import STATUS, LightboxError, UnsupportedQuery
from storage.index.plan import Plan
from storage.item_parts import ITEMS
from storage.levels import Limits
from storage.matching import parse
from storage.matching.keys import WILD
from storage.matching.parsing import MOST_STARS, MOST_VALUES
from storage.transfer_syntaxes import LOSSLESS_TARGETS, LOSSY_TARGETS, Coding, TransferSyntax
from storage.transfer_syntaxes import TABLE as SYNTAXES
from storage.types import Level, Query

# A value that an attribute of the VR may have, to ask the index how it would look for it.
_SAMPLES = {"DA": "20200101", "TM": "12", "DT": "2020", "UI": "1.2"}
# Code Value, which may stand in the items of a sequence: how a sequence is matched is asked by what is in it.
_INSIDE = ("00080100", "SH")


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; a cell may be any text of one line."""
    lines = [list(head), *(list(row) for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def keys(level: Level) -> str:
    """The attributes of a level: those of the table's first part one by one, those that are only kept as a list."""
    own = [attribute for attribute in TABLE.values() if attribute.level is level]
    listed = [one for one in own if one.key != "O" or one.indexed or one.computed or one.default]
    rows = ((f"{one.keyword} {_tag(one)}", one.vr, one.key, matched(one), _unasked(one)) for one in listed)
    text = table(("attribute", "VR", "key", "matched", "returned unasked for"), rows)
    others = ", ".join(f"{one.keyword} {_tag(one)}" for one in own if one not in listed)
    return f"{text}\n\nAlso, optional (O), matched row by row and returned when asked for: {others}." if others else text


def matched(attribute: Attribute) -> str:
    """How the index finds an attribute in a query at its own level: in the database, row by row, or not at all."""
    path, vr = ((attribute.tag, _INSIDE[0]), _INSIDE[1]) if attribute.vr == "SQ" else ((attribute.tag,), attribute.vr)
    try:
        plan = Plan(Query(attribute.level, ((path, parse(path, vr, _SAMPLES.get(vr, "1"))),)), sqlite=True)
    except UnsupportedQuery:
        return "no"
    if not plan.exact:
        return "row by row" if len(path) == 1 else "row by row, by what is in its items"
    anything = Plan(Query(attribute.level), sqlite=True)
    return "in the database" if len(plan.where) > len(anything.where) else "no"


def matching() -> str:
    """The kinds of matching of PS3.4 C.2.2.2."""
    wild = ", ".join(sorted(WILD))
    rows = (
        ("Single value", "C.2.2.2.1", "yes", "case counts, except in PN; numbers are compared as numbers, text in Unicode's NFC"),
        ("List of UIDs", "C.2.2.2.2", "yes", f"at most {MOST_VALUES} values"),
        ("Universal", "C.2.2.2.3", "yes", "an empty value, or only `*`"),
        ("Wildcard", "C.2.2.2.4", "yes", f"`*` and `?` in {wild}; at most {MOST_STARS} stars in a value; refused in other VRs"),
        ("Range", "C.2.2.2.5", "yes", "DA, TM and DT, open at either end; a date and its time taken together where that is agreed"),
        ("Sequence", "C.2.2.2.6", "yes", "one item in the key; its keys must be met by one and the same item of the instance"),
        ("Empty value", "C.2.2.2.7", "yes", "`\"\"`: the attribute is absent or has no value"),
        ("Multiple values", "C.2.2.2.8", "partly", "over DICOMweb all of them where `multiplevaluematching` asks for it; otherwise, and in C-FIND, several values in a key of any VR mean *any* of them"),
        ("Names", "C.2.2.2.1", "yes", "without case; component by component, so that `SMITH^*` finds `SMITH`; in any one of the alphabetic, ideographic and phonetic groups, or in each where `=` separates them"),
        ("Names, fuzzy", "C.2.2.2.1.1", "yes", "where agreed: the words in any order, without accents, by their beginning or their sound (after Soundex), and as without it; values of LO, LT, SH, ST, UC and UT are compared without case then"),
        ("Time zones", "C.2.2.2.1, .5", "partly", "a DT with an offset is compared in UTC; DA and TM as they are stored, Timezone Offset From UTC does not adjust them"),
    )
    return table(("kind", "PS3.4", "supported", "how"), rows)


def transfer_syntaxes() -> str:
    """Every transfer syntax of the table, and what can be done beside storing and giving back."""
    rows = ((one.name, one.uid, "yes", _frames(one), one.media_type) for one in SYNTAXES.values())
    return table(("transfer syntax", "UID", "stored, and retrieved as stored", "frames", "media type of a frame"), rows)


def lossy() -> str:
    """What can be had with loss, and what of: for who names the transfer syntax, and nobody else (PS3.3 C.7.6.1.1.5)."""
    rows = (
        (SYNTAXES[uid].name, _stored_bits(one.stored), "yes" if one.signed else "no", "yes" if one.colours else "no", one.how, one.method)
        for uid, one in LOSSY.items()
    )
    return table(("transfer syntax", "Bits Stored", "signed", "colour", "how good", "Lossy Image Compression Method"), rows)


def _stored_bits(stored: range) -> str:
    return str(stored[0]) if len(stored) == 1 else f"{stored[0]} to {stored[-1]}"


def errors() -> str:
    """Every error with its status in each protocol; one that is not named answers as its ancestor does."""
    rows = (
        (error.__name__, _first_sentence(error), f"{status.store:04X}", f"{status.query:04X}", str(status.http))
        for error, status in STATUS.items()
    )
    return table(("error", "when", "C-STORE; Failure Reason (0008,1197)", "C-FIND", "HTTP"), rows)


def limits() -> str:
    """How much of a data set is read before it is refused as LimitExceeded."""
    most = Limits()
    return (
        f"A data set may have sequences {most.depth} deep, {most.elements:,} elements and items, {most.header_bytes >> 20} MiB outside pixel and bulk data, and"
        f" {most.fragments:,} fragments of pixel data. The items of its Per-Frame Functional Groups Sequence (5200,9230) count apart, so that slides of hundreds of thousands"
        f" of tiles are stored: as many as Number of Frames says and there is room for in the pixel data (eight bytes each), at most {most.frames:,} with {most.frame_elements:,} elements; they are kept compressed, {ITEMS} at a time, and it is"
        " what they take then that counts against the bytes. Items beyond the last frame count as anything else. From that many items on the sequence is in metadata"
        " and not in answers to searches."
    )


def character_sets() -> str:
    """The defined terms of Specific Character Set (0008,0005) that are read (PS3.3 C.12.1.1.2)."""
    return ", ".join(f"`{term}`" for term in sorted(TERMS) if term) + ", and none (`ISO_IR 6`)"


def _tag(attribute: Attribute) -> str:
    return f"({attribute.tag[:4]},{attribute.tag[4:]})"


def _unasked(attribute: Attribute) -> str:
    return ", ".join(level for level in LEVELS if level in attribute.default)


def _frames(syntax: TransferSyntax) -> str:
    if syntax.coding in DECODERS:
        encoded = "; encoded" if syntax.uid in LOSSLESS_TARGETS else "; encoded, with loss" if syntax.uid in LOSSY_TARGETS else ""
        return "as stored, decoded, rendered" + encoded
    return "the whole video as stored" if syntax.coding is Coding.VIDEO else "none: the pixel data is elsewhere"


def _first_sentence(error: type[LightboxError]) -> str:
    return (error.__doc__ or "").strip().partition("\n")[0]
