"""From samples to the codestreams of each transfer syntax: who writes them without loss, and what each can hold."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace

import numpy as np
from imagecodecs import (
    htj2k_encode,
    jpeg2k_encode,
    jpeg8_encode,
    jpegls_encode,
    jpegxl_decode_jpeg,
    jpegxl_encode,
    jpegxl_encode_jpeg,
)
from jpeg_ls import encode_buffer
from rle.rle import encode_frame

from storage.codecs.colour import FULL_RANGE
from storage.codecs.decoding import decode_here, little_bytes
from storage.codecs.encoder import Encoder, bare, precision, resolutions, with_depth
from storage.codecs.foreign import guarded
from storage.codecs.headers import held_against, jpeg_header
from storage.codecs.keeping import AS_IT_LIES, described_as_little, for_keeping, with_its_colour
from storage.codecs.lossy import LOSSY, LossyEncoder
from storage.codecs.pixels import Number, PixelDescription
from storage.codecs.samples import Array
from storage.errors import CannotDecode, NotAcceptable
from storage.transfer_syntaxes import JPEG_BASELINE, JPEG_XL_JPEG, RLE_LOSSLESS, Coding, lookup

# Photometric Interpretation of three samples before and after (PS3.5 8.2); what is missing cannot be said.
_RGB: Mapping[str, str] = {"RGB": "RGB"}
_AS_IT_IS: Mapping[str, str] = {"RGB": "RGB", "YBR_FULL": "YBR_FULL"}
# RGB goes through the reversible transformation inside (T.800 G.2), whose planes are smaller.
_REVERSIBLE: Mapping[str, str] = {"RGB": "YBR_RCT", "YBR_FULL": "YBR_FULL"}

# Of a JPEG XL encoder: without loss the quickest way is hardly larger than the next ten times as long.
_FAST = 1


def encode_here(frame: bytes, pixels: PixelDescription, target: str, *, bit_offset: int = 0) -> bytes:
    """A stored frame as one of the transfer syntax `target`, in this process: see `storage.codecs.encode`."""
    if (pixels.transfer_syntax_uid, target) in RECOMPRESSED:
        return _recompressed(frame, pixels, target)
    after = described_as(pixels, target)
    encoder = _encoder(target)
    # What is lossy anyway takes what is shown: the stored bits, in RGB.
    source = pixels if isinstance(encoder, LossyEncoder) else for_keeping(pixels)
    # Of samples that came plane by plane decoders give a view, which not every library reads.
    values = np.ascontiguousarray(decode_here(frame, source, bit_offset=bit_offset))
    try:
        return encoder.write(values, after)
    except Exception as error:
        raise CannotDecode(f"the frame cannot be written in {after.syntax.name} ({error})") from error


def _encoder(target: str) -> Encoder:
    return ENCODERS.get(target) or LOSSY[target]


def described_as(pixels: PixelDescription, target: str) -> PixelDescription:
    """What describes the frame in `target`. Raises NotAcceptable, with the reason, where that cannot hold it."""
    if (pixels.transfer_syntax_uid, target) in RECOMPRESSED:
        return replace(pixels, transfer_syntax_uid=target)
    pixels.check()
    encoder = _encoder(target)
    if isinstance(encoder, LossyEncoder):
        after = replace(described_as_little(pixels), transfer_syntax_uid=target, high_bit=pixels.bits_stored - 1)
        reason = _refusal(pixels, after, encoder) or _lossy_refusal(pixels, encoder)
    else:
        after = replace(described_as_little(with_its_colour(pixels)), transfer_syntax_uid=target)
        reason = _refusal(pixels, after, encoder) or _changed(pixels, after)
    if reason:
        raise NotAcceptable(f"{after.syntax.name} cannot hold {reason}; get it in Explicit VR Little Endian")
    if after.samples == 1:
        return after
    planes = 1 if target == RLE_LOSSLESS else 0
    colour = encoder.colours[after.photometric_interpretation]
    return replace(after, photometric_interpretation=colour, planar_configuration=planes)


def _refusal(pixels: PixelDescription, after: PixelDescription, encoder: Encoder) -> str:
    """What of it the target has no way to hold; empty when it can."""
    if pixels.number is not Number.INTEGER:
        return "pixels that are floating point numbers"
    if pixels.bits_allocated not in encoder.bits:
        return f"pixels of {pixels.bits_allocated} bits"
    if after.syntax.coding not in AS_IT_LIES and after.high_bit != after.bits_stored - 1:
        return f"pixels whose High Bit is {after.high_bit} of {after.bits_stored}"
    if after.samples == 1:
        return ""
    if after.photometric_interpretation not in encoder.colours:
        return f"colour of Photometric Interpretation {after.photometric_interpretation!r}"
    return ""


def _changed(pixels: PixelDescription, after: PixelDescription) -> str:
    converted = pixels.photometric_interpretation in FULL_RANGE and after.photometric_interpretation == "RGB"
    if after.samples == 3 and converted and not pixels.syntax.lossy:
        return f"what {pixels.syntax.name} calls YBR_FULL without converting it"
    return ""


def _lossy_refusal(pixels: PixelDescription, encoder: LossyEncoder) -> str:
    if pixels.bits_stored not in encoder.stored:
        return f"pixels of {pixels.bits_stored} stored bits"
    if pixels.signed and not encoder.signed:
        return "pixels that are signed"
    if pixels.samples == 1 and not pixels.photometric_interpretation.startswith("MONOCHROME"):
        # Neighbours in a palette have nothing to do with each other.
        return f"pixels of Photometric Interpretation {pixels.photometric_interpretation!r} with loss"
    return ""


def _rle(values: Array, pixels: PixelDescription) -> bytes:
    if pixels.bits_allocated == 1:
        # Eight pixels to a byte (PS3.5 8.2.2), which are then coded as one row.
        packed = little_bytes(values, pixels)
        return bytes(encode_frame(packed, 1, len(packed), 1, 8, "<"))
    flat = little_bytes(bare(values), replace(pixels, signed=False))
    return bytes(encode_frame(flat, pixels.rows, pixels.columns, pixels.samples, pixels.bits_allocated, "<"))


def _deflated(values: Array, pixels: PixelDescription) -> bytes:
    return zlib.compress(little_bytes(values, pixels), wbits=-zlib.MAX_WBITS)


def _jpeg_ls(values: Array, pixels: PixelDescription) -> bytes:
    bits, raw = precision(values, pixels, unsigned=True), bare(values)
    if bits < pixels.bits_allocated:
        # This library writes any precision, but has no room for frames that do not become smaller.
        with suppress(RuntimeError):
            interleaved = 2 if pixels.samples == 3 else 0
            return bytes(encode_buffer(raw.tobytes(), pixels.rows, pixels.columns, pixels.samples, bits, 0, interleaved))
    # Noise becomes larger: what the library would allocate for itself is too little for it as well.
    return _without_spiff(bytes(jpegls_encode(raw, out=2 * raw.nbytes + 1024)))


def _without_spiff(stream: bytes) -> bytes:
    """A JPEG-LS stream without the SPIFF directory (APP8) in front, which DICOM's have not and few readers expect."""
    at = 2
    while stream[at : at + 2] == b"\xff\xe8":
        at += 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
    return stream[:2] + stream[at:]


