"""Accept headers that viewers send (VIEWERS.md) and odd ones, against what each resource offers."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomweb import negotiation
from dicomweb.media_types import parse_accept, parse_media_type
from dicomweb.negotiation import Offer, choose
from dicomweb.ranges import Span, Unsatisfiable, parse_range
from storage.errors import BadRequest, NotAcceptable
from storage.transfer_syntaxes import lookup, lossy_targets

ELE, ILE, BIG, DEFLATED = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
J = "1.2.840.10008.1.2.4."
JPEG, JPEG_LS, J2K, HTJ2K, JXL, RLE = J + "50", J + "80", J + "90", J + "202", J + "110", "1.2.840.10008.1.2.5"
H264 = J + "102"
OHIF = "multipart/related; type=application/octet-stream; transfer-syntax=*"
OHIF_QUOTED = 'multipart/related; type="application/octet-stream"; transfer-syntax="*"'
SLIM = ", ".join(
    f'multipart/related; type="{kind}"; transfer-syntax={syntax}'
    for kind, syntax in (
        ("image/jls", J + "80"),
        ("image/jls", J + "81"),
        ("image/jp2", J + "90"),
        ("image/jpx", J + "92"),
        ("application/octet-stream", "*"),
        ("image/jpeg", J + "50"),
    )
)


@pytest.mark.parametrize(
    ("stored", "accept", "expected"),
    [
        # PS3.18 8.7.3.3 and 8.7.3.5.2
        (ELE, "", ("application/octet-stream", ELE, True)),
        (ELE, "*/*", ("application/octet-stream", ELE, True)),
        (ELE, OHIF, ("application/octet-stream", ELE, True)),
        (ELE, OHIF_QUOTED, ("application/octet-stream", ELE, True)),
        (ILE, OHIF, ("application/octet-stream", ELE, True)),
        (BIG, OHIF, ("application/octet-stream", ELE, True)),
        (DEFLATED, OHIF, ("application/octet-stream", ELE, True)),
        (JPEG_LS, "*/*", ("image/jls", JPEG_LS, True)),
        (JPEG_LS, OHIF, ("application/octet-stream", JPEG_LS, True)),
        (JPEG_LS, "multipart/related; type=application/octet-stream", ("application/octet-stream", ELE, True)),
        (JPEG_LS, f"multipart/related; type=application/octet-stream; transfer-syntax={ELE}", ("application/octet-stream", ELE, True)),
        (JPEG_LS, f"multipart/related; type=image/jls; transfer-syntax={JPEG_LS}", ("image/jls", JPEG_LS, True)),
        (JPEG_LS, "image/jls", ("image/jls", JPEG_LS, False)),
        (JPEG_LS, "image/*", ("image/jls", JPEG_LS, False)),
        (JPEG_LS, "application/octet-stream", ("application/octet-stream", ELE, False)),
        (JPEG_LS, "application/octet-stream; transfer-syntax=*", ("application/octet-stream", JPEG_LS, False)),
        (JPEG_LS, "multipart/related", ("image/jls", JPEG_LS, True)),
        (JPEG_LS, 'multipart/related; type="*/*"', ("image/jls", JPEG_LS, True)),
        (JPEG_LS, SLIM, ("image/jls", JPEG_LS, True)),
        (JPEG, SLIM, ("image/jpeg", JPEG, True)),
        (ELE, SLIM, ("application/octet-stream", ELE, True)),
        (J2K, SLIM, ("image/jp2", J2K, True)),
        (HTJ2K, f"multipart/related; type=image/jphc; transfer-syntax={HTJ2K}", ("image/jphc", HTJ2K, True)),
        (RLE, "*/*", ("image/dicom-rle", RLE, True)),
        # What no viewer decodes is decoded unless it is named.
        (JXL, OHIF, ("application/octet-stream", ELE, True)),
        (JXL, "*/*", ("application/octet-stream", ELE, True)),
        (JXL, "multipart/related; type=image/jxl", ("image/jxl", JXL, True)),
        (JXL, f"application/octet-stream; transfer-syntax={JXL}", ("application/octet-stream", JXL, False)),
        # Quality and specificity, RFC 9110 12.4.2 and 12.5.1
        (J2K, "image/jp2;q=0.5, application/octet-stream;q=0.9", ("application/octet-stream", ELE, False)),
        (J2K, "*/*;q=0.1, image/jp2;q=0, application/octet-stream;q=0.2", ("application/octet-stream", ELE, False)),
        (J2K, "text/html, */*;q=0.1", ("image/jp2", J2K, True)),
        # Encoded for who names the media type, or, where it has several, the transfer syntax; and asks for nothing else as much.
        (ELE, "image/jls", ("image/jls", JPEG_LS, False)),
        (ELE, "multipart/related; type=image/jphc", ("image/jphc", HTJ2K, True)),
        (ELE, f"image/jphc; transfer-syntax={J}201", ("image/jphc", J + "201", False)),
        (ELE, "image/jpeg", ("image/jpeg", J + "70", False)),
        (ELE, f"image/jpeg; transfer-syntax={J}57", ("image/jpeg", J + "57", False)),
        (ELE, f"application/octet-stream; transfer-syntax={HTJ2K}", ("application/octet-stream", HTJ2K, False)),
        (ELE, "image/*, */*;q=0.5", ("application/octet-stream", ELE, True)),
        (ELE, "image/jls, application/octet-stream", ("application/octet-stream", ELE, False)),
        (ELE, "image/jls, application/octet-stream;q=0.9", ("image/jls", JPEG_LS, False)),
        (HTJ2K, SLIM, ("application/octet-stream", HTJ2K, True)),
        (J2K, "image/jls", ("image/jls", JPEG_LS, False)),
        (JPEG, "image/jxl", ("image/jxl", J + "111", False)),
    ],
)
def test_frames(stored: str, accept: str, expected: tuple[str, str, bool]) -> None:
    offers = negotiation.frames(lookup(stored), decodable=True, single=True)
    chosen = choose(parse_accept(accept), offers)
    assert (chosen.media_type, chosen.transfer_syntax, chosen.related) == expected


@pytest.mark.parametrize("accept", ["*/*", "image/jpeg", "image/jp2", "image/*", "multipart/related; type=image/jls; transfer-syntax=*", ""])
@pytest.mark.parametrize("stored", [ELE, J2K, JPEG_LS])
def test_with_loss_only_by_name(stored: str, accept: str) -> None:
    offers = negotiation.frames(lookup(stored), decodable=True, single=True)
    with contextlib.suppress(NotAcceptable):
        assert not lookup(choose(parse_accept(accept), offers).transfer_syntax).lossy
    for uid in lossy_targets(stored):
        named = choose(parse_accept(f"application/octet-stream; transfer-syntax={uid}"), offers)
        assert (named.transfer_syntax, named.made, named.only_named) == (uid, True, True)


@pytest.mark.parametrize(
    ("accept", "offers"),
    [
        ("image/gif", negotiation.frames(lookup(J2K), decodable=True, single=True)),
        (f"image/jpeg; transfer-syntax={J}53", negotiation.frames(lookup(ELE), decodable=True, single=True)),
        ("image/jp2", negotiation.frames(lookup(J2K), decodable=True, single=False)),
        (f"multipart/related; type=application/octet-stream; transfer-syntax={J}53", negotiation.frames(lookup(J2K), decodable=True, single=True)),
        ("application/octet-stream", negotiation.frames(lookup(J2K), decodable=False, single=True)),
        ("image/jp2;q=0", negotiation.frames(lookup(J2K), decodable=True, single=True)),
        ("application/dicom", negotiation.instances(ELE, single=False)),
        ("text/html", negotiation.METADATA),
        ("application/dicom+xml", negotiation.METADATA),
        (f"application/dicom; transfer-syntax={J}53", negotiation.instances(J2K, single=True)),
        (f"application/dicom; transfer-syntax={ELE}", negotiation.instances(H264, single=True)),
    ],
)
def test_nothing_acceptable_lists_what_could_be_had(accept: str, offers: tuple[Offer, ...]) -> None:
    with pytest.raises(NotAcceptable) as refused:
        choose(parse_accept(accept), offers)
    assert all(str(offer) in str(refused.value) for offer in offers if not offer.made)
    assert all(offer.transfer_syntax in str(refused.value) for offer in offers)


@pytest.mark.parametrize(
    ("accept", "offers", "expected"),
    [
        ("application/dicom+json", negotiation.METADATA, "application/dicom+json"),
        ("application/json", negotiation.METADATA, "application/json"),
        ("application/json, text/plain, */*", negotiation.METADATA, "application/json"),
        ("application/dicom+json; charset=utf-8", negotiation.METADATA, "application/dicom+json"),
        ("*", negotiation.METADATA, "application/dicom+json"),
        ("image/webp,image/apng,image/*,*/*;q=0.8", negotiation.PICTURES, "image/jpeg"),
        ("image/webp", negotiation.PICTURES, "image/webp"),
        ("image/webp, image/jpeg;q=0.9", negotiation.PICTURES, "image/webp"),
        ("image/jxl", negotiation.PICTURES, "image/jxl"),
        ("image/jxl,image/avif,image/webp,image/apng,image/*,*/*;q=0.8", negotiation.PICTURES, "image/jpeg"),
        ("image/jxl, image/jpeg;q=0.9", negotiation.PICTURES, "image/jxl"),
        ("image/png", negotiation.PICTURES, "image/png"),
        # PS3.18 8.7.3: Explicit VR Little Endian where no transfer syntax is named; anything where anything will do.
        ('multipart/related; type="application/dicom"', negotiation.instances(J2K, single=True), f'multipart/related; type="application/dicom"; transfer-syntax={ELE}'),
        ("multipart/related;type=application/dicom;transfer-syntax=*", negotiation.instances(J2K, single=False), f'multipart/related; type="application/dicom"; transfer-syntax={J2K}'),
        (f"multipart/related;type=application/dicom;transfer-syntax={J2K}", negotiation.instances(J2K, single=False), f'multipart/related; type="application/dicom"; transfer-syntax={J2K}'),
        ("application/dicom", negotiation.instances(J2K, single=True), f"application/dicom; transfer-syntax={ELE}"),
        ("application/dicom", negotiation.instances(H264, single=True), f"application/dicom; transfer-syntax={H264}"),
        ("*/*", negotiation.instances(J2K, single=True), f'multipart/related; type="application/dicom"; transfer-syntax={J2K}'),
        ("", negotiation.instances(J2K, single=True), f'multipart/related; type="application/dicom"; transfer-syntax={J2K}'),
        ('multipart/related; type="application/pdf", multipart/related; type="application/octet-stream"', negotiation.bulk("application/pdf"), 'multipart/related; type="application/pdf"'),
        ("*/*", negotiation.bulk("application/pdf"), "application/pdf"),
        ("application/octet-stream", negotiation.bulk("application/octet-stream"), "application/octet-stream"),
    ],
)
def test_other_resources(accept: str, offers: tuple[Offer, ...], expected: str) -> None:
    assert str(choose(parse_accept(accept), offers)) == expected


@pytest.mark.parametrize(
    ("text", "kind", "parameters"),
    [
        ("Application/DICOM", "application/dicom", {}),
        ('multipart/related; type="application/dicom";boundary="a;b,c"', "multipart/related", {"type": "application/dicom", "boundary": "a;b,c"}),
        ("a/b ; Q = 0.5 ; x", "a/b", {"q": "0.5"}),
        (r'a/b; x="q\"uote\\d"', "a/b", {"x": r'q"uote\d'}),
        ("*", "*/*", {}),
    ],
)
def test_media_types(text: str, kind: str, parameters: dict[str, str]) -> None:
    found = parse_media_type(text)
    assert (found.type, dict(found.parameters)) == (kind, parameters)


@pytest.mark.parametrize("text", ["", "text", "/", "a/", "/b", "a b/c", '"a/b"', ";q=1"])
def test_what_is_not_a_media_type(text: str) -> None:
    with pytest.raises(BadRequest):
        parse_media_type(text)


def test_a_flood_of_ranges_is_refused() -> None:
    with pytest.raises(BadRequest):
        parse_accept("a/b," * 65)


@given(st.text(max_size=200))
def test_any_accept_chooses_or_is_refused(text: str) -> None:
    offers = negotiation.frames(lookup(J2K), decodable=True, single=True)
    with contextlib.suppress(BadRequest, NotAcceptable):
        assert choose(parse_accept(text), offers) in offers


@pytest.mark.parametrize(
    ("header", "span"),
    [
        ("bytes=0-", Span(0, 10)),
        ("bytes=0-0", Span(0, 1)),
        ("bytes=2-5", Span(2, 6)),
        ("bytes=5-99", Span(5, 10)),
        ("bytes=-3", Span(7, 10)),
        ("bytes=-99", Span(0, 10)),
        ("Bytes = 1 - 2", Span(1, 3)),
        ("bytes=5-2", None),
        ("bytes=-", None),
        ("bytes=0-1,3-4", None),
        ("items=0-1", None),
        ("bytes=a-b", None),
        ("", None),
    ],
)
def test_ranges(header: str, span: Span | None) -> None:
    assert parse_range(header, 10) == span


@pytest.mark.parametrize(("header", "length"), [("bytes=10-", 10), ("bytes=-0", 10), ("bytes=0-", 0), ("bytes=-1", 0)])
def test_ranges_outside(header: str, length: int) -> None:
    with pytest.raises(Unsatisfiable):
        parse_range(header, length)
