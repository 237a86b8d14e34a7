"""Window/level presets: what one is, and whose holds where several have a word.

Those of `viewer-config/presets.json` are there for everybody. A site adds its own, changes or hides those; a user's own are
before the site's. What is before takes the place of what has the same id, or the same name for the same modality, so that a
name is never two pictures.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final

import orjson

from storage.errors import BadRequest

# VOI LUT Function (PS3.3 C.11.2.1.3), by how they are written.
LINEAR, LINEAR_EXACT, SIGMOID = "LINEAR", "LINEAR_EXACT", "SIGMOID"
FUNCTIONS: Final = (LINEAR, LINEAR_EXACT, SIGMOID)
# Standardized uptake value by body weight, in g/ml, which is calculated of a PET image (PS3.3 C.8.9.1).
SUV: Final = "SUV"
PET: Final = "PT"
# Percentiles of the values of a frame: from center - width / 2 to center + width / 2 of them.
PERCENT: Final = "PERCENT"
_ID: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
# A code string (PS3.5 6.2).
_CODE: Final = re.compile(r"[A-Z0-9_][A-Z0-9_ ]{0,15}")
_LONGEST: Final = 64
_MOST: Final = 1e9


class Origin(StrEnum):
    """Who has said it."""

    BUILT_IN = "built-in"
    SITE = "site"
    USER = "user"


@dataclass(frozen=True, slots=True)
class Preset:
    """One named window: center and width in the units that the modality LUT gives, or, `units` SUV, in g/ml, or, PERCENT, in percentiles of the frame's own values.

    `default`: what images of this modality and part of the body are shown in that bring no window of their own. `hidden`: neither
    it nor what it takes the place of is there. `body_part` is a value of Body Part Examined (0018,0015), empty: any.
    """

    id: str
    name: str
    modality: str
    center: float
    width: float
    function: str = LINEAR
    body_part: str = ""
    default: bool = False
    units: str = ""
    hidden: bool = False
    origin: Origin = Origin.SITE

    @property
    def key(self) -> str:
        """Its name as names are compared."""
        return key_of(self.name)

    def is_called(self, name: str) -> bool:
        """Whether this is its id or name, in any case."""
        return key_of(name) in (self.id, self.key)


Layer = tuple[Preset, ...]


class Presets:
    """What holds for somebody: layers, the last before the others."""

    def __init__(self, *layers: Sequence[Preset]) -> None:
        found: dict[str, Preset] = {}
        for layer in layers:
            ids, names = {one.id for one in layer}, {(one.modality, one.key) for one in layer}
            found = {id_: one for id_, one in found.items() if id_ in ids or (one.modality, one.key) not in names}
            # What is replaced keeps its place in lists.
            found |= {one.id: one for one in layer}
        self.all: Final[Layer] = tuple(found.values())
        self.shown: Final[Layer] = tuple(one for one in self.all if not one.hidden)
        # In the order in which they are to be tried: the last layer's first, and in it those for a part of the body.
        there = frozenset(self.shown)
        first = ([one for one in layer if one.default and one in there] for layer in reversed(layers))
        self.defaults: Final[Layer] = tuple(one for layer in first for one in sorted(layer, key=lambda one: not one.body_part))

    def named(self, name: str, modality: str) -> Preset | None:
        """The preset of this id or name, that for the modality where there are several; None where there is none.

        Raises BadRequest where it is there several times, and not for this modality.
        """
        found = [one for one in self.shown if one.is_called(name)]
        mine = [one for one in found if one.modality == modality] or found
        if len(mine) > 1 and mine is found:
            raise BadRequest(f"there are presets of this name for {', '.join(one.modality for one in found)}; name one by its id: {', '.join(one.id for one in found)}")
        return mine[0] if mine else None


def default_for(defaults: Iterable[Preset], modality: str, body_part: str) -> Preset | None:
    """The first of `Presets.defaults` that is for such an image."""
    return next((one for one in defaults if one.modality == modality and one.body_part in ("", body_part)), None)


def key_of(name: str) -> str:
    """How names are compared: in any case, and however many spaces they are written with."""
    return " ".join(name.casefold().split())


def id_of(name: str, modality: str) -> str:
    """An id for a preset that has none, such as `ct-lung-nodules`."""
    words = re.findall(r"[a-z0-9]+", name.casefold())
    # A name without such letters still has an id, and always the same.
    slug = "-".join(words) or hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{modality.lower().replace(' ', '-')}-{slug}"[:_LONGEST]


def checked(preset: Preset) -> Preset:
    """The preset in its usual form. Raises BadRequest, saying what cannot be."""
    name = " ".join(preset.name.split())
    problem = (
        ("the id of a preset has 1 to 64 letters a to z, digits, dots, - and _", not _ID.fullmatch(preset.id)),
        ("the name of a preset has 1 to 64 characters, no comma, and is no number", not _is_name(name)),
        ("give the modality as in Modality (0008,0060): CT, MR, PT …", not _CODE.fullmatch(preset.modality)),
        ("give the body part as in Body Part Examined (0018,0015), such as CHEST, or leave it empty", bool(preset.body_part) and not _CODE.fullmatch(preset.body_part)),
        (f"function is one of {', '.join(FUNCTIONS)}", preset.function not in FUNCTIONS),
        ("center and width are numbers, at most 1e9", not _is_number(preset.center) or not _is_number(preset.width)),
        ("the width of a window is at least 1 (LINEAR) or above 0 (LINEAR_EXACT, SIGMOID)", not _is_width(preset)),
        (f"units are empty, those of the images, {PERCENT}, or {SUV} for modality {PET}", preset.units not in ("", SUV, PERCENT) or (preset.units == SUV and preset.modality != PET)),
        ("a window in SUV is LINEAR_EXACT or SIGMOID: LINEAR is for whole numbers", preset.units == SUV and preset.function == LINEAR),
        ("a window in PERCENT is LINEAR_EXACT, and from 0 to 100 at most", preset.units == PERCENT and not _is_share(preset)),
        ("what is hidden is nobody's default", preset.hidden and preset.default),
    )  # fmt: skip
    wrong = [text for text, is_wrong in problem if is_wrong]
    if wrong:
        raise BadRequest("; ".join(wrong))
    return Preset(**{**_values(preset), "name": name, "center": float(preset.center), "width": float(preset.width)})


def _is_name(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return 0 < len(name) <= _LONGEST and name.isprintable() and "," not in name
    return False


def _is_number(value: float) -> bool:
    return math.isfinite(value) and abs(value) <= _MOST


def _is_width(preset: Preset) -> bool:
    """PS3.3 C.11.2.1.2."""
    return preset.width >= 1 if preset.function == LINEAR else preset.width > 0


def _is_share(preset: Preset) -> bool:
    return preset.function == LINEAR_EXACT and 0 <= preset.center - preset.width / 2 < preset.center + preset.width / 2 <= 100


def checked_user(user: str) -> str:
    """A user's key; empty is the site. Raises BadRequest."""
    if user != user.strip() or len(user) > _LONGEST or not user.isprintable():
        raise BadRequest("a user is named by 1 to 64 characters, without spaces around them")
    return user


