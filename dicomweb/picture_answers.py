"""Answers of pictures: drawn once, kept, sent alone or in multipart/related, and not at all where the client has them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Final

from dicomweb.bodies import CACHE_CONTROL, Body, respond, unchanged
from dicomweb.exchange import Answer, Call
from dicomweb.kept import Kept
from dicomweb.media_types import RELATED
from dicomweb.multipart import boundary_for, closing, part_head
from dicomweb.negotiation import Offer
from storage.errors import BadRequest
from storage.types import Blobs

# Pictures are made in memory, so only so many travel in one answer.
MOST_PICTURES: Final = 64


class PictureAnswers:
    """Pictures that have been drawn, and answers that hold them. `known` is everything that an answer depends on, as texts."""

    def __init__(self, blobs: Blobs, max_bytes: int) -> None:
        """`max_bytes`: memory for pictures that have been drawn."""
        self._blobs = blobs
        self._drawn: Kept[bytes] = Kept(max_bytes, len)

    def once(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """A picture is drawn when it is asked for first; the key has the digest of what it shows."""
        drawn = self._drawn.get(key)
        if drawn is None:
            drawn = make()
            self._drawn.keep(key, drawn)
        return drawn

    def unchanged(self, call: Call, known: Sequence[str]) -> bool:
        """Whether the client has this answer."""
        return unchanged(call, f'"{boundary_for(*known)}"')

    def same(self, known: Sequence[str]) -> Answer:
        """What the client has is what it would get."""
        return Answer(304, {"ETag": f'"{boundary_for(*known)}"', "Cache-Control": CACHE_CONTROL, "Vary": "Accept"})

    def send(self, call: Call, pictures: Sequence[bytes], offer: Offer, known: Sequence[str], warning: Mapping[str, str]) -> Answer:
        """Pictures alone or in multipart/related."""
        kind, boundary = offer.media_type, boundary_for(*known)
        etag = f'"{boundary}"'
        if not offer.related:
            return respond(call, self._blobs, Body((pictures[0],)), {"Content-Type": kind, **warning}, etag)
        pieces = [
            part_head(boundary, {"Content-Type": kind, "Content-Length": str(len(picture))}, first=not index) + picture
            for index, picture in enumerate(pictures)
        ]
        headers = {"Content-Type": f'{RELATED}; type="{kind}"; boundary={boundary}', **warning}
        return respond(call, self._blobs, Body((*pieces, closing(boundary))), headers, etag)


def at_most(numbers: list[int]) -> list[int]:
    """The numbers of pictures that are asked for. Raises BadRequest for more than travel in one answer."""
    if len(numbers) > MOST_PICTURES:
        raise BadRequest(f"ask for at most {MOST_PICTURES} pictures at a time")
    return numbers
