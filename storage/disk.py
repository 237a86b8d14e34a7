"""What the disk is asked and what its refusals mean: flushing a descriptor, and errors by their number."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

from storage.errors import StoreFull, StoreUnavailable, Unavailable

# File systems of this machine's own disks and memory, where opening a file that was just used does not wait for a network.
_LOCAL = frozenset({"btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs"})
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


def is_local(folder: Path) -> bool:
    """Whether a folder that there is lies on this machine itself; False also where the system does not say (not Linux)."""
    device = folder.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        mounts = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return False
    # proc(5): identifier, parent, device, ... - file system, ...
    kinds = {line.partition(" - ")[2].split(" ", 1)[0] for line in mounts if line.split(" ", 3)[2] == number}
    return bool(kinds) and kinds <= _LOCAL
