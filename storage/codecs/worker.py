"""The process that decodes foreign streams: it may crash, hang or run out of memory, and only one frame is lost.

Wire, over one socket, little endian: request `<II` (lengths), description as JSON, frame bytes; answer `<B` 0 and the
samples (their size follows from the description), or 1, `<I` length, and a sentence, or, where the frame was to be encoded
anew, 2, `<I` length, and the codestream. Pictures whose colours are to be converted come behind the two profiles, and go as samples.
"""

from __future__ import annotations

import json
import resource
import signal
import socket
import struct
from dataclasses import asdict
from typing import Any

import numpy as np

from storage.codecs.conversion import convert_here
from storage.codecs.decoding import decode_here
from storage.codecs.encoding import encode_here
from storage.codecs.pixels import Number, PixelDescription
from storage.codecs.samples import Array
from storage.errors import CannotDecode, NotAcceptable

REQUEST = struct.Struct("<II")
# How an answer begins that says how long it is.
COUNTED = struct.Struct("<BI")
DECODED, FAILED, ENCODED = 0, 1, 2


def request_bytes(frame: bytes, pixels: PixelDescription, target: str = "", bit_offset: int = 0) -> tuple[bytes, bytes]:
    """The head and the body of a request: to decode, or to encode in the transfer syntax `target`."""
    description = json.dumps({"pixels": asdict(pixels), "target": target, "bit_offset": bit_offset}).encode()
    return REQUEST.pack(len(description), len(frame)) + description, frame


def conversion_bytes(picture: Array, source: bytes, target: bytes) -> tuple[bytes, bytes]:
    """The head and the body of a request to convert colours: see `storage.codecs.convert`."""
    description = json.dumps({"picture": picture.shape, "profiles": (len(source), len(target))}).encode()
    body = b"".join((source, target, np.ascontiguousarray(picture).data))
    return REQUEST.pack(len(description), len(body)) + description, body


def main(descriptor: int, memory_limit: int) -> None:
    """Answer requests on the socket `descriptor` until its other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _limit(memory_limit)
    with socket.socket(fileno=descriptor) as peer:
        while head := _receive(peer, REQUEST.size):
            answer(peer, *REQUEST.unpack(head))


def answer(peer: socket.socket, description_length: int, frame_length: int) -> None:
    """Read one request's rest, do what it asks, send samples, a codestream or a sentence."""
    asked: dict[str, Any] = json.loads(_receive(peer, description_length))
    body = _receive(peer, frame_length)
    try:
        if asked.get("target"):
            encoded = encode_here(body, _described(asked), asked["target"], bit_offset=asked["bit_offset"])
            peer.sendall(COUNTED.pack(ENCODED, len(encoded)) + encoded)
            return
        values: Array = _converted(body, asked) if "picture" in asked else decode_here(body, _described(asked))
    except (CannotDecode, NotAcceptable, MemoryError) as error:
        text = (str(error) or "decoding the frame needs more memory than is allowed").encode()
        peer.sendall(COUNTED.pack(FAILED, len(text)) + text)
        return
    peer.sendall(bytes((DECODED,)))
    peer.sendall(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)


def _described(asked: dict[str, Any]) -> PixelDescription:
    described: dict[str, Any] = asked["pixels"]
    return PixelDescription(**{**described, "number": Number(described["number"])})


def _converted(body: bytes, asked: dict[str, Any]) -> Array:
    source, target = asked["profiles"]
    picture = np.frombuffer(body, np.uint8, offset=source + target).reshape(asked["picture"])
    return convert_here(picture, body[:source], body[source : source + target])


def _limit(memory: int) -> None:
    """Address space as told; no core dumps with pixels in them; no files written, none opened beyond a few."""
    for kind, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 16),
    ):
        _, highest = resource.getrlimit(kind)
        wanted = value if highest == resource.RLIM_INFINITY else min(value, highest)
        try:
            resource.setrlimit(kind, (wanted, wanted))
        except (ValueError, OSError):
            # macOS does not bound address space; the time limit and the size check before decoding still hold there.
            if kind != resource.RLIMIT_AS:
                raise


def _receive(peer: socket.socket, length: int) -> bytes:
    """Exactly `length` bytes, or none where the other end is closed."""
    buffer = bytearray(length)
    view, at = memoryview(buffer), 0
    while at < length:
        count = peer.recv_into(view[at:])
        if not count:
            return b""
        at += count
    return bytes(buffer)
