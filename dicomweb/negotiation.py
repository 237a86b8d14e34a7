"""What each resource can be had as, and which of that a client's Accept chooses: a table, and one rule over it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from dicomweb.media_types import (
    CSV,
    DICOM,
    DICOM_JSON,
    DICOM_XML,
    HTML,
    JSON,
    MP4,
    OCTETS,
    PDF,
    RELATED,
    SVG,
    TEXT,
    WADL,
    XML,
    ZIP,
    MediaType,
    parse_accept,
)
from storage.errors import NotAcceptable
from storage.transfer_syntaxes import EXPLICIT_LITTLE, Coding, TransferSyntax, lookup, lossy_targets, targets


@dataclass(frozen=True, slots=True)
class Offer:
    """One way in which a resource can be had. Earlier offers are preferred where a client likes several equally.

    `related`: each part travels in a multipart/related. `only_named`: given only to a range that asks for its
    transfer syntax, by UID or by `*` (PS3.18 8.7.3.5.2: octet-stream without one means Explicit VR Little Endian).
    `made`: encoded for the request, so given only to a range that names its very media type, and by UID its transfer syntax
    where that is not the type's usual one; and only where nothing else is liked as well.
    """

    media_type: str
    transfer_syntax: str = ""
    related: bool = False
    only_named: bool = False
    made: bool = False

    def __str__(self) -> str:
        syntax = f"; transfer-syntax={self.transfer_syntax}" if self.transfer_syntax else ""
        if self.related:
            return f'{RELATED}; type="{self.media_type}"{syntax}'
        return self.media_type + syntax


# Media type, transfer syntax, and the flags of an Offer.
_Row = tuple[str, str, bool, bool]

METADATA = (Offer(DICOM_JSON), Offer(JSON), Offer(DICOM_XML, related=True))
SEARCH = (*METADATA, Offer(CSV))
STORE = (Offer(DICOM_JSON), Offer(JSON), Offer(DICOM_XML))
# PS3.18 annex H.
CAPABILITIES = (Offer(WADL), Offer(JSON))
# PS3.18 8.7.4, table 8.7.4-1: what a picture can be rendered to; JPEG is the default. JPEG XL, and WebP, which is not in the
# table, take ten times as long as JPEG, and browsers name them: they are for who likes them better.
PICTURES = (
    Offer("image/jpeg"),
    Offer("image/png"),
    Offer("image/gif"),
    Offer("image/webp", made=True),
    Offer("image/jxl", made=True),
)
# Cine, where there is an encoder; only for who names it.
FILM = Offer(MP4, made=True)
# The same table for documents: what reports, encapsulated documents and waveforms can be had as, beside pictures of their pages.
DOCUMENTS = tuple(map(Offer, (HTML, TEXT, PDF, XML, SVG, "model/stl", "model/obj", "model/mtl")))

# Transfer syntaxes whose frames no browser viewer decodes (VIEWERS: OHIF 3.12/3.13): `*` gives them decoded, and
# only naming the syntax or its own media type gives them as stored.
DECODE_FIRST = frozenset({Coding.JPEG_XL, Coding.DEFLATED_FRAME, Coding.ENCAPSULATED_NATIVE})


def instances(stored: str, *, single: bool) -> tuple[Offer, ...]:
    """Offers for a whole instance (PS3.18 8.7.3); `single` where it may come without multipart.

    Explicit VR Little Endian is what a client gets that names no transfer syntax, if it can be had; as stored by `*` or by
    name. Implicit VR and Big Endian have no place on the web (8.7.3.1), unless they are what is stored and asked for.
    """
    rows = [(stored, stored != EXPLICIT_LITTLE and EXPLICIT_LITTLE in targets(stored))]
    if rows[0][1]:
        rows.append((EXPLICIT_LITTLE, False))
    offers = [(DICOM, syntax, named, False) for syntax, named in rows]
    return _in_every_form([*offers, *((DICOM, syntax, True, True) for syntax in _encoded(stored))], single=single)


def non_patient(stored: str) -> tuple[Offer, ...]:
    """Offers for an instance of no patient (PS3.18 table 12.1.3-1): its data set by default, or the whole of it."""
    return (Offer(DICOM_JSON), Offer(JSON), Offer(DICOM_XML), Offer(DICOM_XML, related=True), *instances(stored, single=True))


def zips(stored: str) -> tuple[Offer, ...]:
    """Offers for whole instances in a ZIP file, in the transfer syntaxes of `instances`; only for who asks for that."""
    return tuple(replace(offer, media_type=ZIP, related=False) for offer in instances(stored, single=False))


def inside_zip(accepted: Sequence[MediaType]) -> tuple[MediaType, ...]:
    """What is accepted of ZIP files, said of the instances in them."""
    return tuple(
        MediaType(RELATED, {**wanted.parameters, "type": DICOM}) for wanted in accepted if wanted.type == ZIP
    )


def frames(stored: TransferSyntax, *, decodable: bool, single: bool, copied: str = "") -> tuple[Offer, ...]:
    """Offers for frames (PS3.18 8.7.3.3): as stored where viewers can read that, decoded otherwise or when asked.

    Native frames always go out as Explicit VR Little Endian: that is what their bytes are, or are made to be. `copied` is a
    transfer syntax in which there is a copy that is liked best.
    """
    native = stored.coding is Coding.NATIVE
    decoded = [(OCTETS, EXPLICIT_LITTLE, False, False)] if decodable or native else []
    kept: list[_Row] = []
    if stored.media_type != OCTETS:
        kept.append((stored.media_type, stored.uid, False, False))
    if not native:
        kept.append((OCTETS, stored.uid, True, False))
    rows = decoded + kept if stored.coding in DECODE_FIRST else kept + decoded
    if copied:
        rows = [(lookup(copied).media_type, copied, False, False), (OCTETS, copied, True, False), *rows]
    return _in_every_form([*rows, *_encoded_frames(stored)], single=single)


def frame(accept: str, stored: TransferSyntax, *, single: bool, copied: str = "") -> Offer:
    """The one of `frames` that a client gets who sent this Accept: chosen once, for all frames of a viewer are asked for alike.

    Raises BadRequest, NotAcceptable.
    """
    find = _frame if len(accept) <= _REMEMBERED else _frame.__wrapped__
    return find(accept, stored, single, copied)


# Longer texts are nobody's Accept, and would fill the memory of choices.
_REMEMBERED = 1024


@lru_cache(maxsize=1024)
def _frame(accept: str, stored: TransferSyntax, single: bool, copied: str) -> Offer:
    return choose(parse_accept(accept), frames(stored, decodable=True, single=single, copied=copied))


def _encoded(stored: str) -> Iterator[str]:
    """The compressed transfer syntaxes into which what is stored can be brought: without loss, and then those with."""
    return (uid for uid in (*targets(stored)[1:], *lossy_targets(stored)) if lookup(uid).encapsulated)


def _encoded_frames(stored: TransferSyntax) -> Iterator[_Row]:
    """In each syntax' own media type, of which the first is the usual one, and as octets by name."""
    usual = {stored.media_type}
    for uid in _encoded(stored.uid):
        kind = lookup(uid).media_type
        if kind != OCTETS:
            # With loss only by name.
            yield kind, uid, kind in usual or uid in lossy_targets(stored.uid), True
            usual.add(kind)
        yield OCTETS, uid, True, True


