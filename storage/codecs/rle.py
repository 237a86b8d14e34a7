"""RLE Lossless frames (PS3.5 annex G), 1-bit ones included."""

from __future__ import annotations

import numpy as np
from rle.rle import decode_frame

from storage.codecs.native import unpack_bits
from storage.codecs.pixels import PixelDescription
from storage.codecs.samples import Array, in_range
from storage.errors import CannotDecode


def decode_rle(frame: bytes, pixels: PixelDescription, bit_offset: int = 0) -> Array:
    """Samples as stored. Raises CannotDecode for a header or segment that is not what the data set says."""
    if pixels.bits_allocated == 1:
        # Eight pixels to a byte, then packed like any segment of bytes (PS3.5 8.2.2): the decoder is told of bytes.
        return unpack_bits(_segments(frame, (pixels.values + 7) // 8, 8), pixels)
    planes = _segments(frame, pixels.rows * pixels.columns, pixels.bits_allocated)
    if len(planes) != pixels.decoded_size:
        raise CannotDecode(
            f"the RLE frame holds {len(planes)} bytes where the data set says {pixels.decoded_size}"
        )
    values = np.frombuffer(planes, pixels.dtype.newbyteorder("<")).astype(pixels.dtype, copy=False)
    # Segments are planes whatever Planar Configuration says (PS3.5 G.2).
    values = np.moveaxis(values.reshape(pixels.samples, pixels.rows, pixels.columns), 0, -1)
    return in_range(np.ascontiguousarray(values).reshape(pixels.shape), pixels)


def _segments(frame: bytes, count: int, bits: int) -> bytes:
    try:
        return bytes(decode_frame(frame, count, bits, "<"))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a Rust panic is no Exception, yet it is only this frame's fault
        raise CannotDecode(f"the RLE frame is damaged ({error})") from error
