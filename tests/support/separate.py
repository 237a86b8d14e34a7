"""Metadata and bulk data of an instance in parts of their own, as a STOW-RS client sends them (PS3.18 10.5.1)."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from dicomweb.native_xml import to_xml
from storage.scanner import Scan, scan
from storage.transfer_syntaxes import Coding, lookup

JSON, XML = "application/dicom+json", "application/dicom+xml"


@dataclass(frozen=True)
class Sent:
    """A part: what its headers say, and its bytes."""

    content_type: str
    content: bytes
    location: str = ""

    def written(self, boundary: str) -> bytes:
        """With the delimiter before it."""
        location = f"Content-Location: {self.location}\r\n" if self.location else ""
        return f"\r\n--{boundary}\r\nContent-Type: {self.content_type}\r\n{location}\r\n".encode() + self.content


def metadata(datasets: Sequence[dict[str, Any]], kind: str = JSON) -> list[Sent]:
    """All in one array, or each in a document of its own."""
    if kind == JSON:
        return [Sent(JSON, orjson.dumps(datasets))]
    return [Sent(XML, to_xml(dataset)) for dataset in datasets]


def request(parts: Iterable[Sent], kind: str = JSON, boundary: str = "boundary") -> tuple[bytes, dict[str, str]]:
    """The body and headers of a request."""
    body = b"".join(part.written(boundary) for part in parts) + f"\r\n--{boundary}--\r\n".encode()
    return body, {"Content-Type": f'multipart/related; type="{kind}"; boundary={boundary}'}


def taken_apart(content: bytes) -> tuple[dict[str, Any], list[Sent], Scan]:
    """The data set of a Part 10 file with its bulk data referred to, and the parts that hold it: frames one to a part."""
    found = scan(content)
    dataset = copy.deepcopy(dict(found.dataset))
    syntax = lookup(found.transfer_syntax_uid)
    parts: list[Sent] = []
    for item in found.bulk:
        if syntax.coding is Coding.VIDEO and item.path == "7FE00010":
            continue  # The JSON of a video does not refer to it.
        uri = f"bulk/{found.uids.instance}/{item.path}"
        _element(dataset, item.path)["BulkDataURI"] = uri
        if item.length >= 0:
            parts.append(Sent("application/octet-stream", content[item.offset : item.offset + item.length], uri))
            continue
        for number in range(1, found.frames.count + 1):
            frame = b"".join(content[offset : offset + length] for offset, length in found.frames.ranges(number))
            parts.append(Sent(f"{syntax.media_type}; transfer-syntax={syntax.uid}", frame, uri))
    return dataset, parts, found


def _element(dataset: dict[str, Any], path: str) -> dict[str, Any]:
    *into, key = path.split("/")
    for sequence, number in zip(into[::2], into[1::2], strict=True):
        dataset = dataset[sequence]["Value"][int(number)]
    element: dict[str, Any] = dataset[key]
    return element
