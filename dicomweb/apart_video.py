"""Videos, read and written by FFmpeg through PyAV where that is installed; only ever in the process of `apart_child`."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from typing import IO, Any, Final

import av
import numpy as np

from dicomweb.apart_child import Made, Refusal

MOST_AREA: Final = 1 << 26
# What has no index is decoded from its beginning: so far is enough to see what it is about.
ENOUGH: Final = 250
# What an MP4 may hold as it is (ISO/IEC 14496-12 and its registrations) and browsers play.
COPIED: Final = frozenset({"h264", "hevc", "av1", "vp9"})
COPIED_SOUND: Final = frozenset({"aac", "mp3"})
# Encoders by how widely what they make is played, as far as the FFmpeg that is installed has them.
ENCODERS: Final = ("libopenh264", "libx264", "libsvtav1", "libvpx-vp9", "mpeg4")


def draw_frame(video: IO[bytes], asked: Mapping[str, Any]) -> Made:
    """Frame `frame` (from 1) of `frames` in RGB; with 0 the one in the middle."""
    with _opened(video, asked) as container:
        stream = container.streams.video[0]
        indexed = "mp4" in container.format.name
        middle = (int(asked["frames"]) + 1) // 2
        wanted = int(asked["frame"]) or (middle if indexed else min(middle, ENOUGH))
        frame = _frame(container, stream, max(wanted - 1, 0), indexed=indexed, exact=bool(asked["frame"]))
        pixels = frame.to_ndarray(format="rgb24")
        shape = stream.codec_context.sample_aspect_ratio
        aspect = float(1 / shape) if shape else 1.0
        return Made({"rows": pixels.shape[0], "columns": pixels.shape[1], "aspect": aspect}, pixels.tobytes())


def as_mp4(video: IO[bytes], asked: Mapping[str, Any]) -> Made:
    """The same in an MP4 file: as it is where an MP4 holds that, else encoded anew."""
    out = io.BytesIO()
    with _opened(video, asked) as container, av.open(out, "w", format="mp4") as made:
        stream = container.streams.video[0]
        if stream.codec_context.name in COPIED:
            _copy(container, made)
        else:
            _encode_all(container, stream, made)
    return Made({}, out.getbuffer())


def film(frames: IO[bytes], asked: Mapping[str, Any]) -> Made:
    """An MP4 of raw frames, grey or RGB of `width` and `height`, each shown for as many milliseconds as `times` says."""
    out = io.BytesIO()
    width, height, samples = int(asked["width"]), int(asked["height"]), int(asked["samples"])
    shape = (height, width) if samples == 1 else (height, width, samples)
    with av.open(out, "w", format="mp4") as made:
        stream = _encoder(made, width, height, int(asked["quality"]))
        at = 0
        for time in asked["times"]:
            raw = np.frombuffer(frames.read(width * height * samples), np.uint8).reshape(shape)
            frame = av.VideoFrame.from_ndarray(_even(raw), format="gray" if samples == 1 else "rgb24")
            frame.pts, frame.time_base = at, Fraction(1, 1000)
            made.mux(stream.encode(frame))
            at += int(time)
        made.mux(stream.encode(None))
    return Made({}, out.getbuffer())


@contextmanager
def _opened(video: IO[bytes], asked: Mapping[str, Any]) -> Iterator[Any]:
    """The video, read as what its first bytes say: FFmpeg is not let guess, for among its formats are lists of other files."""
    head = video.read(16)
    video.seek(0)
    try:
        with av.open(video, format=_format(head, str(asked["type"]), str(asked["syntax"]))) as container:
            if not container.streams.video:
                raise Refusal("there is no picture in it")
            context = container.streams.video[0].codec_context
            if context.width * context.height > MOST_AREA:
                raise Refusal(f"its pictures of {context.width} x {context.height} are too large")
            context.thread_count = 1
            yield container
    except (av.error.FFmpegError, ValueError) as error:
        raise Refusal(f"it cannot be read as a video ({' '.join(str(error).split())[:120]})") from error


def _format(head: bytes, media_type: str, syntax: str) -> str:
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide"):
        return "mp4"
    if head[:1] == b"\x47":
        return "mpegts"
    if head[:4] == b"\0\0\1\xba":
        return "mpeg"
    if head[:3] == b"\0\0\1" or head[:4] == b"\0\0\0\1":
        return "mpegvideo" if media_type == "video/mpeg" else "hevc" if syntax in ("107", "108") else "h264"
    raise Refusal("its first bytes are those of no video that DICOM has")


def _frame(container: Any, stream: Any, index: int, *, indexed: bool, exact: bool) -> Any:
    """The frame of this index from 0; of a video that is shorter than it says the last, unless it must be that one."""
    rate, base = stream.average_rate, stream.time_base
    start = stream.start_time or 0
    if indexed and index and rate and base:
        target = start + int(index / rate / base)
        # To the picture before it that needs no other; decoding goes on from there.
        container.seek(target, stream=stream, backward=True)
        half = 1 / rate / base / 2
        found = next((frame for frame in container.decode(stream) if frame.pts is not None and frame.pts + half >= target), None)
        if found is not None:
            return found
        container.seek(start, stream=stream, backward=True)
    last = None
    for number, frame in enumerate(container.decode(stream)):
        last = frame
        if number == index:
            return frame
    if last is None or exact:
        raise Refusal(f"there is no frame {index + 1} in it" if last is not None else "no frame of it can be decoded")
    return last


def _copy(container: Any, made: Any) -> None:
    kept = {
        stream.index: made.add_stream_from_template(stream)
        for stream in container.streams
        if stream.type == "video" or (stream.type == "audio" and stream.codec_context.name in COPIED_SOUND)
    }
    for packet in container.demux([container.streams[index] for index in kept]):
        if packet.dts is not None:
            packet.stream = kept[packet.stream.index]
            made.mux(packet)


def _encode_all(container: Any, stream: Any, made: Any) -> None:
    """Pictures alone, at their pace: sound that an MP4 does not hold is left out."""
    context = stream.codec_context
    rate = stream.average_rate or Fraction(25)
    encoder = _encoder(made, context.width, context.height, 90)
    for number, frame in enumerate(container.decode(stream)):
        raw = av.VideoFrame.from_ndarray(_even(frame.to_ndarray(format="rgb24")), format="rgb24")
        raw.pts, raw.time_base = round(number * 1000 / rate), Fraction(1, 1000)
        made.mux(encoder.encode(raw))
    made.mux(encoder.encode(None))


def _encoder(made: Any, width: int, height: int, quality: int) -> Any:
    name = next((name for name in ENCODERS if name in av.codecs_available), None)
    if name is None:
        raise Refusal("the FFmpeg that is installed has no encoder for MP4")
    stream = made.add_stream(name, rate=Fraction(25))
    stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
    stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
    stream.codec_context.thread_count = 2
    # From 40 (worst) to 12: of x264, AV1 and VP9 alike a small number is good.
    options = {"crf": str(round(40 - quality * 0.28))}
    if name == "libx264":
        options |= {"preset": "veryfast"}
    if name == "libsvtav1":
        options |= {"preset": "10"}
    stream.codec_context.options = options if name != "mpeg4" else {}
    return stream


def _even(picture: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Chroma is of two by two pixels: an odd edge is doubled."""
    rows, columns = picture.shape[:2]
    margins = ((0, rows % 2), (0, columns % 2), (0, 0))[: picture.ndim]
    return np.ascontiguousarray(np.pad(picture, margins, mode="edge"))
