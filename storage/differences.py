"""In what two versions of an instance differ, attribute by attribute, short enough to be read by who decides between them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from storage.attributes import name_of
from storage.scanner import Scan

# Attributes that are named, and characters of a value that are shown.
MOST: Final = 200
_LONGEST: Final = 64
_NOTHING: Final[Mapping[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class Difference:
    """One attribute. A value is text, shortened; None where the version has not got the attribute."""

    tag: str
    name: str
    stored: str | None
    sent: str | None


@dataclass(frozen=True, slots=True)
class Version:
    """An instance and its bytes."""

    scan: Scan
    view: memoryview


def differences(stored: Version, sent: Version) -> list[Difference]:
    """The attributes of the top level that differ, in the order of their tags, at most `MOST`. File Meta Information aside."""
    found: list[Difference] = []
    bulk = _digests(stored), _digests(sent)
    one, other = stored.scan.dataset, sent.scan.dataset
    for tag in sorted({*one, *other}):
        same = one.get(tag) == other.get(tag) and bulk[0].get(tag) == bulk[1].get(tag)
        if not same and len(found) < MOST:
            shown = (_shown(version.get(tag), digests.get(tag)) for version, digests in zip((one, other), bulk, strict=True))
            found.append(Difference(tag, name_of(tag), *shown))
    if stored.scan.transfer_syntax_uid != sent.scan.transfer_syntax_uid:
        syntaxes = stored.scan.transfer_syntax_uid, sent.scan.transfer_syntax_uid
        found.insert(0, Difference("00020010", "TransferSyntaxUID", *syntaxes))
    return found


def _shown(element: Mapping[str, Any] | None, digest: str | None) -> str | None:
    if element is None:
        return None
    values = element.get("Value", ())
    if element.get("vr") == "SQ":
        items = f"{len(values)} item{'s' * (len(values) != 1)}"
        return f"{items}, {digest}" if digest else items
    if digest:
        return digest
    text = "\\".join(_text(value) for value in values) or str(element.get("InlineBinary", ""))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _text(value: Any) -> str:
    return "=".join(str(part) for part in value.values()) if isinstance(value, Mapping) else str(value)


def _digests(version: Version) -> dict[str, str]:
    """What is known of the bytes that the data set refers to, by the attribute of the top level that they are in."""
    found: dict[str, Any] = {}
    lengths: dict[str, int] = {}
    for item in version.scan.bulk:
        tag = item.path.partition("/")[0]
        digest = found.setdefault(tag, hashlib.sha256())
        for offset, length in _places(version, item.offset, item.length):
            lengths[tag] = lengths.get(tag, 0) + length
            if not version.scan.inflated:
                digest.update(version.view[offset : offset + length])
    return {tag: f"{lengths.get(tag, 0)} bytes, SHA-256 {digest.hexdigest()[:12]}…" for tag, digest in found.items()}


def _places(version: Version, offset: int, length: int) -> Iterator[tuple[int, int]]:
    if length >= 0:
        yield offset, length
        return
    frames = version.scan.frames
    for number in range(1, frames.count + 1):
        yield from frames.ranges(number)
