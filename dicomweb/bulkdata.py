"""WADO-RS bulk data (PS3.18 10.4.1.1.5): the bytes behind a BulkDataURI, nested ones too, with Range."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from dicomweb import negotiation
from dicomweb.bodies import Body, respond
from dicomweb.exchange import Answer, Call
from dicomweb.frames import frames_as, scope_of
from dicomweb.instance import Instance
from dicomweb.layouts import Layouts
from dicomweb.media_types import OCTETS
from dicomweb.multipart import boundary_for, closing, part_head
from dicomweb.negotiation import Offer
from storage.errors import NotFound
from storage.pieces import Piece
from storage.transfer_syntaxes import Coding
from storage.types import Blobs, BulkItem

PIXEL_DATA, ENCAPSULATED_DOCUMENT = "7FE00010", "00420011"
MIME_TYPE, DOCUMENT_LENGTH = "00420012", "00420015"
# What an encapsulated document may call itself (PS3.3 A.45, A.85, A.104); anything else goes out as octets, because
# a type from the data set decides what a browser does with foreign bytes.
DOCUMENT_TYPES = frozenset({"application/pdf", "model/stl", "model/obj", "model/mtl"})


class BulkData:
    """GET …/instances/{instance}/bulkdata/{path}, with the path that metadata gave."""

    def __init__(self, layouts: Layouts, blobs: Blobs) -> None:
        self._layouts = layouts
        self._blobs = blobs

    def __call__(self, call: Call) -> Answer:
        """The bytes of one value. Raises NotFound, NotAcceptable."""
        instance = Instance(self._layouts.get(scope_of(call)), self._blobs)
        path = call.path["path"]
        item = instance.bulk(path)
        if item is None:
            return self._bytes(call, instance, path, (_inline(instance, path),), OCTETS)
        if item.length < 0 and instance.syntax.coding is not Coding.VIDEO:
            return self._frames(call, instance)
        return self._bytes(call, instance, path, pieces_of(instance, item), media_type(instance, item))

    def _frames(self, call: Call, instance: Instance) -> Answer:
        """Encapsulated pixel data has no bytes of its own: it is its frames, one to a part (PS3.18 8.7.3.3)."""
        numbers = range(1, instance.frames + 1)
        offer = negotiation.frame(call.accept, instance.syntax, single=instance.frames == 1)
        return frames_as(call, instance, numbers, offer, self._blobs)

    def _bytes(self, call: Call, instance: Instance, path: str, pieces: tuple[Piece, ...], kind: str) -> Answer:
        syntax = instance.syntax.uid if kind.startswith("video/") else ""
        offer = negotiation.choose(call.accepted(), negotiation.bulk(kind, syntax))
        location = instance.location(call.mount, f"bulkdata/{path}")
        etag = f'"{boundary_for(instance.located.sha256, location, str(offer))}"'
        headers = {"Content-Type": offer.media_type, "Content-Location": location}
        body = Body(pieces)
        if offer.related:
            boundary = boundary_for(instance.located.sha256, location)
            headers = {"Content-Type": f"{Offer(offer.media_type, related=True)}; boundary={boundary}"}
            about = {"Content-Type": offer.media_type, "Content-Length": str(body.length), "Content-Location": location}
            head = part_head(boundary, about, first=True)
            body = Body((head, *pieces, closing(boundary)))
        return respond(call, self._blobs, body, headers, etag)


def pieces_of(instance: Instance, item: BulkItem) -> tuple[Piece, ...]:
    """The bytes of a bulk value as they go out: pixels as viewers read them, documents without their padding."""
    if item.path == PIXEL_DATA and instance.converted:
        return instance.every_decoded()
    if item.path == ENCAPSULATED_DOCUMENT:
        return unpadded(instance, item, instance.bulk_pieces(item))
    return instance.little_endian(item)


def media_type(instance: Instance, item: BulkItem) -> str:
    """What the bytes of `item` are: a document or video of a type that is known, or octets."""
    if item.path == ENCAPSULATED_DOCUMENT:
        kind = instance.text(MIME_TYPE).lower()
        return kind if kind in DOCUMENT_TYPES else OCTETS
    if item.path == PIXEL_DATA and instance.syntax.coding is Coding.VIDEO:
        return instance.syntax.media_type
    return OCTETS


def unpadded(instance: Instance, item: BulkItem, pieces: tuple[Piece, ...]) -> tuple[Piece, ...]:
    """A document without the byte that made its length even (PS3.3 C.24.2)."""
    length = (instance.dataset.get(DOCUMENT_LENGTH, {}).get("Value") or [item.length])[0]
    if length != item.length - 1:
        return pieces
    return Body(pieces).first(length).pieces


def _inline(instance: Instance, path: str) -> bytes:
    """A binary value that metadata carries itself. Raises NotFound where `path` leads to nothing binary."""
    missing = NotFound(f"there is no bulk data {path[:200]} in instance {instance.located.uids.instance}")
    element: Any = {"Value": [instance.dataset]}
    names = path.split("/")
    try:
        for item, tag in zip(("0", *names[1::2]), names[::2], strict=True):
            element = element["Value"][int(item)][tag]
        return base64.b64decode(element["InlineBinary"], validate=True)
    except (KeyError, IndexError, ValueError, TypeError, binascii.Error):
        raise missing from None
