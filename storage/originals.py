"""Objects as they were received, kept beside what the policy of an AE title has made of them.

An original lies under `originals/`, in the folder of the series of what was made of it, and its name has both digests: of that,
and its own. So a rebuilt index knows again what belongs together. It is written before what was made of it, and goes
when that goes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from storage.errors import NotFound, ObjectMissing
from storage.index import Index
from storage.index.entries import Original
from storage.index.originals import Originals
from storage.scanner import Scan
from storage.types import Blobs, Content

PREFIX: Final = "originals/"
_DIGITS: Final = 64


@dataclass(frozen=True, slots=True)
class Received:
    """What has come, and is kept when what was made of it is stored."""

    content: Content
    sop_instance_uid: str
    digest: str
    coerced_at: datetime

    def beside(self, made_key: str) -> Original:
        """Its place beside what was made of it."""
        sha256 = self.content.sha256
        return Original(
            self.sop_instance_uid,
            made_key,
            key_of(made_key, sha256),
            sha256,
            self.content.size,
            self.digest,
            self.coerced_at,
        )


def key_of(made_key: str, sha256: str) -> str:
    """`originals/{h(study)}/{h(series)}/` and the digests of what was made and of itself, 128 hex digits."""
    return f"{PREFIX}{made_key.removesuffix('.dcm')}{sha256}"


def is_original(key: str) -> bool:
    """Whether an object is an original, and so no instance."""
    return key.startswith(PREFIX)


def parts_of(key: str) -> tuple[str, str]:
    """The key of what was made of an original, and its own digest, by its key."""
    both = key.removeprefix(PREFIX)
    return f"{both[:-_DIGITS]}.dcm", both[-_DIGITS:]


def digest_of(found: Scan, view: memoryview) -> str:
    """The digest of a data set in its transfer syntax: what is the same whatever writes the File Meta Information."""
    digest = hashlib.sha256(f"{found.transfer_syntax_uid}\0".encode())
    digest.update(view[found.dataset_offset :])
    return digest.hexdigest()


def drop(index: Index, blobs: Blobs, made_key: str) -> None:
    """Remove the originals of an object that is gone. Bytes go first: cut short, it is done again."""
    originals = Originals(index)
    found = originals.made_into(made_key)
    for one in found:
        blobs.delete(one.object_key)
    if found:
        originals.forget(made_key)


def stream(index: Index, blobs: Blobs, instance_uid: str, sha256: str = "") -> tuple[Original, Iterator[bytes]]:
    """The bytes as received of an instance; of several the first, or the one with a digest.

    Raises NotFound where none is kept, ObjectMissing where it is lost.
    """
    for one in Originals(index).of_instance(instance_uid):
        if sha256 in ("", one.sha256):
            try:
                return one, blobs.stream(one.object_key)
            except ObjectMissing as error:
                raise ObjectMissing("the bytes as received are lost; send the instance again", one.object_key) from error
    raise NotFound("no instance of this UID has an original: it is as it was received, or its AE title keeps none")
