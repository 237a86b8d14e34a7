"""A frame's bytes to a picture's bytes: decode, transform, place, encode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from dicomweb.rendering import supplemental
from dicomweb.rendering.annotations import annotated
from dicomweb.rendering.colour import palette_colour, true_colour
from dicomweb.rendering.encode import encode
from dicomweb.rendering.geometry import Picture, fitted, pixel_aspect
from dicomweb.rendering.grey import show
from dicomweb.rendering.icons import DAMAGED, icon, kind
from dicomweb.rendering.luts import Lut
from dicomweb.rendering.named_windows import own_window
from dicomweb.rendering.overlays import drawn, embedded, of_bit, overlays
from dicomweb.rendering.profiles import carrying, converted, is_colour, own_profile
from dicomweb.rendering.request import THUMBNAIL_SIDE, OwnWindow, RenderRequest, Share, Viewport, Window
from dicomweb.rendering.shutters import FRAME_SHUTTER, shuttered
from dicomweb.rendering.subtraction import as_stored, own_difference, show_difference, subtracted
from dicomweb.rendering.values import Bulk, macro
from dicomweb.rendering.voi import describes_voi, transform
from storage import codecs
from storage.codecs import PixelDescription, has_pixels
from storage.codecs.keeping import with_every_bit
from storage.codecs.samples import in_range
from storage.errors import CannotDecode, ObjectMissing
from storage.presets import Layer
from storage.transfer_syntaxes import Coding, lookup
from storage.types import Dataset

Decode = Callable[..., codecs.Array]
# The bytes of another frame of the image, by its number, and the bit at which it begins in them.
Frames = Callable[[int], tuple[bytes, int]]


@dataclass(frozen=True, slots=True)
class Rendered:
    """A picture ready to send. `placeholder`: it is an icon that stands for what cannot be shown, not the image."""

    media_type: str
    body: bytes
    placeholder: bool = False


def render_frame(
    frame: bytes,
    dataset: Dataset,
    transfer_syntax_uid: str,
    number: int,
    request: RenderRequest,
    *,
    bit_offset: int = 0,
    bulk: Bulk | None = None,
    frames: Frames | None = None,
    decode: Decode = codecs.decode,
) -> Rendered:
    """The picture of frame `number` (from 1), whose fragments are joined in `frame` (PS3.18 8.3.5, PS3.4 N.2).

    `dataset` is the instance's DICOM JSON; `bulk(path)` fetches, in little endian, a value that it has by reference.
    `frames` is asked for those that are subtracted from it (PS3.3 C.7.6.10); without it none is.
    Raises CannotDecode, BadRequest where the viewport lies outside the image, NotAcceptable for the media type, and
    Unavailable when every decoder is busy.
    """
    shown = placed(
        frame, dataset, transfer_syntax_uid, number, request, bit_offset=bit_offset, bulk=bulk, frames=frames, decode=decode
    )
    body = encode(shown, request.media_type, request.quality)
    if request.icc_profile != "no" and is_colour(dataset, number):
        body = carrying(body, own_profile(dataset, number, bulk), request.icc_profile, request.media_type)
    return Rendered(request.media_type, body)


def placed(
    frame: bytes,
    dataset: Dataset,
    transfer_syntax_uid: str,
    number: int,
    request: RenderRequest,
    *,
    bit_offset: int = 0,
    bulk: Bulk | None = None,
    frames: Frames | None = None,
    decode: Decode = codecs.decode,
) -> Picture:
    """The picture of `render_frame` before it is encoded."""
    picture = frame_picture(
        frame, dataset, transfer_syntax_uid, number, request, bit_offset=bit_offset, bulk=bulk, frames=frames, decode=decode
    )
    shown = fitted(picture, request.viewport, pixel_aspect(dataset, number))
    if request.icc_profile != "no" and is_colour(dataset, number):
        shown = converted(shown, own_profile(dataset, number, bulk), request.icc_profile, codecs.convert)
    # The window that is in the data set is not always that of a difference.
    unknown = bool(request.annotation) and request.window is None and is_subtracted(dataset, transfer_syntax_uid, number)
    window = chosen(request, dataset, transfer_syntax_uid, number, bulk) if request.annotation else None
    return annotated(shown, dataset, number, request, window, windowed=not unknown)


def chosen(request: RenderRequest, dataset: Dataset, transfer_syntax_uid: str, number: int, bulk: Bulk | None) -> Window | Lut | Share | None:
    """What the request wants frame `number` to be shown in. Raises BadRequest where the frame has no window of the name."""
    if not isinstance(request.window, OwnWindow):
        return request.window
    return own_window(request.window, dataset, number, PixelDescription.from_dataset(dataset, transfer_syntax_uid), bulk)


def is_subtracted(dataset: Dataset, transfer_syntax_uid: str, number: int) -> bool:
    """Whether frames are taken from frame `number` before it is shown, as the image itself wants it (PS3.3 C.7.6.10)."""
    return subtracted(dataset, number, PixelDescription.from_dataset(dataset, transfer_syntax_uid)) is not None


def steady_window(
    frame: bytes,
    dataset: Dataset,
    transfer_syntax_uid: str,
    number: int,
    *,
    share: Share | None = None,
    defaults: Layer | None = None,
    bit_offset: int = 0,
    bulk: Bulk | None = None,
    frames: Frames | None = None,
    decode: Decode = codecs.decode,
) -> Window | None:
    """The window made from the values of one frame, for all frames of a moving picture: made for each, it would flicker.

    Without `share` None where the data set has windows or VOI LUTs of its own; None for colour.
    """
    pixels = PixelDescription.from_dataset(dataset, transfer_syntax_uid)
    wanted = subtracted(dataset, number, pixels) if frames is not None else None
    if wanted is not None and frames is not None:
        samples = partial(_samples, frames, pixels, decode)
        _, made = own_difference(wanted, samples(number), dataset, number, pixels, None, bulk, samples)
        return made.voi if isinstance(made.voi, Window) else None
    dataset = dataset if frames is None else as_stored(dataset, number, pixels, bulk)
    if not pixels.photometric_interpretation.startswith("MONOCHROME") or (share is None and describes_voi(dataset, number)):
        return None
    stored = supplemental.in_grey(decode(frame, pixels, bit_offset=bit_offset), supplemental.colours(dataset, number, pixels, bulk))
    voi = transform(stored, dataset, number, pixels, share, bulk, defaults).voi
    return voi if isinstance(voi, Window) else None


def frame_picture(
    frame: bytes,
    dataset: Dataset,
    transfer_syntax_uid: str,
    number: int,
    request: RenderRequest,
    *,
    bit_offset: int = 0,
    bulk: Bulk | None = None,
    frames: Frames | None = None,
    decode: Decode = codecs.decode,
) -> Picture:
    """The frame in eight-bit grey (rows, columns) or RGB (rows, columns, 3), a pixel to a sample, before it is placed.

    Shutters cover it, and overlays are drawn on it (PS3.4 N.2).
    """
    pixels = PixelDescription.from_dataset(dataset, transfer_syntax_uid)
    window = chosen(request, dataset, transfer_syntax_uid, number, bulk)
    inside = embedded(dataset, pixels)
    values = decode(frame, with_every_bit(pixels) if inside else pixels, bit_offset=bit_offset)
    drawings = [of_bit(values, position) for position in inside]
    values = in_range(values, pixels) if inside else values
    wanted = subtracted(dataset, number, pixels) if frames is not None else None
    if wanted is not None and frames is not None:
        samples = partial(_samples, frames, pixels, decode)
        # Percentiles are of stored values, not of differences, which have a window about their zero.
        of_differences = None if isinstance(window, Share) else window
        picture: Picture = show_difference(*own_difference(wanted, values, dataset, number, pixels, of_differences, bulk, samples))
    else:
        plain = dataset if frames is None else as_stored(dataset, number, pixels, bulk)
        picture = _shown(values, plain, number, pixels, window, request.defaults, bulk)
    picture = shuttered(picture, macro(dataset, number, FRAME_SHUTTER))
    for overlay in (*drawings, *overlays(dataset, number, bulk)):
        picture = drawn(picture, overlay)
    return picture


def _samples(frames: Frames, pixels: PixelDescription, decode: Decode, number: int) -> codecs.Array:
    frame, bit_offset = frames(number)
    return decode(frame, pixels, bit_offset=bit_offset)


def _shown(
    values: codecs.Array,
    dataset: Dataset,
    number: int,
    pixels: PixelDescription,
    window: Window | Lut | Share | None,
    defaults: Layer | None,
    bulk: Bulk | None,
) -> Picture:
    if pixels.samples == 3:
        return true_colour(values, pixels)
    if pixels.photometric_interpretation == "PALETTE COLOR":
        return palette_colour(values, dataset, pixels, bulk)
    colours = supplemental.colours(dataset, number, pixels, bulk)
    made = transform(supplemental.in_grey(values, colours), dataset, number, pixels, window, bulk, defaults)
    return show(values, made) if colours is None else supplemental.show_both(values, made, colours)


def thumbnail(
    frame: bytes | None,
    dataset: Dataset,
    transfer_syntax_uid: str,
    number: int,
    request: RenderRequest,
    *,
    bit_offset: int = 0,
    bulk: Bulk | None = None,
    frames: Frames | None = None,
    decode: Decode = codecs.decode,
) -> Rendered:
    """A small picture, never an error for what is stored: an icon for what has no pixels or cannot be decoded.

    `frame` is None where there is none to read. Without a viewport the longer side has 128 pixels at most.
    """
    viewport = request.viewport or Viewport(THUMBNAIL_SIDE, THUMBNAIL_SIDE, enlarge=False)
    request = replace(request, viewport=viewport)
    if frame is None or not is_image(dataset, transfer_syntax_uid):
        return placeholder(dataset, request)
    try:
        return render_frame(
            frame,
            dataset,
            transfer_syntax_uid,
            number,
            request,
            bit_offset=bit_offset,
            bulk=bulk,
            frames=frames,
            decode=decode,
        )
    except (CannotDecode, ObjectMissing):
        return placeholder(dataset, request, damaged=True)


def is_image(dataset: Dataset, transfer_syntax_uid: str) -> bool:
    """Whether an instance has frames that can be rendered: pixel data, and not as video or by reference."""
    coding = lookup(transfer_syntax_uid).coding
    return has_pixels(dataset) and coding not in (Coding.VIDEO, Coding.REFERENCED)


def placeholder(dataset: Dataset, request: RenderRequest, *, damaged: bool = False) -> Rendered:
    """The icon for an instance, in the size and media type asked for."""
    viewport = request.viewport
    side = min(viewport.width, viewport.height, 1024) if viewport else THUMBNAIL_SIDE
    shape, label = DAMAGED if damaged else kind(dataset)
    return Rendered(
        request.media_type, encode(icon(shape, label, side), request.media_type, request.quality), True
    )