def _in_every_form(rows: Sequence[_Row], *, single: bool) -> tuple[Offer, ...]:
    forms = (True, False) if single else (True,)
    return tuple(Offer(kind, syntax, related, named, made) for related in forms for kind, syntax, named, made in rows)


def bulk(media_type: str, transfer_syntax: str = "", *, single: bool = True) -> tuple[Offer, ...]:
    """Offers for bulk data: bytes of their known type, and always octets. Single part first: that is what Range cuts."""
    kinds = (media_type,) if media_type == OCTETS else (media_type, OCTETS)
    related = tuple(Offer(kind, transfer_syntax, related=True) for kind in kinds)
    return (*(Offer(kind, transfer_syntax) for kind in kinds), *related) if single else related


def choose(accepted: Sequence[MediaType], offers: Sequence[Offer]) -> Offer:
    """The best offer for `accepted`; nothing accepted means anything (RFC 9110 12.5.1).

    The most specific range that an offer meets decides its quality; among equal qualities the more specific range
    wins, then the earlier offer. What would have to be encoded stands behind all else of the same quality.
    Raises NotAcceptable, naming every offer, when none is met (PS3.18 8.7.5).
    """
    if not accepted:
        return offers[0]
    best, best_score = None, (0.0, False, 0)
    for offer in offers:
        quality, specific = _score(accepted, offer)
        score = quality, not offer.made, specific
        if quality > 0 and score > best_score:
            best, best_score = offer, score
    if best is None:
        plain = [str(offer) for offer in offers if not (offer.made and offer.transfer_syntax)]
        could = ", ".join(dict.fromkeys(plain)) or "nothing"
        encoded = ", ".join(dict.fromkeys(offer.transfer_syntax for offer in offers if offer.made and offer.transfer_syntax))
        more = f"; encoded for you in the transfer syntaxes {encoded}" if encoded else ""
        raise NotAcceptable(f"nothing that Accept names can be made of this; it can be had as: {could}{more}")
    return best


def _score(accepted: Sequence[MediaType], offer: Offer) -> tuple[float, int]:
    """Quality that the most specific matching range gives to `offer`, and how specific that range is."""
    found, quality = 0, 0.0
    for wanted in accepted:
        specific = _specificity(wanted, offer)
        if specific > found or (specific and specific == found and wanted.quality > quality):
            found, quality = specific, wanted.quality
    return quality, found


def _specificity(wanted: MediaType, offer: Offer) -> int:
    """How closely `wanted` describes `offer`; 0 when it does not."""
    related = wanted.type in (RELATED, "multipart/*")
    kind = (wanted.inner or "*/*") if related else wanted.type
    anything = kind == "*/*"
    if wanted.type != "*/*" and related != offer.related:
        return 0
    if not _syntax_met(wanted, offer, named=anything):
        return 0
    if offer.made and (kind != offer.media_type or wanted.transfer_syntax == "*"):
        return 0
    if anything:
        return 2 if related else 1
    if kind == offer.media_type:
        return 4 if wanted.transfer_syntax in ("", "*") else 5
    return 3 if kind.endswith("/*") and offer.media_type.startswith(kind[:-1]) else 0


def _syntax_met(wanted: MediaType, offer: Offer, *, named: bool) -> bool:
    asked = wanted.transfer_syntax
    if not offer.transfer_syntax or asked == "*":
        return True
    if not asked:
        return named or not offer.only_named
    return asked == offer.transfer_syntax
