"""The Native DICOM Model in XML (PS3.19 A.1) <-> the DICOM JSON model (PS3.18 F): one data set to a document, no DTD."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NoReturn
from xml.parsers import expat

from pydicom.datadict import keyword_for_tag, tag_for_keyword

from dicomweb.native_private import Element, with_blocks, written_tag
from storage.dictionary import EXPLICIT_VRS, vr_of
from storage.errors import BadRequest, LimitExceeded
from storage.levels import Limits
from storage.types import Dataset

NAMESPACE: Final = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
# What a BulkData of another model than the web's is named by (A.1.5: `uuid` instead of `uri`).
_UUID: Final = "urn:uuid:"

_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
_COMPONENTS: Final = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
_CONTENTS: Final = frozenset({"Value", "PersonName", "Item", "BulkData", "InlineBinary"})
_ATTRIBUTE: Final = frozenset({"DicomAttribute"})
# A.1.6: what may stand in what. The document itself is the empty name; what is not here holds text.
_CHILDREN: Final[dict[str, frozenset[str]]] = {
    "": frozenset({"NativeDicomModel"}),
    "NativeDicomModel": _ATTRIBUTE,
    "Item": _ATTRIBUTE,
    "DicomAttribute": _CONTENTS,
    "PersonName": frozenset(_GROUPS),
    "BulkData": frozenset(),
    **dict.fromkeys(_GROUPS, frozenset(_COMPONENTS)),
}
# Which VRs hold sequences, names and bytes; all others hold values, and any may refer to bulk data.
_KINDS: Final = {
    "SQ": "Item",
    "PN": "PersonName",
    **dict.fromkeys(("OB", "OD", "OF", "OL", "OV", "OW", "UN"), "InlineBinary"),
}
_VRS: Final = frozenset(vr for vr, _ in EXPLICIT_VRS.values())
_WHOLE: Final = frozenset({"IS", "SL", "SS", "SV", "UL", "US", "UV"})
_REAL: Final = frozenset({"DS", "FD", "FL"})
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
# What JSON has strings for, because it has no such numbers (PS3.18 F.2.3), by the spellings of XML Schema and our own.
_NOT_FINITE: Final = {"INF": "Infinity", "-INF": "-Infinity"}
_TAG = re.compile(r"[0-9A-Fa-f]{8}")

# Texts, most of them of some dozen characters, that are put together to a piece of a document.
_TEXTS: Final = 4096

# XML 1.0 2.2: no other characters can stand in a document, not even escaped.
_IMPOSSIBLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SPECIAL = re.compile('[&<>\r"\n\t]')
_IN_TEXT = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"}
_IN_ATTRIBUTE = {**_IN_TEXT, '"': "&quot;", "\n": "&#10;", "\t": "&#9;"}


# ---- writing


def to_xml(dataset: Dataset) -> bytes:
    """A document of one data set, in UTF-8. Bulk data is referred to as in `dataset`.

    Characters that XML 1.0 cannot hold (controls, halves of surrogate pairs) become U+FFFD.
    """
    return b"".join(xml_pieces(dataset))


def xml_pieces(dataset: Dataset) -> Iterator[bytes]:
    """`to_xml` piece by piece, none of which begins or ends inside a tag: a slide's document has hundreds of megabytes."""
    waiting = ['<?xml version="1.0" encoding="UTF-8"?>\n', f'<NativeDicomModel xmlns="{NAMESPACE}" xml:space="preserve">\n']
    for text in _data_set(dataset):
        waiting.append(text)
        if len(waiting) >= _TEXTS:
            yield "".join(waiting).encode("utf-8")
            waiting.clear()
    waiting.append("</NativeDicomModel>\n")
    yield "".join(waiting).encode("utf-8")


def _data_set(dataset: Dataset) -> Iterator[str]:
    for key in sorted(dataset):
        tag = int(key, 16)
        if not tag & 0xFFFF:
            continue  # A.1.1: group lengths are not in the model.
        element = dataset[key]
        name, creator = written_tag(tag, dataset)
        keyword = "" if tag >> 16 & 1 else keyword_for_tag(tag)
        yield f'<DicomAttribute tag="{name}" vr="{element["vr"]}"'
        yield f' keyword="{keyword}"' if keyword else ""
        yield f' privateCreator="{_attribute(creator)}"' if creator else ""
        yield ">\n"
        yield from _contents(element)
        yield "</DicomAttribute>\n"


def _contents(element: Mapping[str, Any]) -> Iterator[str]:
    if "BulkDataURI" in element:
        yield f'<BulkData uri="{_attribute(element["BulkDataURI"])}"/>\n'
    elif "InlineBinary" in element:
        yield f"<InlineBinary>{_text(element['InlineBinary'])}</InlineBinary>\n"
    else:
        kind = _KINDS.get(element["vr"], "Value")
        for number, value in enumerate(element.get("Value") or (), start=1):
            yield f'<{kind} number="{number}">'
            yield from _value(kind, value)
            yield f"</{kind}>\n"


