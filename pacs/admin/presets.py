"""`/api/presets`: the window/level presets that hold, and what a site and users have said of them themselves."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from pacs.admin.api import Asked, Operation
from pacs.admin.entities import PRINTABLE
from pacs.viewer import is_in_viewer
from storage.errors import NotFound
from storage.index import Index
from storage.index.presets import holding, own, put_presets, remove_preset
from storage.presets import FUNCTIONS, LINEAR, PERCENT, SUV, Origin, Preset, id_of

_ONE: Final = "/api/presets/{id}"
_USER: Final = (
    "Whose presets: a key that the caller gives, for this archive has no users yet; empty: the site's. What a user says holds"
    " for that user alone, in rendered pictures with the same `user`."
)


class Whose(BaseModel):
    """Whose presets."""

    model_config = ConfigDict(extra="forbid", strict=True)

    user: Annotated[str, Field(max_length=64, pattern=PRINTABLE, description=_USER)] = ""


class PresetValues(BaseModel):
    """A named window: center and width in the units of the images (Hounsfield for CT), in SUV, or in percentiles."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(max_length=64, pattern=PRINTABLE, description="As people see it; one for each modality.")]
    modality: Annotated[str, Field(max_length=16, pattern=PRINTABLE, description="Modality (0008,0060).")]
    center: float
    width: float
    function: Annotated[str, Field(description=f"VOI LUT Function (0028,1056): {', '.join(FUNCTIONS)}.")] = LINEAR
    body_part: Annotated[str, Field(max_length=16, pattern=PRINTABLE, description="Body Part Examined (0018,0015); empty: any.")] = ""
    default: Annotated[
        bool, Field(description="Whether images of this modality and body part are shown in it that bring no window of their own.")
    ] = False
    units: Annotated[str, Field(description=f"Empty: those of the images; {SUV}; or {PERCENT}, percentiles of the values of each frame.")] = ""
    hidden: Annotated[bool, Field(description="Whether neither it nor what it takes the place of is there.")] = False

    def preset(self, id_: str) -> Preset:
        """As it is kept."""
        return Preset(id_, **self.model_dump())


class KnownPreset(PresetValues):
    """A preset, whose word it is, and whether the viewer has it too."""

    id: str
    origin: Origin
    viewer: Annotated[bool, Field(description="False for what the viewer cannot show as it is (SIGMOID, PERCENT), and so does not offer.")]


def operations(index: Index) -> tuple[Operation, ...]:
    """The operations on presets."""

    def every(asked: Asked) -> list[KnownPreset]:
        return [shown_of(one) for one in holding(index, asked.query.user).all]

    def one(asked: Asked) -> KnownPreset:
        return _one(index, asked.path["id"], asked.query.user)

    def add(asked: Asked) -> KnownPreset:
        made = asked.body.preset(id_of(asked.body.name, asked.body.modality))
        put_presets(index, [made], asked.query.user, new=True)
        return _one(index, made.id, asked.query.user)

    def put(asked: Asked) -> KnownPreset:
        put_presets(index, [asked.body.preset(asked.path["id"])], asked.query.user)
        return one(asked)

    def remove(asked: Asked) -> None:
        remove_preset(index, asked.path["id"], asked.query.user)

    return (
        Operation("GET", "/api/presets", every, "The presets that hold, hidden ones too.", gives=list[KnownPreset], asks=Whose),
        Operation("POST", "/api/presets", add, "Add a preset, with an id made of its name.", takes=PresetValues, gives=KnownPreset, asks=Whose),
        Operation("GET", _ONE, one, "One preset.", gives=KnownPreset, asks=Whose),
        Operation("PUT", _ONE, put, "Add a preset, or change the one of this id: everywhere within a second.", takes=PresetValues, gives=KnownPreset, asks=Whose),
        Operation("DELETE", _ONE, remove, "Remove a preset; one that comes with the archive is as it came.", asks=Whose),
    )


def shown_of(preset: Preset) -> KnownPreset:
    """As the API and the page have it."""
    return KnownPreset(**asdict(preset), viewer=is_in_viewer(preset) and not preset.hidden)


def own_ids(index: Index, user: str) -> frozenset[str]:
    """The ids of what a user, or the site, has said itself."""
    return frozenset(one.id for one in own(index, user))


def _one(index: Index, id_: str, user: str) -> KnownPreset:
    found = next((one for one in holding(index, user).all if one.id == id_), None)
    if found is None:
        raise NotFound("there is no preset of this id; GET /api/presets lists those there are")
    return shown_of(found)
