"""Media types as clients write them in Accept and Content-Type: parsed in one linear pass, forgiving about quotes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from storage.errors import BadRequest

DICOM = "application/dicom"
DICOM_JSON = "application/dicom+json"
DICOM_XML = "application/dicom+xml"
JSON = "application/json"
CSV = "text/csv"
OCTETS = "application/octet-stream"
PDF = "application/pdf"
HTML, TEXT, XML = "text/html", "text/plain", "text/xml"
SVG = "image/svg+xml"
MP4 = "video/mp4"
RELATED = "multipart/related"
ZIP = "application/zip"
WADL = "application/vnd.sun.wadl+xml"

# RELIABILITY: Accept floods. OHIF's longest list has seven entries.
_MOST_RANGES = 64


@dataclass(frozen=True, slots=True)
class MediaType:
    """One media type or media range: `type` in lower case, parameter names in lower case, values unquoted."""

    type: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def quality(self) -> float:
        """`q`, 1 when absent or unreadable (RFC 9110 12.4.2)."""
        try:
            return min(1.0, max(0.0, float(self.parameters.get("q", "1"))))
        except ValueError:
            return 1.0

    @property
    def inner(self) -> str:
        """The type of the parts of a multipart/related (RFC 2387 3.1), in lower case; empty when not given."""
        return self.parameters.get("type", "").lower()

    @property
    def transfer_syntax(self) -> str:
        """The `transfer-syntax` parameter (PS3.18 8.7.3.5.2): a UID, `*`, or empty when not given."""
        return self.parameters.get("transfer-syntax", "")


def parse_media_type(text: str) -> MediaType:
    """One media type, such as a Content-Type. Raises BadRequest when there is no `type/subtype`."""
    head, *pieces = _split(text, ";")
    kind = head.strip().lower()
    if kind == "*":
        kind = "*/*"
    left, slash, right = kind.partition("/")
    if not slash or not left or not right or any(character in kind for character in ' \t"'):
        raise BadRequest(f"{head.strip()[:80]!r} is not a media type; write type/subtype, for example {DICOM_JSON}")
    parameters: dict[str, str] = {}
    for piece in pieces:
        name, equals, value = piece.partition("=")
        if equals:
            parameters.setdefault(name.strip().lower(), _unquote(value.strip()))
    return MediaType(kind, parameters)


def parse_accept(text: str) -> tuple[MediaType, ...]:
    """Every media range of an Accept header or `accept` parameter, as written; none for an empty text.

    Raises BadRequest for what is not a media range and for more than 64 of them.
    """
    pieces = [piece for piece in _split(text, ",") if piece.strip()]
    if len(pieces) > _MOST_RANGES:
        raise BadRequest(f"Accept names {len(pieces)} media ranges; name at most {_MOST_RANGES}")
    return tuple(parse_media_type(piece) for piece in pieces)


def _split(text: str, separator: str) -> list[str]:
    """Split at `separator` outside quoted strings."""
    if '"' not in text:
        return text.split(separator)
    pieces, start, quoted, escaped = [], 0, False, False
    for position, character in enumerate(text):
        if escaped:
            escaped = False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character == separator and not quoted:
            pieces.append(text[start:position])
            start = position + 1
    pieces.append(text[start:])
    return pieces


def _unquote(value: str) -> str:
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    value = value[1:-1]
    if "\\" not in value:
        return value
    plain, escaped = [], False
    for character in value:
        if character == "\\" and not escaped:
            escaped = True
            continue
        plain.append(character)
        escaped = False
    return "".join(plain)