def _value(kind: str, value: Any) -> Iterator[str]:
    if value is None:
        return
    if kind == "Item":
        yield "\n"
        yield from _data_set(value)
    elif kind == "PersonName":
        for group in _GROUPS:
            if value.get(group):
                yield f"<{group}>{''.join(_components(value[group]))}</{group}>"
    else:
        yield _number(value) if isinstance(value, float) else _text(str(value))


def _components(group: str) -> Iterator[str]:
    """The five components of a name; what some write behind the fifth stays with it, delimiters and all."""
    for component, text in zip(_COMPONENTS, group.split("^", 4), strict=False):
        if text:
            yield f"<{component}>{_text(text)}</{component}>"


def _number(value: float) -> str:
    return f"{value:.0f}" if value.is_integer() and abs(value) < 1e15 else repr(value)


def _text(text: str) -> str:
    return _escaped(text, _IN_TEXT)


def _attribute(text: str) -> str:
    return _escaped(text, _IN_ATTRIBUTE)


def _escaped(text: str, escapes: Mapping[str, str]) -> str:
    return _SPECIAL.sub(lambda found: escapes.get(found[0], found[0]), _IMPOSSIBLE.sub("\ufffd", text))


# ---- reading


def from_xml(document: bytes | bytearray, limits: Limits | None = None) -> dict[str, dict[str, Any]]:
    """The data set of a document, with its private attributes in blocks of their own (PS3.5 7.8.1).

    Numbers that are none stay text, as in the JSON of what is stored. Raises BadRequest for what is not the Native DICOM
    Model, for any document type declaration (so there are no entities to expand or fetch), and LimitExceeded.
    """
    return _Document(limits or Limits()).read(document)


class _Attribute:
    """A DicomAttribute being read."""

    __slots__ = ("creator", "element", "kind", "last", "numbered", "tag")

    def __init__(self, tag: int, vr: str, creator: str) -> None:
        self.tag, self.creator = tag, creator
        self.element: dict[str, Any] = {"vr": vr}
        self.kind = ""
        self.numbered: dict[int, Any] = {}
        self.last = 0

    def complete(self) -> Element:
        if self.numbered:
            values = [self.numbered.get(number) for number in range(1, self.last + 1)]
            if self.kind == "Item":
                values = [{} if item is None else item for item in values]
            if any(value is not None for value in values):
                self.element["Value"] = values
        return Element(self.tag, self.creator, self.element)


