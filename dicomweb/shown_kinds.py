"""What `rendered` asks of anything that is looked at in another way than as its own frames (PS3.18 8.7.4)."""

from __future__ import annotations

from dicomweb.negotiation import Offer
from dicomweb.rendering import Picture, RenderRequest
from storage.errors import NotAcceptable
from storage.pieces import Piece


class Shown:
    """One instance. `offers` is what it can be had as, the default first, pictures among them where there are any.

    `small`: its picture tells something as a thumbnail too; else an icon stands for it. `first`: the number of the picture
    that stands for all of it. `stored`: the offer that is given as it lies in the archive; others are made.
    """

    offers: tuple[Offer, ...] = ()
    small: bool = False
    first: int = 1
    stored: str = ""

    @property
    def pages(self) -> int:
        """How many pictures there are of it, numbered from 1."""
        return 0

    def basis(self, number: int) -> str:
        """What else a picture depends on than the instance: the digest of the image below it."""
        return ""

    def picture(self, number: int, request: RenderRequest) -> Picture:
        """One of its pictures, in the viewport of the request. Raises CannotDecode, NotAcceptable."""
        raise NotAcceptable(f"there is no picture of it; it can be had as {', '.join(map(str, self.offers))}")

    def whole(self, kind: str, number: int) -> tuple[Piece, ...]:
        """All of it as one of the offers that is no picture; of a drawing (SVG) page `number`. Raises NotAcceptable."""
        raise NotAcceptable(f"it cannot be had as {kind}")
