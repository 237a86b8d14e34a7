"""`/api/worklist`: the entries of the modality worklist, by the keywords of their attributes (PS3.4 table K.6-1).

The models are made from the table of keys: a keyword that is matched by C-FIND can be given, returned and searched for here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any, Final

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    create_model,
    model_serializer,
)

from pacs.admin.api import Asked, Operation
from storage.errors import NotFound
from storage.index import Index
from storage.matching import Conditions
from storage.worklist import Search, Worklist
from storage.worklist_entries import BY_KEYWORD, KEYS, Entry, Key, StepState, conditions_by_keyword, fields_of

_ENTRY: Final = "/api/worklist/{number}"
_MOST: Final = 1000
_STRICT: Final = ConfigDict(extra="forbid", strict=True)
_NUMBERS: Final = {"DS": float | int | str, "US": int}

_Text = Annotated[str, Field(max_length=10240)]
_Pattern = Annotated[str, Field(max_length=1024)]


# The models of sequences' items, by the first attribute that they have.
_NAMES: Final = {"CodeValue": "Code", "LocalNamespaceEntityID": "Issuer", "ReferencedSOPClassUID": "Reference"}


class _Valued(BaseModel):
    """Shown without the attributes that have no value, which are most."""

    @model_serializer(mode="wrap")
    def valued(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}


class _Item(_Valued):
    """An item of a sequence."""

    model_config = _STRICT


def _items(key: Key) -> type[BaseModel]:
    members: dict[str, Any] = dict.fromkeys(key.inside, (_Text | None, None))
    return create_model(_NAMES[key.inside[0]], __base__=_Item, **members)


_ITEMS: Final[dict[tuple[str, ...], Any]] = {key.inside: _items(key) for key in KEYS if key.inside}


def _type(key: Key) -> Any:
    one: Any = _ITEMS[key.inside] if key.inside else _NUMBERS.get(key.vr, _Text)
    several: Any = list.__class_getitem__(one)
    return several if key.inside else one | several if key.several else one


_MEMBERS: Final[dict[str, Any]] = {key.keyword: (_type(key) | None, None) for key in KEYS}


class _Entry(BaseModel):
    """An entry of the worklist by the keywords of its attributes; null takes an attribute away."""

    model_config = _STRICT


class _Stored(_Valued):
    """An entry as it is: its number, when it was made and changed, and its attributes."""

    number: int
    created: datetime
    updated: datetime


class _Filter(BaseModel):
    """What entries are to match, by keyword, with the wildcards, lists and ranges of PS3.4 C.2.2.2."""

    model_config = _STRICT

    limit: Annotated[int, Field(ge=1, le=_MOST, description="entries at most")] = 100
    offset: Annotated[int, Field(ge=0, description="entries to pass over")] = 0
    all: Annotated[bool, Field(description="those too that have ended or departed")] = False


NewEntry: Any = create_model("NewEntry", __base__=_Entry, **_MEMBERS)
StoredEntry: Any = create_model("StoredEntry", __base__=_Stored, **_MEMBERS)
_FILTERS: Final[dict[str, Any]] = {key.keyword: (_Pattern | None, None) for key in KEYS if not key.inside}
_SEVERAL: Any = list.__class_getitem__(StoredEntry)
EntryFilter: Any = create_model("EntryFilter", __base__=_Filter, **_FILTERS)


def operations(index: Index) -> tuple[Operation, ...]:
    """The operations on entries of the worklist."""
    worklist = Worklist(index)

    def create(asked: Asked) -> BaseModel:
        return _given(worklist.create(_said(asked.body)))

    def find(asked: Asked) -> list[BaseModel]:
        return [_given(entry) for entry in found_by(worklist, asked.query)]

    def get(asked: Asked) -> BaseModel:
        return _given(worklist.get(number_of(asked.path["number"])))

    def change(asked: Asked) -> BaseModel:
        return _given(worklist.change(number_of(asked.path["number"]), _said(asked.body)))

    def ending(state: StepState) -> Callable[[Asked], BaseModel]:
        return lambda asked: _given(worklist.end(number_of(asked.path["number"]), state))

    def remove(asked: Asked) -> None:
        worklist.remove(number_of(asked.path["number"]))

    return (
        Operation("GET", "/api/worklist", find, "Entries by when they begin.", gives=_SEVERAL, asks=EntryFilter),
        Operation("POST", "/api/worklist", create, "Add an entry; ids that are missing are made.", NewEntry, StoredEntry),
        Operation("GET", _ENTRY, get, "One entry.", gives=StoredEntry),
        Operation("PATCH", _ENTRY, change, "Change attributes of an entry, its status too.", NewEntry, StoredEntry),
        Operation("DELETE", _ENTRY, remove, "Remove an entry as if it had never been there."),
        Operation("POST", f"{_ENTRY}/cancel", ending(StepState.CANCELED), "Cancel: it is offered no longer.", gives=StoredEntry),
        Operation("POST", f"{_ENTRY}/complete", ending(StepState.COMPLETED), "Complete: it is offered no longer.", gives=StoredEntry),
    )


def _said(body: BaseModel) -> dict[str, Any]:
    """What a body names, null included; what it does not name stays."""
    return body.model_dump(exclude_unset=True)


def found_by(worklist: Worklist, asked: Any) -> Iterator[Entry]:
    """The entries that an `EntryFilter` asks for."""
    states = frozenset(StepState) if asked.all else None
    found = worklist.find(Search(_conditions(asked), states))
    return islice(found, asked.offset, asked.offset + asked.limit)


def _conditions(asked: BaseModel) -> Conditions:
    given = {name: value for name, value in asked.model_dump(exclude_unset=True).items() if name in BY_KEYWORD and value}
    # Lists of codes and UIDs with commas too, as DICOMweb takes them.
    lists = {name: value.replace(",", "\\") for name, value in given.items() if BY_KEYWORD[name].vr in ("CS", "UI")}
    return conditions_by_keyword({**given, **lists})


def number_of(text: str) -> int:
    """The number of an entry in an address. Raises NotFound for what can be none."""
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise NotFound("there is no worklist entry of this number; GET /api/worklist lists those there are")
    return int(text)


def _given(entry: Entry) -> BaseModel:
    created, updated = (datetime.fromtimestamp(at / 1e6, UTC) for at in (entry.created_at, entry.updated_at))
    made: BaseModel = StoredEntry(number=entry.number, created=created, updated=updated, **fields_of(entry.dataset))
    return made
