"""The first bits of a JPEG XL codestream (ISO/IEC 18181-1 D.1 to D.3): size, depth and colour before decoding."""

from __future__ import annotations

from storage.codecs.headers import Header
from storage.errors import CannotDecode

CODESTREAM = b"\xff\x0a"
CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"

# SizeHeader: width from height by these ratios; 0 means that the width is written.
RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}

# U32 distributions: (bits, offset) for each value of the two-bit selector.
Choices = tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int]]
SIZE: Choices = ((9, 1), (13, 1), (18, 1), (30, 1))
DEPTH: Choices = ((0, 8), (0, 10), (0, 12), (6, 1))
EXTRA_CHANNELS: Choices = ((0, 0), (0, 1), (4, 2), (12, 1))
ENUM: Choices = ((0, 0), (0, 1), (4, 2), (6, 18))
GREY = 1


class Bits:
    """Bits of `data` from the lowest of each byte, as JPEG XL reads them."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "little")
        self._left = len(data) * 8

    def take(self, count: int) -> int:
        if count > self._left:
            raise CannotDecode("the JPEG XL stream ends in its header")
        taken = self._value & ((1 << count) - 1)
        self._value >>= count
        self._left -= count
        return taken

    def choose(self, choices: Choices) -> int:
        """U32: two bits select how many follow and what is added."""
        bits, offset = choices[self.take(2)]
        return self.take(bits) + offset


def jxl_header(frame: bytes) -> Header:
    """Of a bare codestream or one in the container; refuses what DICOM has no place for (previews, animation, alpha)."""
    bits = Bits(_codestream_start(frame))
    rows, columns = _size(bits)
    if bits.take(1):  # all defaults: 8 bits, sRGB
        return Header(rows, columns, 3, 8, "RGB")
    if bits.take(1):  # extra fields
        orientation, intrinsic = bits.take(3), bits.take(1)
        if intrinsic:
            _size(bits)
        if orientation or bits.take(2):
            raise CannotDecode("JPEG XL with orientation, preview or animation is not a DICOM frame")
    if bits.take(1):
        raise CannotDecode("JPEG XL with floating point samples is not a DICOM frame")
    depth = bits.choose(DEPTH)
    bits.take(1)  # modular 16-bit buffers suffice
    if bits.choose(EXTRA_CHANNELS):
        raise CannotDecode("JPEG XL with extra channels is not a DICOM frame")
    bits.take(1)  # XYB: the decoder gives back RGB
    return Header(rows, columns, 1 if _is_grey(bits) else 3, depth, "RGB")


def _size(bits: Bits) -> tuple[int, int]:
    small = bits.take(1)

    def length() -> int:
        return (bits.take(5) + 1) * 8 if small else bits.choose(SIZE)

    rows = length()
    ratio = bits.take(3)
    if not ratio:
        return rows, length()
    numerator, denominator = RATIOS[ratio]
    return rows, rows * numerator // denominator


def _is_grey(bits: Bits) -> bool:
    if bits.take(1):  # all defaults: sRGB
        return False
    bits.take(1)  # ICC profile follows
    return bits.choose(ENUM) == GREY


def _codestream_start(frame: bytes) -> bytes:
    """The first bytes after the codestream's signature, out of its box where there is one."""
    if frame.startswith(CODESTREAM):
        return frame[2:66]
    at = len(CONTAINER) if frame.startswith(CONTAINER) else len(frame)
    while at + 8 <= len(frame):
        length, kind = int.from_bytes(frame[at : at + 4], "big"), frame[at + 4 : at + 8]
        if kind in (b"jxlc", b"jxlp"):
            start = at + (8 if kind == b"jxlc" else 12)
            if frame[start : start + 2] == CODESTREAM:
                # A first part may hold little more than its signature; what follows a box is not codestream.
                end = at + length if length else len(frame)
                return frame[start + 2 : min(end, start + 66)]
            break
        if length < 8:
            break
        at += length
    raise CannotDecode("the frame is not a JPEG XL stream")
