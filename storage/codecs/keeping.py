"""Decoding to keep, not to show: nothing that the stored pixels hold is cut off or converted on the way."""

from __future__ import annotations

from dataclasses import replace

from storage.codecs.colour import FULL_RANGE, described_as_rgb
from storage.codecs.pixels import Number, PixelDescription
from storage.transfer_syntaxes import EXPLICIT_LITTLE, Coding

# Codings that hold samples as they lie in memory, unused bits and all.
AS_IT_LIES = frozenset({Coding.NATIVE, Coding.ENCAPSULATED_NATIVE, Coding.DEFLATED_FRAME, Coding.RLE})
# Codings that know nothing of colour: what Photometric Interpretation calls YCbCr is just that in their samples.
_COLOUR_BLIND = AS_IT_LIES | {Coding.JPEG_LS}


def for_keeping(pixels: PixelDescription) -> PixelDescription:
    """`pixels` as they are decoded for keeping."""
    return with_its_colour(with_every_bit(pixels))


def with_its_colour(pixels: PixelDescription) -> PixelDescription:
    """`pixels` so described that YCbCr stays YCbCr where that is what is coded: to RGB and back is not the same again.

    Streams that convert colour by themselves give RGB.
    """
    blind = pixels.syntax.coding in _COLOUR_BLIND and pixels.photometric_interpretation in FULL_RANGE
    return replace(pixels, keeps_colour=True) if blind else pixels


def with_every_bit(pixels: PixelDescription) -> PixelDescription:
    """`pixels` so described that what lies above Bits Stored, overlays of old among it, is not cut off.

    For showing them it must be (PS3.5 8.1.1). Lossy samples and colour to be converted have nothing there.
    """
    if pixels.number is not Number.INTEGER or pixels.bits_allocated == 1 or pixels.syntax.lossy or pixels.is_ybr:
        return pixels
    return replace(pixels, bits_stored=pixels.bits_allocated, high_bit=pixels.bits_allocated - 1)


def described_as_little(pixels: PixelDescription) -> PixelDescription:
    """What describes the frame once it is in Explicit VR Little Endian (PS3.5 A.2).

    High Bit stays where samples are coded as they lie in memory; codestreams hold them from their lowest bit on.
    """
    stays = pixels.syntax.coding in AS_IT_LIES and not pixels.is_ybr
    return replace(
        described_as_rgb(pixels),
        transfer_syntax_uid=EXPLICIT_LITTLE,
        word_swapped=False,
        keeps_colour=False,
        high_bit=pixels.high_bit if stays else pixels.bits_stored - 1,
    )