class _Document:
    """One reading: expat's events against the table of what may stand where; open elements on a stack of our own."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._count = 0
        self._open = [""]
        self._sets: list[list[Element]] = []
        self._attributes: list[_Attribute] = []
        # The numbers of the values and items that are open, and the name and the text of the innermost.
        self._numbers: list[int] = []
        self._name: dict[str, str] = {}
        self._parts: dict[str, str] = {}
        self._text: list[str] = []
        self._result: dict[str, dict[str, Any]] = {}
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.buffer_text = True
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters

    def read(self, document: bytes | bytearray) -> dict[str, dict[str, Any]]:
        if len(document) > self._limits.header_bytes:
            raise LimitExceeded(f"the XML is longer than {self._limits.header_bytes} bytes; refer to bulk data instead of carrying it")
        try:
            self._parser.Parse(bytes(document), True)
        except expat.ExpatError as error:
            raise BadRequest(f"the XML is not well formed (line {error.lineno}: {expat.ErrorString(error.code)})") from None
        except (LookupError, UnicodeError, ValueError) as error:
            raise BadRequest("the encoding that the XML declares is not known; send UTF-8") from error
        return self._result

    def _doctype(self, *_declaration: object) -> NoReturn:
        self._refuse("has a document type declaration, which is never read; leave <!DOCTYPE …> out")

    def _refuse(self, text: str) -> NoReturn:
        raise BadRequest(f"the XML {text} (line {self._parser.CurrentLineNumber}; PS3.19 A.1.6)")

    # ---- events

    def _start(self, qualified: str, attributes: dict[str, str]) -> None:
        namespace, _, name = qualified.rpartition(" ")
        if name not in _CHILDREN.get(self._open[-1], ()) or namespace not in ("", NAMESPACE):
            self._refuse(f"has <{name[:40]}> in {self._open[-1] or 'the document'}, where it has no place")
        self._open.append(name)
        self._text = []
        if name in ("NativeDicomModel", "Item"):
            self._begin_set()
        if name == "DicomAttribute":
            self._attributes.append(self._attribute(attributes))
        elif name in _CONTENTS:
            self._begin_contents(name, attributes)
        elif name in _GROUPS:
            self._parts = {}

    def _end(self, _qualified: str) -> None:
        name, text = self._open.pop(), "".join(self._text)
        self._text = []
        if name == "DicomAttribute":
            self._sets[-1].append(self._attributes.pop().complete())
        elif name == "NativeDicomModel":
            self._result = with_blocks(self._sets.pop())
        elif name == "Item":
            self._attributes[-1].numbered[self._numbers.pop()] = with_blocks(self._sets.pop())
        elif name == "PersonName":
            self._attributes[-1].numbered[self._numbers.pop()] = self._name or None
        elif name == "Value":
            attribute = self._attributes[-1]
            attribute.numbered[self._numbers.pop()] = _read(text, attribute.element["vr"])
        elif name == "InlineBinary":
            self._attributes[-1].element["InlineBinary"] = "".join(text.split())
        elif name in _COMPONENTS:
            self._parts[name] = text
        elif name in _GROUPS:
            group = "^".join(self._parts.get(component, "") for component in _COMPONENTS).rstrip("^")
            if group:
                self._name[name] = group

    def _characters(self, text: str) -> None:
        if self._open[-1] in _CHILDREN:
            if text.strip():
                self._refuse(f"has text in {self._open[-1]}, where there can be none")
            return
        self._text.append(text)

    # ---- what they mean

    def _begin_set(self) -> None:
        if len(self._sets) >= self._limits.depth:
            raise LimitExceeded(f"sequences are nested more than {self._limits.depth} deep")
        self._sets.append([])

    def _attribute(self, attributes: Mapping[str, str]) -> _Attribute:
        self._counted(1)
        tag = self._tag(attributes)
        creator = attributes.get("privateCreator", "")
        vr = attributes.get("vr") or vr_of(tag, creator or None, signed=False)
        if vr not in _VRS:
            self._refuse(f"gives {tag:08X} a vr that is none")
        return _Attribute(tag, vr, creator.strip())

    def _tag(self, attributes: Mapping[str, str]) -> int:
        tag = attributes.get("tag")
        if tag is None:
            known = tag_for_keyword(attributes.get("keyword") or "-")
            if known is None:
                self._refuse("has a DicomAttribute without tag")
            return known
        if not _TAG.fullmatch(tag):
            self._refuse("has a tag that is not eight hexadecimal digits")
        return int(tag, 16)

    def _begin_contents(self, name: str, attributes: Mapping[str, str]) -> None:
        attribute = self._attributes[-1]
        expected = _KINDS.get(attribute.element["vr"], "Value")
        if name not in (expected, "BulkData") and not (name == "InlineBinary" and expected == "Value"):
            self._refuse(f"has {name} in {attribute.tag:08X}, whose vr wants {expected}")
        if attribute.kind and (attribute.kind != name or name in ("BulkData", "InlineBinary")):
            self._refuse(f"has {name} in {attribute.tag:08X} beside {attribute.kind}")
        attribute.kind = name
        if name == "BulkData":
            attribute.element["BulkDataURI"] = self._reference(attribute, attributes)
        elif name != "InlineBinary":
            self._numbers.append(self._value_number(attribute, attributes.get("number")))
            self._name = {}

    def _reference(self, attribute: _Attribute, attributes: Mapping[str, str]) -> str:
        uri, uuid = attributes.get("uri"), attributes.get("uuid")
        if not (uri or uuid):
            self._refuse(f"has a BulkData in {attribute.tag:08X} without uri")
        return uri or f"{_UUID}{uuid}"

    def _value_number(self, attribute: _Attribute, text: str | None) -> int:
        if text is not None and not _INTEGER.fullmatch(text):
            self._refuse(f"numbers a value of {attribute.tag:08X} by what is no number")
        number = attribute.last + 1 if text is None else int(text)
        if number < 1 or number in attribute.numbered:
            self._refuse(f"numbers the values of {attribute.tag:08X} other than 1, 2, 3 …")
        # A number that leaves others out makes empty values of them, which cost as much as if they were written.
        self._counted(max(1, number - attribute.last))
        attribute.last = max(attribute.last, number)
        return number

    def _counted(self, more: int) -> None:
        self._count += more
        # Twice, because attributes and their values are counted alike.
        if self._count > 2 * self._limits.elements:
            raise LimitExceeded(f"the XML has more than {2 * self._limits.elements} attributes and values")


def _read(text: str, vr: str) -> Any:
    if vr not in _WHOLE and vr not in _REAL:
        return text or None
    text = text.strip()
    if vr in _WHOLE and _INTEGER.fullmatch(text):
        number = int(text)
        return number if abs(number) < 1 << 53 else text
    if vr in _REAL and _DECIMAL.fullmatch(text):
        value = float(text)
        return value if abs(value) != float("inf") else text
    return _NOT_FINITE.get(text, text) or None
