"""The DICOM JSON model of every file of the corpus beside DCMTK's dcm2json (PS3.18 annex F): the same, but for what is known."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
import pytest

from storage.charsets import DEFAULT
from storage.errors import NotStorable
from storage.scanner import scan
from storage.values import DECODERS, Text
from tests.support.corpus import CorpusFile, corpus_files, present

# Each a minute of dcm2json; the first of every few, so that a normal run has some of every kind of file.
EVERY = 6
LARGEST = 2 << 20
# Made up where the file has none, so that it can be kept; DCMTK writes what there is.
ASSIGNED = {"0020000D", "0020000E", "00080018", "00080016"}
PADDING = "FFFCFFFC"


def chosen() -> list[CorpusFile]:
    if not present():
        return []
    found = [one for one in corpus_files() if one.storable and one.path.stat().st_size <= LARGEST]
    return found[::EVERY]


@pytest.mark.dcmtk
@pytest.mark.skipif(shutil.which("dcm2json") is None, reason="DCMTK's dcm2json is not installed: the JSON is not compared with it")
@pytest.mark.skipif(not present(), reason="the corpus ../shared/data is not beside this checkout: the JSON is not compared with DCMTK's")
def test_beside_dcm2json() -> None:
    compared, differing = 0, []
    for file in chosen():
        theirs = dcm2json(file)
        try:
            ours = json.loads(orjson.dumps(dict(scan(file.path.read_bytes()).dataset)))
        except NotStorable:
            continue
        if theirs is None:
            continue
        compared += 1
        differing += [f"{file.name} {line}" for line in differences(ours, theirs, "")]
    assert differing == []
    assert compared > 100


def dcm2json(file: CorpusFile) -> dict[str, Any] | None:
    """What DCMTK writes; None for what it cannot read or write (its strings are not always UTF-8)."""
    program = shutil.which("dcm2json") or ""
    done = subprocess.run([program, "-q", "-fc", "-ee", str(file.path)], capture_output=True, check=False)
    try:
        found: dict[str, Any] | None = json.loads(done.stdout) if done.returncode == 0 else None
    except ValueError:
        return None
    return found


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any], path: str) -> Iterator[str]:
    for tag in sorted({*ours, *theirs} - {PADDING}):
        one, other, place = ours.get(tag), theirs.get(tag), f"{path}/{tag}"
        if one is None or other is None:
            if not (other is None and tag in ASSIGNED):
                yield f"{place}: {one} against {other}"
        elif one["vr"] == other["vr"] == "SQ":
            mine, its = one.get("Value") or [], other.get("Value") or []
            if len(mine) != len(its):
                yield f"{place}: {len(mine)} items against {len(its)}"
            for number, (first, second) in enumerate(zip(mine, its, strict=False)):
                yield from differences(first, second, f"{place}/{number}")
        elif not same(one, other):
            yield f"{place}: {str(one)[:100]} against {str(other)[:100]}"


def same(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    if ours == theirs:
        return True
    # Larger values are referred to (F.2.6), which dcm2json never does; private attributes have a VR where their creator is known.
    if "BulkDataURI" in ours:
        return "InlineBinary" in theirs
    if theirs["vr"] == "UN":
        return ours["vr"] != "UN" and ("InlineBinary" in theirs) is ("Value" in ours or "InlineBinary" in ours)
    if ours["vr"] != theirs["vr"]:
        return False
    return [spelled(ours["vr"], one) for one in values(ours)] == [spelled(ours["vr"], one) for one in values(theirs)]


def values(element: dict[str, Any]) -> list[Any]:
    found = element.get("Value") or []
    # A name of separators alone is no name to dcm2json.
    return [] if element["vr"] == "PN" and all(not any(map(spelled_name, (one or {}).values())) for one in found) else found


def spelled(vr: str, value: Any) -> Any:
    """The same for what means the same: trailing separators of a name, the digits that a float needs, of which dcm2json writes one or two that are not so."""
    if vr == "PN":
        return {group: spelled_name(text) for group, text in (value or {}).items()}
    if vr == "FL" and isinstance(value, int | float):
        return struct.pack("<f", value)
    if vr == "FD" and isinstance(value, int | float):
        return f"{value:.14g}"
    return value


def spelled_name(text: str) -> str:
    return text.rstrip("^")


@pytest.mark.parametrize(
    ("vr", "code", "value", "json_value"),
    [
        ("SV", "<q", 5, 5),
        ("SV", "<q", -(2**53) + 1, -(2**53) + 1),
        ("SV", "<q", -(2**63), "-9223372036854775808"),
        ("UV", "<Q", 2**53 - 1, 2**53 - 1),
        ("UV", "<Q", 2**64 - 1, "18446744073709551615"),
    ],
)
def test_numbers_that_readers_of_json_would_round_are_strings(vr: str, code: str, value: int, json_value: object) -> None:
    """PS3.18 F.2.3."""
    assert DECODERS[vr](struct.pack(code, value), Text(DEFAULT, little=True))[0] == [json_value]
