"""A data set de-identified: every attribute at every depth by its row, and what was done written into it (PS3.15 E.1, E.2)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from storage.charsets import Charset
from storage.coercion.rules import vr_of_tag
from storage.coercion.tree import DataSet, Element
from storage.coercion.values import CHARACTER_SET, TEXT, charset_in, to_text, to_utf_8
from storage.deidentification.options import DESCRIPTORS, decided
from storage.deidentification.profile import CODES, Profile, Word
from storage.deidentification.replacing import Replacing, dummy
from storage.deidentification.table import ACTIONS
from storage.errors import NotCoercible

_SOP_CLASS, _NAME, _ID, _ISSUER = 0x00080016, 0x00100010, 0x00100020, 0x00100021
_BIRTH_DATE, _STUDY, _BURNED_IN, _CONTENT, _CODE = 0x00100030, 0x0020000D, 0x00280301, 0x0040A730, 0x00401101
_CONVERSION, _IMAGE_TYPE = 0x00080064, 0x00080008
_REMOVED, _METHOD, _METHOD_CODES, _TEMPORAL = 0x00120062, 0x00120063, 0x00120064, 0x00280303
# Patient ID, other IDs, accession number, admission, orders: what may stand in other text too.
_IDENTIFIERS: Final = (_ID, 0x00101000, 0x00080050, 0x00380010, 0x00402016, 0x00402017)
_FREE: Final = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
# Pictures that are made with text in them as often as not, and documents, of which nothing is left that could be kept.
_OFTEN_WITH_TEXT: Final = (
    "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.6", "1.2.840.10008.5.1.4.1.1.3", "1.2.840.10008.5.1.4.1.1.77.1",
)  # fmt: skip
_DOCUMENTS: Final = "1.2.840.10008.5.1.4.1.1.104."


def refused(dataset: DataSet, profile: Profile) -> str:
    """Why an instance cannot be de-identified by what is done here, which looks at no pixel; empty where it can."""
    sop_class = _plain(dataset, _SOP_CLASS)
    burned_in = _plain(dataset, _BURNED_IN)
    if sop_class.startswith(_DOCUMENTS):
        return "an encapsulated document says what it says, and cannot be de-identified"
    if burned_in == "YES":
        return "the image has annotations burned in (0028,0301), which are not removed"
    if _overlay_in_pixels(dataset):
        return "the image has an overlay in unused bits of its pixels, which is not removed"
    often = any(sop_class == one or sop_class.startswith(f"{one}.") for one in _OFTEN_WITH_TEXT)
    # Screens are saved as images of any modality.
    captured = _plain(dataset, _CONVERSION) or "SCREEN SAVE" in _plain(dataset, _IMAGE_TYPE).split("\\")
    if (often or captured) and burned_in != "NO" and Word.UNCHECKED_PIXELS not in profile:
        return "images of this kind often have text in their pixels; send it with Burned In Annotation (0028,0301) NO"
    return ""


def deidentify(dataset: DataSet, profile: Profile, secret: bytes, assumed: Charset) -> None:
    """Change a data set so that it names nobody. Raises NotCoercible for what cannot be."""
    why = refused(dataset, profile)
    if why:
        raise NotCoercible(f"{why}; nothing of it was stored")
    if CHARACTER_SET not in dataset.elements and assumed != Charset():
        to_utf_8(dataset, assumed)
    work = _Work(dataset, profile, secret, assumed)
    work.clean(dataset, assumed)
    work.sweep(dataset, assumed)
    work.sign(dataset)


def _plain(dataset: DataSet, tag: int) -> str:
    element = dataset.elements.get(tag)
    return bytes(element.value).decode("ascii", "replace").strip(" \0") if element else ""


def _overlay_in_pixels(dataset: DataSet) -> bool:
    """An overlay plane without data of its own (PS3.5 8.1.2, retired)."""
    planes = {tag & 0xFFFF0000 for tag in dataset.elements if 0x6000 <= tag >> 16 <= 0x60FF and tag & 0xFFFF == 0x0100}
    return any(plane | 0x3000 not in dataset.elements for plane in planes)


class _Work:
    """One data set in work."""

    def __init__(self, dataset: DataSet, profile: Profile, secret: bytes, assumed: Charset) -> None:
        self._profile = profile
        charset = charset_in(dataset, assumed)
        issuer, number, name, born, study = (
            self._text(dataset.elements.get(tag), charset) for tag in (_ISSUER, _ID, _NAME, _BIRTH_DATE, _STUDY)
        )
        who = f"{issuer}\0{number}" if number else f"\0\0{name}\0{born}" if name else f"\0\0\0{study}"
        self.replacing = Replacing(secret, who)
        self._words, self._numbers = _identifying(dataset, assumed)

    def clean(self, dataset: DataSet, outer: Charset) -> None:
        """Each attribute by its row, and those in sequences."""
        charset = charset_in(dataset, outer)
        for element in list(dataset.elements.values()):
            _known(element)
            vr = "SQ" if element.is_sequence else element.vr
            match decided(element.tag, vr, self._profile):
                case "X":
                    del dataset.elements[element.tag]
                case "Z":
                    dataset.put(element.tag, vr, b"")
                case "D":
                    self._dummy(dataset, element, vr, charset)
                case "U":
                    self._put(dataset, element, "\\".join(map(self.replacing.uid, self._text(element, charset).split("\\"))))
                case "C":
                    self._put(dataset, element, self._cleaned(element, charset))
                case _ if element.is_sequence:
                    for item in element.items():
                        self.clean(item, charset)
                    element.changed()

    def sweep(self, dataset: DataSet, outer: Charset) -> None:
        """Empty what is left of text in which a name or a number of the patient, or of anybody, still stands."""
        charset = charset_in(dataset, outer)
        for element in list(dataset.elements.values()):
            if element.is_sequence:
                for item in element.items():
                    self.sweep(item, charset)
            elif element.vr in _FREE and element.value and self._names_somebody(self._text(element, charset)):
                dataset.put(element.tag, element.vr, b"")

    def sign(self, dataset: DataSet) -> None:
        """Say what was done (PS3.15 E.2, PS3.3 C.7.1.1), and tell the patient from others."""
        pseudonym = self.replacing.pseudonym.encode("ascii")
        dataset.put(_NAME, "PN", pseudonym)
        dataset.put(_ID, "LO", pseudonym)
        dataset.put(_REMOVED, "CS", b"YES ")
        done = [CODES[word] for word in Word if word in self._profile and word in CODES]
        dataset.put(_METHOD, "LO", b"PS3.15 annex E by Lightbox")
        dataset.put_items(_METHOD_CODES, [_code(dataset, code, "DCM", meaning) for code, meaning in done])
        words = {Word.RETAIN_DATES: b"UNMODIFIED", Word.MODIFY_DATES: b"MODIFIED"}
        temporal = next((said for word, said in words.items() if word in self._profile), b"REMOVED ")
        dataset.put(_TEMPORAL, "CS", temporal)

    def _dummy(self, dataset: DataSet, element: Element, vr: str, charset: Charset) -> None:
        if vr != "SQ":
            dataset.put(element.tag, vr, dummy(vr))
        elif element.tag == _CONTENT:
            dataset.put_items(element.tag, [_content(dataset)])
        elif element.tag == _CODE:
            dataset.put_items(element.tag, [_code(dataset, "DEIDENTIFIED", "99LIGHTBOX", "DEIDENTIFIED")])
        else:
            # What the table names in its items has become something else; what it does not name is left out.
            for item in element.items():
                self.clean(item, charset)
                item.elements = {tag: one for tag, one in item.elements.items() if tag in ACTIONS}
            element.changed()

    def _cleaned(self, element: Element, charset: Charset) -> str:
        text = self._text(element, charset)
        if element.tag not in DESCRIPTORS:
            return self.replacing.moved(element.vr, text) if element.vr in ("DA", "DT", "TM") else text
        # Imported where it is needed: the vocabulary is large.
        from storage.deidentification.vocabulary import cleaned

        return cleaned(text, self._words)

    def _put(self, dataset: DataSet, element: Element, text: str) -> None:
        raw = text.encode("ascii", "replace")
        dataset.put(element.tag, element.vr, raw + (b"\0" if element.vr == "UI" else b" ") * (len(raw) % 2))

    def _names_somebody(self, text: str) -> bool:
        words = set(_words_of(text))
        return not words.isdisjoint(self._words) or any(number in text.lower() for number in self._numbers)

    @staticmethod
    def _text(element: Element | None, charset: Charset) -> str:
        return "" if element is None else to_text(element.vr, element.value, charset, little=True) if element.vr in TEXT else ""


def _identifying(dataset: DataSet, assumed: Charset) -> tuple[frozenset[str], frozenset[str]]:
    """The words of all names, and the numbers by which somebody or something is known, in lower case."""
    words: set[str] = set()
    numbers: set[str] = set()
    for one, charset in _walk(dataset, assumed):
        for element in one.elements.values():
            _known(element)
            if element.vr == "PN":
                words.update(word for word in _words_of(to_text("PN", element.value, charset, little=True)) if len(word) > 2)
            elif element.tag in _IDENTIFIERS and element.vr in TEXT:
                values = to_text(element.vr, element.value, charset, little=True).lower().split("\\")
                numbers.update(value.strip() for value in values if len(value.strip()) > 3)
    return frozenset(words), frozenset(numbers)


def _known(element: Element) -> None:
    """What was written as UN, or as another VR than it has, is judged by what it is (PS3.5 6.2.2)."""
    vr = vr_of_tag(element.tag)
    if vr in TEXT and element.vr != vr and not element.is_sequence:
        element.vr = vr
        element.changed()


def _walk(dataset: DataSet, outer: Charset) -> Iterator[tuple[DataSet, Charset]]:
    charset = charset_in(dataset, outer)
    yield dataset, charset
    for element in dataset.elements.values():
        if element.is_sequence:
            for item in element.items():
                yield from _walk(item, charset)


def _words_of(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", text.lower())


def _code(dataset: DataSet, value: str, scheme: str, meaning: str) -> DataSet:
    item = DataSet(dataset.encoding)
    for tag, vr, text in ((0x00080100, "SH", value), (0x00080102, "SH", scheme), (0x00080104, "LO", meaning)):
        item.put(tag, vr, text.encode() + b" " * (len(text) % 2))
    return item


def _content(dataset: DataSet) -> DataSet:
    """One content item that says nothing (PS3.3 C.17.3)."""
    item = DataSet(dataset.encoding)
    item.put(0x0040A010, "CS", b"CONTAINS")
    item.put(0x0040A040, "CS", b"TEXT")
    item.put_items(0x0040A043, [_code(dataset, "121071", "DCM", "Finding")])
    item.put(0x0040A160, "UT", b"DEIDENTIFIED")
    return item
