"""One stored instance, opened for reading: its frames and bulk values as pieces of bodies."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from dicomweb.bodies import Body, read
from dicomweb.negotiation import DECODE_FIRST
from storage import codecs
from storage.codecs import PixelDescription
from storage.errors import CannotDecode, NotFound
from storage.index import Layout
from storage.pieces import Extent, Made, Piece
from storage.scanner import inflate
from storage.transfer_syntaxes import Coding, TransferSyntax, lookup
from storage.types import Blobs, BulkItem

# Bytes of one value by VR: what to swap in a big endian data set (PS3.5 7.3).
_WORD = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}
# A native frame costs nothing in the frame table, so a count that is a lie must not become a list.
_MOST_FRAMES = 100_000
# More is copied where it does not keep others from being answered.
_MOST_RESIDENT = 1 << 20
# How Photometric Interpretation begins in the JSON that may have subsampled chroma; a long text is found fastest.
YBR = b'"00280004":{"vr":"CS","Value":["YBR_'
_SUBSAMPLED = frozenset({"YBR_FULL_422", "YBR_PARTIAL_422"})


def served_decoded(syntax: TransferSyntax, photometric_interpretation: str) -> bool:
    """Whether `transfer-syntax=*` gives frames of such an instance decoded, because nobody reads them as stored."""
    if syntax.coding is Coding.NATIVE:
        return not syntax.little_endian or photometric_interpretation in _SUBSAMPLED
    return syntax.coding in DECODE_FIRST


class WouldWait(Exception):
    """What was asked is not in memory, or takes work: to be asked again where waiting is allowed."""


class Instance:
    """Everything about one instance's bytes. Cheap to make; reads and decodes only what is asked."""

    def __init__(self, layout: Layout, blobs: Blobs) -> None:
        self.layout = layout
        self.located = layout.located
        self.syntax = lookup(layout.located.transfer_syntax_uid)
        self._blobs = blobs

    @cached_property
    def dataset(self) -> dict[str, Any]:
        """The data set in the DICOM JSON model."""
        return self.layout.dataset()

    @cached_property
    def pixels(self) -> PixelDescription:
        """What the frames are. Raises CannotDecode where the data set does not describe an image."""
        return PixelDescription.from_dataset(self.dataset, self.located.transfer_syntax_uid)

    def location(self, mount: str, resource: str) -> str:
        """The path of one of its resources, as a BulkDataURI in metadata has it."""
        uids = self.located.uids
        return f"{mount}/studies/{uids.study}/series/{uids.series}/instances/{uids.instance}/{resource}"

    @property
    def frames(self) -> int:
        """How many frames can be served."""
        return self.layout.frames.count

    def text(self, tag: str) -> str:
        """The first value of a text attribute of the data set itself; empty when there is none."""
        values = self.dataset.get(tag, {}).get("Value") or [""]
        return str(values[0]).strip(" \0")

    def frame(self, number: int) -> tuple[Piece, ...]:
        """Frame `number`, from 1, as stored. Raises NotFound beyond the last."""
        if not 1 <= number <= self.frames:
            raise NotFound(f"there is no frame {number}: instance {self.located.uids.instance} has {self.frames}")
        ranges = self.layout.frames.ranges(number)
        if not any(length for _offset, length in ranges):
            raise NotFound(f"frame {number} is not in instance {self.located.uids.instance}: its pixel data ends before")
        return tuple(self._piece(offset, length) for offset, length in ranges)

    def frame_bits(self, number: int) -> tuple[bytes, int]:
        """Frame `number` as decoders take it: its bytes, fragments joined, and the bit at which it begins in them.

        Samples of a byte in big endian words are read by whole words, whose other byte may be a neighbour's
        (PS3.5 7.3). Raises NotFound beyond the last frame.
        """
        pieces = self.frame(number)
        offset = self.layout.frames.bit_offset(number)
        if self.pixels.word_swapped and self.syntax.coding is Coding.NATIVE:
            return self._words(number)
        return b"".join(read(self._blobs, Body(pieces))), offset

    def _words(self, number: int) -> tuple[bytes, int]:
        ((start, length),) = self.layout.frames.ranges(number)
        first = self.layout.frames.first
        stop = start + length + (start + length - first) % 2
        pixel_data = self.bulk("7FE00010")
        if pixel_data is not None:
            stop = min(stop, pixel_data.offset + pixel_data.length)
        odd = (start - first) % 2
        return b"".join(read(self._blobs, Body((self._piece(start - odd, stop - start + odd),)))), 8 * odd

    def decoded(self, number: int) -> Made:
        """Frame `number` in Explicit VR Little Endian, colour as RGB, when it is read. Raises NotFound, CannotDecode."""
        self.frame(number)
        size = -(-self.pixels.values // 8) if self.pixels.bits_allocated == 1 else self.pixels.decoded_size
        return Made(size, lambda: self._decode(number))

    def _decode(self, number: int) -> bytes:
        frame, bit_offset = self.frame_bits(number)
        return codecs.to_explicit_little(frame, self.pixels, bit_offset=bit_offset)[0]

    def every_decoded(self) -> tuple[Made, ...]:
        """All frames decoded, one after the other. Raises CannotDecode for more of them than can be listed."""
        if self.frames > _MOST_FRAMES:
            raise CannotDecode(f"the instance says that it has {self.frames} frames; get those that you need one by one")
        return tuple(self.decoded(number) for number in range(1, self.frames + 1))

    @property
    def converted(self) -> bool:
        """Whether frames must be remade even for a client that takes anything."""
        if self.syntax.coding is Coding.NATIVE and self.syntax.little_endian and YBR not in self.layout.json:
            # Known without parsing: the JSON of a multi-frame instance can be megabytes, and a frame must not wait for it.
            return False
        return served_decoded(self.syntax, self.text("00280004"))

    def bulk(self, path: str) -> BulkItem | None:
        """The bulk value at `path`, as its BulkDataURI names it."""
        return next((item for item in self.layout.bulk if item.path == path), None)

    def bulk_pieces(self, item: BulkItem) -> tuple[Piece, ...]:
        """The bytes of a bulk value as stored; of encapsulated pixel data those of all its frames."""
        if item.length >= 0:
            return (self._piece(item.offset, item.length),)
        return tuple(piece for number in range(1, self.frames + 1) for piece in self.frame(number))

    def little_endian(self, item: BulkItem) -> tuple[Piece, ...]:
        """A bulk value in little endian, which is what travels on the web whatever was stored (PS3.18 8.7.3.3)."""
        word = _WORD.get(item.vr)
        if self.syntax.little_endian or word is None or item.length < 0:
            return self.bulk_pieces(item)

        def swap() -> bytes:
            stored = b"".join(read(self._blobs, Body(self.bulk_pieces(item))))
            whole = len(stored) - len(stored) % word
            return np.frombuffer(stored[:whole], f">u{word}").astype(f"<u{word}").tobytes() + stored[whole:]

        return (Made(item.length, swap),)

    def little_endian_bulk(self, path: str) -> bytes:
        """The bytes of the bulk value at `path`. Raises NotFound."""
        item = self.bulk(path)
        if item is None:
            raise NotFound(f"there is no bulk data {path} in instance {self.located.uids.instance}")
        return b"".join(read(self._blobs, Body(self.little_endian(item))))

    def _piece(self, offset: int, length: int) -> Piece:
        if self.layout.inflated:
            return bytes(self._inflated[offset : offset + length])
        return Extent(self.located.object_key, offset, length)

    @cached_property
    def _inflated(self) -> memoryview:
        return memoryview(inflate(self._blobs.read(self.located.object_key), self.located.dataset_offset))


class ResidentInstance(Instance):
    """An instance for the event loop: its frames as stored, from memory. Whatever else raises WouldWait."""

    def frame_bits(self, number: int) -> tuple[bytes, int]:
        raise WouldWait

    def _piece(self, offset: int, length: int) -> Piece:
        # When its turn comes: an answer that the client has already takes no reading.
        return Made(length, lambda: self._resident(offset, length))

    def _resident(self, offset: int, length: int) -> bytes:
        found = self._blobs.resident(self.located.object_key, offset, length) if length <= _MOST_RESIDENT else None
        if found is None or len(found) != length:
            raise WouldWait
        return found
