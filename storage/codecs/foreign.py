"""Where a codec library's exceptions become ours, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from storage.errors import CannotDecode


@contextmanager
def guarded(codec: str) -> Iterator[None]:
    """Whatever the library raises inside is one frame's CannotDecode: it has been given bytes from outside."""
    try:
        yield
    except CannotDecode:
        raise
    except MemoryError as error:
        raise CannotDecode(f"decoding the {codec} stream needs more memory than is allowed") from error
    except Exception as error:
        raise CannotDecode(f"the {codec} stream is damaged or not supported ({error})") from error