def _jpeg_lossless(values: Array, pixels: PixelDescription) -> bytes:
    bits = precision(values, pixels, unsigned=True)
    # Named on both sides, so that the library converts nothing.
    space = None if pixels.samples == 1 else "RGB"
    raw = bare(values)
    return bytes(jpeg8_encode(raw, lossless=True, predictor=1, bitspersample=bits, colorspace=space, outcolorspace=space))


def _jpeg_2000(values: Array, pixels: PixelDescription) -> bytes:
    return bytes(
        jpeg2k_encode(
            values,
            codecformat="j2k",
            reversible=True,
            mct=pixels.photometric_interpretation == "YBR_RCT",
            bitspersample=precision(values, pixels, unsigned=False),
            resolutions=resolutions(pixels),
            numthreads=1,
        )
    )


def _htj2k(values: Array, pixels: PixelDescription) -> bytes:
    """RPCL with tile-part lengths and resolutions down to a thumbnail (PS3.5 A.4.4): a client can stop anywhere.

    The library writes precisions of 8 and 16 only. Unsigned samples of others are coded as their distance from the
    middle, which is what a codestream of unsigned samples holds (T.800 G.1), and SIZ is told so.
    """
    bits = precision(values, pixels, unsigned=False)
    container = pixels.bits_allocated
    transformed = pixels.photometric_interpretation == "YBR_RCT"
    shifted = not pixels.signed and bits != container
    if shifted:
        values = (values.astype(np.int32) - (1 << (bits - 1))).astype(f"i{container // 8}")
    stream = htj2k_encode(values, reversible=True, tlm=True, resolutions=resolutions(pixels), rgb=transformed)
    return with_depth(bytes(stream), bits, pixels)


