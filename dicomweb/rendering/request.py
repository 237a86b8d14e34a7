"""What picture is asked for: the rendering query parameters of PS3.18 8.3.5 as a frozen value."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from dicomweb.rendering.spaces import SPACES
from storage.errors import BadRequest
from storage.presets import Preset

QUALITY = 90
THUMBNAIL_SIDE = 128
# Keywords of the annotation parameter (PS3.18 8.3.5.1.1).
PATIENT, TECHNIQUE = "patient", "technique"
# What a screen wall shows; a request for more is a mistake or an attack.
MAX_SIDE = 16_384
MAX_AREA = 1 << 26


class Function(StrEnum):
    """VOI LUT Function (0028,1056), PS3.3 C.11.2.1.3."""

    LINEAR = "LINEAR"
    LINEAR_EXACT = "LINEAR_EXACT"
    SIGMOID = "SIGMOID"


@dataclass(frozen=True, slots=True)
class Window:
    """Center and width in the units that the modality LUT gives (Hounsfield for CT), and the function's shape."""

    center: float
    width: float
    function: Function = Function.LINEAR

    @property
    def possible(self) -> bool:
        """PS3.3 C.11.2.1.2: the width is at least 1 for LINEAR, and above 0 for the others."""
        if not math.isfinite(self.center) or not math.isfinite(self.width):
            return False
        return self.width >= 1 if self.function is Function.LINEAR else self.width > 0


@dataclass(frozen=True, slots=True)
class OwnWindow:
    """A window or VOI LUT that the image brings itself, by its name: as `storage.presets.key_of` writes it."""

    key: str


@dataclass(frozen=True, slots=True)
class Share:
    """A window from one percentile of the values of a frame to another."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Viewport:
    """The size to fit the picture in, and the part of the image to show: None is the image's own edge.

    A negative `source_width` or `source_height` flips the picture, as PS3.18 8.3.5.1.3 has it.
    """

    width: int
    height: int
    source_x: float | None = None
    source_y: float | None = None
    source_width: float | None = None
    source_height: float | None = None
    # A thumbnail of a small image stays small.
    enlarge: bool = True


@dataclass(frozen=True, slots=True)
class RenderRequest:
    """Everything that changes the picture, so that it can also be the key under which the picture is cached."""

    window: Window | OwnWindow | Share | None = None
    viewport: Viewport | None = None
    quality: int = QUALITY
    media_type: str = "image/jpeg"
    # As the request has it: "no" where it has none.
    icc_profile: str = "no"
    # What is to be written into the picture: PATIENT, TECHNIQUE.
    annotation: tuple[str, ...] = ()
    # What images are shown in that bring no window, in the order in which they are tried; None: as the archive comes.
    defaults: tuple[Preset, ...] | None = None

    @property
    def share(self) -> Share | None:
        """The percentiles that are asked for: of the frames of a moving picture those of one, for it would flicker."""
        return self.window if isinstance(self.window, Share) else None

    @property
    def steady(self) -> Window | OwnWindow | None:
        """What is asked for and does not depend on the values of a frame."""
        return None if isinstance(self.window, Share) else self.window


# A name to the window of the preset or the image that is called so, or None where there is none.
Presets = Callable[[str], Window | OwnWindow | Share | None]


def parse(
    query: Iterable[tuple[str, str]], media_type: str, presets: Presets, defaults: tuple[Preset, ...] | None = None
) -> RenderRequest:
    """The rendering parameters among `query` (decoded). Others are left to whoever understands them.

    Raises BadRequest, naming the parameter, for values that mean nothing or that no picture can have.
    """
    given: dict[str, str] = {}
    for name, value in query:
        if name in PARAMETERS and name in given:
            raise BadRequest(f"{name} is given more than once")
        given[name] = value
    return RenderRequest(
        window=_window(given["window"], presets) if "window" in given else None,
        viewport=_viewport(given["viewport"]) if "viewport" in given else None,
        quality=_quality(given.get("quality", str(QUALITY))),
        media_type=media_type,
        icc_profile=_icc_profile(given),
        annotation=_annotation(given),
        defaults=defaults,
    )


# `user` is an extension: whose presets are asked for, beside those of the site.
PARAMETERS = frozenset({"annotation", "iccprofile", "quality", "user", "viewport", "window"})
# Of `iccprofile`; what is neither yes nor no names a space that the picture is to be converted to.
PROFILES = ("no", "yes", *SPACES)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_FUNCTIONS = {"linear": Function.LINEAR, "linear-exact": Function.LINEAR_EXACT, "sigmoid": Function.SIGMOID}


def _window(text: str, presets: Presets) -> Window | OwnWindow | Share:
    """`center,width[,function]` (PS3.18 8.3.5.1.4), or, as an extension, the name of a preset or of a window of the image's own."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) == 1:
        preset = presets(parts[0])
        if preset is None:
            raise BadRequest("window is neither center,width,function nor the name of a preset; /api/presets has their names")
        return preset
    if len(parts) > 3:
        raise BadRequest("window has more than center,width,function")
    function = _FUNCTIONS.get(parts[2].lower().replace("_", "-")) if len(parts) == 3 else Function.LINEAR
    if function is None:
        raise BadRequest(f"window's function is none of {', '.join(_FUNCTIONS)}")
    window = Window(_number("window", parts[0]), _number("window", parts[1]), function)
    if not window.possible:
        raise BadRequest("window's width must be at least 1 (linear) or above 0 (linear-exact, sigmoid)")
    return window


def _viewport(text: str) -> Viewport:
    """`vw,vh` or `vw,vh,sx,sy,sw,sh`; any of the last four may be empty (PS3.18 8.3.5.1.3)."""
    parts = [part.strip() for part in text.split(",")]
    if not 2 <= len(parts) <= 6:
        raise BadRequest("viewport is not vw,vh or vw,vh,sx,sy,sw,sh")
    width, height = (_side(part) for part in parts[:2])
    if width * height > MAX_AREA:
        raise BadRequest(f"viewport has more than {MAX_AREA} pixels")
    source = [_number("viewport", part) if part else None for part in parts[2:]] + [None] * 4
    if any(start is not None and start < 0 for start in source[:2]):
        raise BadRequest("viewport's source begins outside the image")
    if any(length == 0 for length in source[2:4]):
        raise BadRequest("viewport's source is empty")
    return Viewport(width, height, source[0], source[1], source[2], source[3])


def _side(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= MAX_SIDE:
        raise BadRequest(f"viewport's width and height are whole numbers from 1 to {MAX_SIDE}")
    return int(text)


def _quality(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= 100:
        raise BadRequest("quality is a whole number from 1 to 100")
    return int(text)


def _number(name: str, text: str) -> float:
    if len(text) > 32 or not _NUMBER.fullmatch(text) or not math.isfinite(float(text)):
        raise BadRequest(f"{name} holds something that is not a number")
    return float(text)


def _annotation(given: Mapping[str, str]) -> tuple[str, ...]:
    """In one order, so that the same picture has the same key."""
    wanted = [word.strip() for word in given["annotation"].split(",")] if "annotation" in given else []
    if any(word not in (PATIENT, TECHNIQUE) for word in wanted):
        raise BadRequest("annotation is a list of patient, technique")
    return tuple(sorted(set(wanted)))


def _icc_profile(given: Mapping[str, str]) -> str:
    wanted = given.get("iccprofile", "no")
    if wanted not in PROFILES:
        raise BadRequest(f"iccprofile is one of {', '.join(PROFILES)}")
    return wanted
