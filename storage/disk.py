"""What the disk is asked and what its refusals mean: flushing a descriptor, and errors by their number."""

from __future__ import annotations

import errno
import os
import sys

from storage.errors import StoreFull, StoreUnavailable, Unavailable

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

if sys.platform == "darwin":
    import fcntl

    def flush(descriptor: int) -> None:
        """Make a file's bytes durable. fsync leaves them in the drive's cache on macOS, so ask for more."""
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)

else:

    def flush(descriptor: int) -> None:
        """Make a file's bytes durable: they, and the size that is needed to read them, but not its times."""
        os.fdatasync(descriptor)


def unavailable(error: OSError, doing: str) -> Unavailable:
    """The error to raise for what the operating system refused: StoreFull when there is no room.

    `doing` completes "the store could not …".
    """
    reason = error.strerror or type(error).__name__
    if error.errno in _FULL:
        return StoreFull(f"the store could not {doing}: {reason}; free space and send again")
    return StoreUnavailable(f"the store could not {doing}: {reason}; look at the disk and send again")