def _jpeg_xl(values: Array, pixels: PixelDescription) -> bytes:
    bits = precision(values, pixels, unsigned=True)
    return bytes(jpegxl_encode(bare(values), lossless=True, effort=_FAST, bitspersample=bits, numthreads=1))


_BYTES_AND_WORDS = frozenset({8, 16})
_JPEG = "1.2.840.10008.1.2.4."

ENCODERS: dict[str, Encoder] = {
    RLE_LOSSLESS: Encoder(_rle, frozenset({1, 8, 16, 32}), _AS_IT_IS),
    "1.2.840.10008.1.2.8.1": Encoder(_deflated, frozenset({1, 8, 16, 32}), _AS_IT_IS),
    _JPEG + "57": Encoder(_jpeg_lossless, _BYTES_AND_WORDS, _RGB),
    _JPEG + "70": Encoder(_jpeg_lossless, _BYTES_AND_WORDS, _RGB),
    _JPEG + "80": Encoder(_jpeg_ls, _BYTES_AND_WORDS, _AS_IT_IS),
    _JPEG + "90": Encoder(_jpeg_2000, _BYTES_AND_WORDS, _REVERSIBLE),
    _JPEG + "110": Encoder(_jpeg_xl, _BYTES_AND_WORDS, _RGB),
    _JPEG + "201": Encoder(_htj2k, _BYTES_AND_WORDS, _REVERSIBLE),
    _JPEG + "202": Encoder(_htj2k, _BYTES_AND_WORDS, _REVERSIBLE),
}

# JPEG XL takes a JPEG stream apart and can put it together again, byte for byte (PS3.5 8.2.18).
RECOMPRESSED: dict[tuple[str, str], Callable[[bytes], bytes]] = {
    (JPEG_BASELINE, JPEG_XL_JPEG): lambda frame: bytes(jpegxl_encode_jpeg(_to_its_end(frame), numthreads=1)),
    (JPEG_XL_JPEG, JPEG_BASELINE): lambda frame: bytes(jpegxl_decode_jpeg(frame, numthreads=1)),
}


def _recompressed(frame: bytes, pixels: PixelDescription, target: str) -> bytes:
    before, after = pixels.syntax, lookup(target)
    if before.coding is Coding.JPEG:
        held_against(jpeg_header(frame), pixels)
    with guarded(before.name):
        made = RECOMPRESSED[before.uid, target](frame)
    if after.coding is Coding.JPEG:
        held_against(jpeg_header(made), pixels)
    return made


def _to_its_end(frame: bytes) -> bytes:
    """A JPEG stream without the byte that makes its fragment even (PS3.5 A.4)."""
    end = frame.rfind(b"\xff\xd9")
    if end < 0:
        raise CannotDecode("the JPEG stream is cut off: its end is missing")
    return frame[: end + 2]
