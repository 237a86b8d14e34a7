"""`/api/searchable-attributes`: attributes that searches may name beside those that always are searchable, while running."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from pacs.admin.api import Asked, Operation
from storage.errors import NotFound
from storage.index import Index
from storage.index.searchable import Path, Searchable
from storage.index.searchable_names import level_named, path_named, vr_named
from storage.types import Level

_ALL = "/api/searchable-attributes"
_ONE = f"{_ALL}/{{attribute}}"
_LEVEL_NAMES = {Level.STUDY: "study", Level.SERIES: "series", Level.IMAGE: "instance"}

Name = Annotated[
    str,
    Field(
        min_length=1,
        max_length=1000,
        description="keyword, or tag in eight hex digits; with dots into sequences: ProcedureCodeSequence.CodeValue",
    ),
]
Creator = Annotated[str, Field(max_length=64, description="private creator of a private attribute")]


class Added(BaseModel):
    """An attribute that is to be searchable."""

    model_config = ConfigDict(extra="forbid", strict=True)

    attribute: Name
    creator: Creator = ""
    vr: Annotated[str, Field(max_length=2, description="its value representation, where no dictionary has it")] = ""
    level: Annotated[str, Field(max_length=8, description="where a private one lives: study, series or instance, the default")] = ""


class Of(BaseModel):
    """Whose private attribute it is."""

    model_config = ConfigDict(extra="forbid")

    creator: Creator = ""


class Attribute(BaseModel):
    """A searchable attribute: `done` of `total` studies, series or instances that were there before are indexed.

    `path` is of tags, those of private attributes as ggggxxee:creator. Until it is `ready` its index is not looked into.
    """

    attribute: str
    path: list[str]
    vr: str
    level: str
    ready: bool
    done: int
    total: int


def operations(index: Index) -> tuple[Operation, ...]:
    """The operations on additional searchable attributes."""
    searchables = index.searchables

    def found(path: Path) -> Attribute:
        one = next((one for one in searchables.all() if one.path == path), None)
        if one is None:
            raise NotFound("this attribute is not among the additional ones")
        return _shown(one)

    def every(_asked: Asked) -> list[Attribute]:
        return [_shown(one) for one in searchables.all()]

    def add(asked: Asked) -> Attribute:
        wanted: Added = asked.body
        path = path_named(wanted.attribute, wanted.creator)
        searchables.add(path, vr_named(path, wanted.vr), level_named(wanted.level))
        return found(path)

    def remove(asked: Asked) -> None:
        searchables.remove(_path(asked))

    return (
        Operation("GET", _ALL, every, "The additional searchable attributes, and how far each is indexed.", gives=list[Attribute]),
        Operation(
            "POST",
            _ALL,
            add,
            "Make an attribute searchable: at once for what comes, by a worker, in a while, for what is there.",
            takes=Added,
            gives=Attribute,
        ),
        Operation("GET", _ONE, lambda asked: found(_path(asked)), "One of them.", gives=Attribute, asks=Of),
        Operation("DELETE", _ONE, remove, "Forget one and its index. What is stored stays as it is.", asks=Of),
    )


def _path(asked: Asked) -> Path:
    return path_named(asked.path["attribute"], asked.query.creator)


def _shown(one: Searchable) -> Attribute:
    return Attribute(
        attribute=one.name,
        path=list(one.path),
        vr=one.vr,
        level=_LEVEL_NAMES[one.level],
        ready=one.ready,
        done=one.done,
        total=one.total,
    )
