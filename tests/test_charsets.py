"""Text in every character set of the standard, with Python's encoders and pydicom's on the other side."""

from __future__ import annotations

import re
import warnings
from typing import Any

import pytest
from pydicom.charset import convert_encodings, encode_string

from storage.charsets import DEFAULT, Charset, charset_of, decode

# (values of Specific Character Set, text that it can hold): PS3.3 C.12.1.1.2, tables C.12-2 to C.12-5.
SETS: list[tuple[list[str], str]] = [
    ([], "Buc^Jerome"),
    ([""], "Buc^Jerome"),
    (["ISO_IR 6"], "Buc^Jerome"),
    (["ISO_IR 100"], "Äneas^Rüdiger"),
    (["ISO_IR 101"], "Wałęsa"),
    (["ISO_IR 109"], "Ĉiuĵaŭde"),
    (["ISO_IR 110"], "Ķēniņš"),
    (["ISO_IR 144"], "Люкceмбypг"),
    (["ISO_IR 127"], "قباني^لنزار"),
    (["ISO_IR 126"], "Διονυσιος"),
    (["ISO_IR 138"], "שרון^דבורה"),
    (["ISO_IR 148"], "Çağrı"),
    (["ISO_IR 166"], "สมชาย"),
    (["ISO_IR 192"], "王^小東=漢字 😀"),
    (["GB18030"], "王^小东㐀𠀀"),
    (["GBK"], "王^小东"),
    (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
    (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    (["ISO 2022 IR 100", "ISO 2022 IR 144"], "Äneas"),
]


@pytest.mark.parametrize(("terms", "text"), SETS, ids=[str(terms) for terms, _ in SETS])
def test_what_pydicom_writes_is_read(terms: list[str], text: str) -> None:
    charset = charset_of(terms)
    assert charset is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        codecs = convert_encodings([*terms])
        # Every delimiter brings back the first set, so that components are coded each on its own (PS3.5 6.1.2.5.3).
        written = b"".join(encode_string(piece, codecs) for piece in re.split("([=^])", text))
    assert decode(written, charset) == (text, True)


# Latin alphabet No. 9, which pydicom does not know; half-width katakana and Chinese (PS3.5 K.2), which it does not write.
UNWRITTEN = [
    (["ISO_IR 203"], b"5 \xa4", "5 €"),
    (["ISO 2022 IR 6", "ISO 2022 IR 203"], b"5 \x1b-b\xa4", "5 €"),
    (["", "ISO 2022 IR 58"], b"Zhang^X=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab", "Zhang^X=张^小东"),
    (["ISO_IR 13"], b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
]


@pytest.mark.parametrize(("terms", "raw", "text"), UNWRITTEN)
def test_what_pydicom_does_not_write(terms: list[str], raw: bytes, text: str) -> None:
    charset = charset_of(terms)
    assert charset is not None
    assert decode(raw, charset) == (text, True)


MISSPELT = [
    (["ISO IR 100"], "ISO_IR 100"),
    (["ISO-IR 100"], "ISO_IR 100"),
    (["iso_ir 192"], "ISO_IR 192"),
    (["ISO_IR_192"], "ISO_IR 192"),
    ([" ISO_IR 100 "], "ISO_IR 100"),
]


@pytest.mark.parametrize(("terms", "meant"), MISSPELT)
def test_terms_as_they_are_seen_in_the_field(terms: list[str], meant: str) -> None:
    assert charset_of(terms) == charset_of([meant])


@pytest.mark.parametrize("terms", [["utf-16"], ["punycode"], ["ISO_IR 999"], ["?"], [7], [{"Alphabetic": "x"}], [None]])
def test_terms_that_the_standard_does_not_know(terms: list[Any]) -> None:
    assert charset_of(terms) is None


UNREADABLE: list[tuple[bytes, Charset | None, str]] = [
    # No character set declared, but one used: UTF-8 gives itself away, Latin-1 is the commonest guess.
    ("é".encode(), DEFAULT, "é"),
    (b"caf\xe9", DEFAULT, "café"),
    (b"caf\xe9", charset_of(["ISO_IR 192"]), "caf\ufffd"),
    (b"\xed\xa0\x80", charset_of(["ISO_IR 192"]), "\ufffd\ufffd\ufffd"),
    (b"a\x1bZb", charset_of(["", "ISO 2022 IR 87"]), "a\x1bZb"),
    (b"a\x1b$Bxyz\xff", charset_of(["", "ISO 2022 IR 87"]), "a鎖�"),
    (b"\x1b$)C\xff", charset_of(["", "ISO 2022 IR 149"]), "\ufffd"),
]


@pytest.mark.parametrize(("raw", "charset", "expected"), UNREADABLE)
def test_bytes_that_mean_nothing_are_replaced_and_said_to_be(raw: bytes, charset: Charset, expected: str) -> None:
    text, sound = decode(raw, charset)
    assert not sound
    assert text[:1] == expected[:1]
    text.encode("utf-8")


def test_a_value_that_only_switches_is_read_in_one_go() -> None:
    charset = charset_of(["", "ISO 2022 IR 149"])
    assert charset is not None
    text, sound = decode(b"\x1b$)C" * 200_000, charset)
    assert not sound
    assert len(text) == 800_000
