"""JPEG read strictly: what libjpeg-turbo only warns of, making up the samples that it cannot read, is damage.

Codes of samples that cannot be, too few of them or too many before the next marker (ITU-T T.81 F.2): so a byte that has changed is
often seen, and never where what came of it is a code again, of as many samples.
"""

from __future__ import annotations

import re
from typing import Final

from simplejpeg import decode_jpeg as decode_strictly

from storage.codecs.headers import SOF_CODES, Header, segments
from storage.codecs.samples import Array
from storage.errors import CannotDecode

_DAMAGE: Final = re.compile(r"(?:Corrupt JPEG data|Premature end of JPEG file)(?:: )?(.*)")
_LEFT_OVER: Final = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
# What writers fill up with between the last sample and EOI; coded samples are nowhere so even.
_FILLERS: Final = (b"\0", b"\xff", b" ")
_EIGHT: Final = 8
# Who only wants to know whether a picture can be read has an eighth of it made.
_SMALLEST: Final = {"min_height": 1, "min_width": 1, "min_factor": 8}


def read_strictly(frame: bytes, header: Header, *, ycbcr: bool) -> Array | None:
    """The samples of a stream of 8 bits, grey or made RGB of YCbCr; of others, or where it can only be read leniently, None.

    Raises CannotDecode where the stream is damaged, whatever it holds.
    """
    here = header.bits == _EIGHT and (header.samples == 1 or (ycbcr and not header.lossless))
    size = {} if here or header.lossless else _SMALLEST
    try:
        values: Array = decode_strictly(
            frame if header.bits == _EIGHT else _with_precision(frame, _EIGHT),
            "GRAY" if header.samples == 1 else "RGB",
            **size,
        )
    except ValueError as error:
        _judge(frame, str(error))
        return None
    return values.reshape(values.shape[: 2 if header.samples == 1 else 3]) if here else None


def _judge(frame: bytes, said: str) -> None:
    """Raises CannotDecode where it is of damage; other warnings are of slips that do no harm, and errors the other decoder's to find."""
    damage = _DAMAGE.match(said)
    if damage is None:
        return
    left = _LEFT_OVER.search(said)
    if left is not None:
        end = frame.rfind(b"\xff\xd9")
        over = frame[max(0, end - int(left[1])) : end]
        if any(over == filler * len(over) for filler in _FILLERS):
            return
    raise CannotDecode(f"the JPEG stream is damaged ({damage[1] or 'it is cut off'}): what it shows would not be what was sent; get it as it is stored, or send it again")


def _with_precision(frame: bytes, bits: int) -> bytes:
    """The stream with another sample precision: which codes there can be is no matter of precision (T.81 F.1.2, H.1.2), what they mean is."""
    start = next(segment.end - len(segment.body) for segment in segments(frame) if segment.code in SOF_CODES)
    return frame[:start] + bytes((bits,)) + frame[start + 1 :]
