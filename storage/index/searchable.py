"""Additional searchable attributes: what an administrator has added to the table of attributes, with an index of its own.

Each is a path of tags, of which the last may be private (`storage.private`). It is indexed for new instances in their
ingest, and for those that were there before by a job (`storage.index.backfill`); until that is done nothing is looked up
in its index. Which there are is remembered for a moment (`REMEMBERED_SECONDS`), so that ingest need not ask each time.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import delete, insert, select, update

from storage import private
from storage.attributes import BY_TAG, above, level_of, name_of
from storage.errors import BadRequest, NotFound
from storage.index.add import job_values
from storage.index.database import Database
from storage.index.tables import job, searchable, searchable_value
from storage.matching.keys import BINARY
from storage.types import Level

REMEMBERED_SECONDS = 2.0
# An ingest that began before an attribute was known to its process has ended by then: 10 s for its turn, 12 s at most for
# its transaction.
SETTLED_SECONDS = 30.0
# The kind of the job that indexes what was there before.
INDEX_ATTRIBUTE = "index-attribute"
# Each costs every ingest a little.
MOST = 50
WAITING, READY = "waiting", "ready"
_CHUNK = 5000

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Searchable:
    """One of them. `done` of `total` studies, series or instances that were there before have been indexed."""

    pk: int
    path: Path
    vr: str
    level: Level
    state: str
    done: int
    total: int

    @property
    def name(self) -> str:
        """Its keywords, or tags, with dots between."""
        return ".".join(name_of(tag) for tag in self.path)

    @property
    def ready(self) -> bool:
        """Whether its index is complete."""
        return self.state == READY


class Searchables:
    """The additional attributes of one index. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: tuple[float, Mapping[Path, Searchable]] = (float("-inf"), {})

    def known(self) -> Mapping[Path, Searchable]:
        """Those there are, as they were a moment ago."""
        read_at, found = self._known
        if time.monotonic() - read_at > REMEMBERED_SECONDS:
            found = {one.path: one for one in self.all()}
            self._known = (time.monotonic(), found)
        return found

    def all(self) -> list[Searchable]:
        """Those there are, in the order in which they were added."""
        with self._database.read() as connection:
            found = connection.execute(select(searchable).order_by(searchable.c.pk)).all()
        return [_searchable(row) for row in found]

    def add(self, path: Path, vr: str, level: Level | None = None) -> None:
        """Make an attribute searchable: from now on for what comes, soon by a job for what is there.

        `level` is where a private attribute lives, the instance unless it is given; the standard says it of all others.
        Raises BadRequest for an attribute that has an index already, cannot have one, or would be one too many.
        """
        row = _row(path, vr, level)
        now = time.time_ns() // 1000
        with self._database.write() as connection:
            there = connection.execute(select(searchable.c.path)).scalars().all()
            if row["path"] in there:
                raise BadRequest(f"{_name(path)} is searchable already")
            if len(there) >= MOST:
                raise BadRequest(f"there are {MOST} additional attributes already; remove one first")
            made = insert(searchable).values(row | {"created_at": now}).returning(searchable.c.pk)
            pk = connection.execute(made).scalar_one()
            later = now + round(SETTLED_SECONDS * 1e6)
            connection.execute(insert(job).values(job_values(INDEX_ATTRIBUTE, {"attribute": pk}, now, later)))
        self.forget()

    def remove(self, path: Path) -> None:
        """Forget an attribute and its index. Raises NotFound when there is none of this path."""
        found = next((one for one in self.all() if one.path == path), None)
        if found is None:
            raise NotFound(f"{_name(path)} is not among the additional attributes")
        with self._database.write() as connection:
            connection.execute(delete(searchable).where(searchable.c.pk == found.pk))
        self.forget()
        self._clear(found.pk)

    def forget(self) -> None:
        """Ask the database again at the next look."""
        self._known = (float("-inf"), {})

    def progressed(self, pk: int, *, done: int, total: int, ready: bool) -> None:
        """What the job has to say."""
        values = {"done": done, "total": total, "state": READY if ready else WAITING}
        with self._database.write() as connection:
            connection.execute(update(searchable).where(searchable.c.pk == pk).values(values))

    def _clear(self, pk: int) -> None:
        """In pieces: nobody is to wait for the database while an index of millions goes."""
        while True:
            some = select(searchable_value.c.pk).where(searchable_value.c.attribute_pk == pk).limit(_CHUNK)
            with self._database.write() as connection:
                gone = connection.execute(delete(searchable_value).where(searchable_value.c.pk.in_(some))).rowcount
            if gone < _CHUNK:
                return


def kept(one: Searchable) -> bool:
    """Whether study or series keep the attribute themselves, merged from their instances."""
    attribute = BY_TAG.get(one.path[0])
    return attribute is not None and not attribute.computed and attribute.level is not Level.IMAGE


def visible(one: Searchable, level: Level) -> bool:
    """Whether a query at `level` can match the attribute on its answers' own data sets."""
    own = level_of(one.path[0])
    return own is level or above(level, own)


def _row(path: Path, vr: str, level: Level | None) -> dict[str, Any]:
    first = BY_TAG.get(path[0])
    is_private = private.is_key(path[0]) or private.is_private(path[0])
    if first is not None and (first.computed or (first.indexed and len(path) == 1)):
        raise BadRequest(f"{_name(path)} is searched by the index as it is; there is nothing to add")
    if vr == "SQ" or vr in BINARY:
        raise BadRequest(f"{_name(path)} has the value representation {vr}, which is not matched; name an attribute of text, numbers or dates in it")
    if level is not None and not is_private and level is not level_of(path[0]):
        raise BadRequest(f"{_name(path)} lives at the level {level_of(path[0])} by the standard; leave the level out")
    return {
        "path": orjson.dumps(path).decode("utf-8"),
        "vr": vr,
        "level": str(level or level_of(path[0])),
        "state": WAITING,
        "done": 0,
        "total": 0,
    }


def _searchable(row: Any) -> Searchable:
    return Searchable(row.pk, tuple(orjson.loads(row.path)), row.vr, Level(row.level), row.state, row.done, row.total)


def _name(path: Sequence[str]) -> str:
    return ".".join(name_of(tag) for tag in path)
