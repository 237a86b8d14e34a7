"""HTJ2K copies: the frames of an instance once more, in HTJ2K RPCL without loss, so that viewers get them progressively.

A copy lies under `copies/htj2k/` and the key of its original, which has the digest of the original's bytes: so it can never be
of others, needs no row, is known after a rebuild of the index, and is no instance. It is made by a job after the instance has come,
and goes when the original goes. Without it the frames are encoded when they are asked for.

An object is a head of 48 bytes (what it is, how many frames, and the SHA-256 of all that follows), where each frame begins and
where the last one ends, and the codestreams one after the other; all numbers are little endian.
"""

from __future__ import annotations

import hashlib
import struct
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from storage.archive import Archive
from storage.errors import NotAcceptable, ObjectMissing
from storage.index import Layout
from storage.pieces import Extent
from storage.scanner import Scan
from storage.spool import Spool
from storage.transcoding import encoded_frames
from storage.transfer_syntaxes import HTJ2K_RPCL, Coding, lookup
from storage.types import Blobs, Job, Scope, Source

KIND: Final = "htj2k-copy"
ANY: Final = "*"
FOLDER: Final = "copies/"
# What may be kept beside an instance that is made of it, each under its name and the key of the original.
HTJ2K: Final = "htj2k"
THUMBNAIL: Final = "thumbnail"
_HEAD: Final = struct.Struct("<8sQ32s")
_MAGIC: Final = b"LBFRAME2"
_MODALITY: Final = "00080060"
_PIECE: Final = 1 << 20
# What is HTJ2K already, or has no frames that can be decoded.
_NOT: Final = frozenset({Coding.HTJ2K, Coding.VIDEO, Coding.REFERENCED})


def key_of(object_key: str, kind: str = HTJ2K) -> str:
    """Where the copy of an object is, or its thumbnail, if there is one."""
    return f"{FOLDER}{kind}/{object_key}"


def is_copy(key: str) -> bool:
    """Whether an object is a copy or a thumbnail, and so no instance."""
    return key.startswith(FOLDER)


def original_of(key: str) -> str:
    """The key of what a copy is of; of anything else its own."""
    return key.split("/", 2)[-1] if is_copy(key) else key


def can_have(transfer_syntax_uid: str, frames: int) -> bool:
    """Whether an instance may have a copy: it has frames, which can be decoded and are not HTJ2K already."""
    return frames > 0 and lookup(transfer_syntax_uid).coding not in _NOT


def jobs_for(modalities: Sequence[str]) -> Callable[[Scan, Source], tuple[Job, ...]]:
    """For `storage.ingest.Ingest`: a job for each image of these modalities that comes; `*` are all of them."""
    chosen = frozenset(modalities)

    def jobs(scan: Scan, _source: Source) -> tuple[Job, ...]:
        if not chosen or not can_have(scan.transfer_syntax_uid, scan.frames.count):
            return ()
        modality = (scan.dataset.get(_MODALITY, {}).get("Value") or [""])[0]
        if ANY not in chosen and modality not in chosen:
            return ()
        uids = scan.uids
        return (Job(KIND, {"study": uids.study, "series": uids.series, "instance": uids.instance}),)

    return jobs


def make(archive: Archive, scope: Scope) -> bool:
    """Make the copy of an instance, if it has none yet. False where it has gone, or where HTJ2K cannot hold such pixels.

    Raises CannotDecode for frames that cannot be read, and what the store raises.
    """
    layout = archive.index.layout(scope)
    if layout is None or lookup(layout.located.transfer_syntax_uid).coding in _NOT:
        return False
    key = layout.located.object_key
    if frames_of(archive.blobs, layout, ()) is not None:
        return True
    try:
        frames = encoded_frames(layout, archive.blobs, HTJ2K_RPCL)
    except NotAcceptable:
        return False
    with archive.spool() as copy:
        _write(frames, archive.spool(), copy)
        archive.blobs.put(key_of(key), copy)
    if not archive.index.known_keys([key]):
        # It was removed meanwhile, and whoever did so may have looked for a copy before there was one.
        drop(archive.blobs, key)
        return False
    return True


def _write(frames: Iterator[bytes], room: Spool, copy: Spool) -> None:
    offsets = array("Q", [0])
    with room:
        for frame in frames:
            room.write(frame)
            offsets.append(room.size)
        begin = _HEAD.size + 8 * len(offsets)
        places = struct.pack(f"<{len(offsets)}Q", *(begin + offset for offset in offsets))
        view = room.view()
        pieces = [view[at : at + _PIECE] for at in range(0, len(view), _PIECE)]
        digest = hashlib.sha256(places)
        for piece in pieces:
            digest.update(piece)
        copy.write(_HEAD.pack(_MAGIC, len(offsets) - 1, digest.digest()) + places)
        for piece in pieces:
            copy.write(piece)


def frames_of(blobs: Blobs, layout: Layout, numbers: Sequence[int]) -> list[Extent] | None:
    """Where frames, from 1, of an instance are in its copy; None without a copy."""
    key = key_of(layout.located.object_key)
    try:
        head = blobs.read(key, 0, _HEAD.size)
        if len(head) < _HEAD.size or _HEAD.unpack(head)[:2] != (_MAGIC, layout.frames.count):
            return None
        return [_extent(blobs, key, number) for number in numbers]
    except ObjectMissing:
        return None


def _extent(blobs: Blobs, key: str, number: int) -> Extent:
    found = blobs.read(key, _HEAD.size + 8 * (number - 1), 16)
    if len(found) < 16:
        raise ObjectMissing("the copy ends early", key)
    begin, end = struct.unpack("<QQ", found)
    return Extent(key, begin, end - begin)


def is_whole(blobs: Blobs, key: str) -> bool:
    """Whether a copy is as it was made, by its digest. Raises ObjectMissing."""
    pieces = iter(blobs.stream(key))
    head = b""
    while len(head) < _HEAD.size and (piece := next(pieces, b"")):
        head += piece
    if len(head) < _HEAD.size:
        return False
    magic, _, expected = _HEAD.unpack(head[: _HEAD.size])
    digest = hashlib.sha256(head[_HEAD.size :])
    for piece in pieces:
        digest.update(piece)
    return bool(magic == _MAGIC and digest.digest() == expected)


def drop(blobs: Blobs, object_key: str) -> None:
    """Remove the copies of an object that is gone, if there are any."""
    for kind in (HTJ2K, THUMBNAIL):
        blobs.delete(key_of(object_key, kind))
