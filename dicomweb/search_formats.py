"""What the answers of a search are written as: DICOM JSON, the Native DICOM Model in XML, and a table for people."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from dicomweb.media_types import CSV, DICOM_JSON, DICOM_XML, JSON
from dicomweb.multipart import closing, part_head
from dicomweb.native_xml import to_xml
from storage.attributes import TABLE, name_of
from storage.types import Dataset, Query

# What turns answers into the pieces of a body: for a query, whose columns a table needs to know, and with a boundary, which
# multipart needs.
Writer = Callable[[Iterable[Dataset], Query, str], Iterator[bytes]]

# Rows of a table that are written at once.
_ROWS = 100
# A spreadsheet takes a cell that begins so for a formula, whatever it is quoted with.
_FORMULA = re.compile(r"[=+\-@\t\r\n]|\s+[=+\-@]")
_NUMBERS = frozenset({"DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"})


def as_json(answers: Iterable[Dataset], _query: Query, _boundary: str) -> Iterator[bytes]:
    """One array of the DICOM JSON model (PS3.18 F.2); an empty one when nothing was found."""
    before = b"["
    for answer in answers:
        yield before + orjson.dumps(answer)
        before = b","
    yield b"]" if before == b"," else b"[]"


def as_xml(answers: Iterable[Dataset], _query: Query, boundary: str) -> Iterator[bytes]:
    """Each answer as a document in a part of its own (PS3.18 8.6.1.2.1, 10.6.3.3)."""
    headers, first = {"Content-Type": DICOM_XML}, True
    for answer in answers:
        yield part_head(boundary, headers, first=first) + to_xml(answer)
        first = False
    yield closing(boundary)


def as_csv(answers: Iterable[Dataset], query: Query, _boundary: str) -> Iterator[bytes]:
    """A line of keywords, then a line for each answer (RFC 4180), in UTF-8 with the mark by which spreadsheets know it.

    Dates and times are written as ISO 8601 has them, several values are separated by backslashes, sequences are JSON. Text
    that a spreadsheet would take for a formula is given an apostrophe.
    """
    tags = _columns(query)
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    buffer.write("\ufeff")
    writer.writerow([name_of(tag) for tag in tags])
    for number, answer in enumerate(answers, 1):
        writer.writerow([_cell(answer.get(tag, {})) for tag in tags])
        if number % _ROWS == 0:
            yield _taken(buffer)
    yield _taken(buffer)


WRITERS: dict[str, Writer] = {DICOM_JSON: as_json, JSON: as_json, DICOM_XML: as_xml, CSV: as_csv}


def _columns(query: Query) -> Sequence[str]:
    """In the order of the table of attributes, then by tag. Of `includefield=all` those that the table knows."""
    known = [attribute.tag for attribute in TABLE.values()]
    if query.fields is None:
        return known
    wanted = {path.split(".")[0] for path in query.fields} | {TABLE["RetrieveURL"].tag}
    return [*(tag for tag in known if tag in wanted), *sorted(wanted.difference(known))]


def _taken(buffer: io.StringIO) -> bytes:
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text.encode("utf-8")


def _cell(element: Mapping[str, Any]) -> str:
    vr, values = element.get("vr", ""), element.get("Value") or ()
    if vr == "SQ":
        return _harmless(orjson.dumps(values).decode("utf-8")) if values else ""
    text = "\\".join(_text(vr, value) for value in values)
    return text if vr in _NUMBERS else _harmless(text)


def _text(vr: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping):
        groups = (value.get("Alphabetic", ""), value.get("Ideographic", ""), value.get("Phonetic", ""))
        return "=".join(groups).rstrip("=")
    text = str(value)
    if vr == "DA" and len(text) == 8:
        return f"{text[:4]}-{text[4:6]}-{text[6:]}"
    if vr == "TM" and text[:6].isdigit() and len(text) >= 6:
        return f"{text[:2]}:{text[2:4]}:{text[4:]}"
    return text


def _harmless(text: str) -> str:
    return f"'{text}" if _FORMULA.match(text) else text