def check_together(presets: Sequence[Preset]) -> None:
    """Raises BadRequest where two of them have an id, a name for a modality, or are the default for the same images."""
    ways: Mapping[str, Callable[[Preset], object]] = {
        "have one id": lambda one: one.id,
        "have one name for one modality": lambda one: (one.modality, one.key),
        "are the default for the same images": lambda one: (one.modality, one.body_part) if one.default else one.id,
    }
    for what, way in ways.items():
        seen: dict[object, Preset] = {}
        for one in presets:
            if (other := seen.setdefault(way(one), one)) is not one:
                raise BadRequest(f"two presets {what}, {other.id} and {one.id}: change one of them first")


def read(content: bytes, origin: Origin = Origin.BUILT_IN) -> Layer:
    """Presets as `viewer-config/presets.json` and `pacs presets export` have them. Raises BadRequest, naming the one that cannot be."""
    try:
        entries = orjson.loads(content)["presets"]
        presets = tuple(_preset(entry, origin) for entry in entries)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise BadRequest('presets are JSON of the form {"presets": [{"id", "name", "modality", "center", "width", …}]}') from error
    check_together(presets)
    return presets


def written(presets: Iterable[Preset]) -> bytes:
    """Presets in the same form."""
    about = "Window/level presets: center and width in the units of the modality LUT (Hounsfield for CT), or in SUV where `units` says so."
    entries = [{name: value for name, value in _values(one).items() if name != "origin" and value not in ("", False)} for one in presets]
    return orjson.dumps({"about": about, "presets": entries}, option=orjson.OPT_INDENT_2) + b"\n"


def _preset(entry: Mapping[str, Any], origin: Origin) -> Preset:
    names = {one.name for one in fields(Preset)} - {"origin"}
    unknown = set(entry) - names
    shown = str(entry.get("id") or entry.get("name") or "without a name")
    if unknown:
        raise BadRequest(f"preset {shown}: there is no {', '.join(sorted(unknown))} in a preset")
    values = {"id": id_of(str(entry["name"]), str(entry["modality"])), **entry}
    texts, flags = ("id", "name", "modality", "function", "body_part", "units"), ("default", "hidden")
    if (
        any(not isinstance(values.get(name, ""), str) for name in texts)
        or any(not isinstance(values.get(name, False), bool) for name in flags)
        or any(isinstance(values[name], bool) or not isinstance(values[name], int | float) for name in ("center", "width"))
    ):
        raise BadRequest(f"preset {shown}: center and width are numbers, default and hidden true or false, all else text")
    try:
        return checked(Preset(**{**values, "origin": origin}))
    except BadRequest as error:
        raise BadRequest(f"preset {shown}: {error}") from None


def _values(preset: Preset) -> dict[str, Any]:
    return {one.name: getattr(preset, one.name) for one in fields(Preset)}
