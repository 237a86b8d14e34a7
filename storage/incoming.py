"""The body of a request while it still lies in a socket, for whoever can read it in a thread, straight to where it belongs."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Protocol, Self

# The name of the ASGI extension by which a server lends the socket of a request: what is called, before anything of the body
# was received, for an `Incoming`, or None where the body has to be received as usual.
EXTENSION: Final = "lightbox.body"


class Incoming(Protocol):
    """A body of known length. To be left in the event loop (`with`), whose server reads on from there."""

    @property
    def left(self) -> int:
        """Bytes that have not been read yet."""

    def into(self, room: memoryview) -> int | None:
        """Read into `room` as much as is there: how much, None where the client has to be waited for.

        In a thread. Raises ConnectionError when the client is gone.
        """

    async def wait(self, seconds: float) -> bool:
        """Until more is there; False when nothing has come for so long."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
