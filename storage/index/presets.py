"""The presets of the site and of users, changed while everything runs, and kept in memory of each process for half a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

import structlog
from sqlalchemy import Connection, delete, insert, select, update

from storage.errors import LightboxError, NotFound, Settled
from storage.index import Index
from storage.index.attempts import attempt
from storage.index.database import Rerun
from storage.index.tables import counter, preset
from storage.preset_file import built_in
from storage.presets import (
    Layer,
    Origin,
    Preset,
    Presets,
    check_together,
    checked,
    checked_user,
    read,
    written,
)

_log = structlog.get_logger(__name__)
_COUNTER: Final = "preset"
# Changes are seen everywhere within a second; a busy process asks for one number this often.
FRESH_SECONDS: Final = 0.5
# To whom a preset belongs that is the site's.
SITE: Final = ""


def own(index: Index, user: str = SITE) -> Layer:
    """What a user, or the site, has said itself, by modality and name."""
    with index.database.read() as connection:
        return _own(connection, user)


def holding(index: Index, user: str = SITE) -> Presets:
    """What holds for a user, or for the site."""
    layers = [built_in(), own(index), *([own(index, user)] if user else [])]
    return Presets(*layers)


def put_presets(index: Index, presets: Iterable[Preset], user: str = SITE, *, new: bool = False) -> None:
    """Add presets, or replace those of the same ids: all or none. `new`: none of them may be there, a built-in one included.

    Raises BadRequest for what cannot be, and where two would have one name or be the default for the same images; Settled.
    """
    checked_user(user)
    added = {one.id: checked(one) for one in presets}

    def work(connection: Connection) -> bool:
        known = {one.id: one for one in _own(connection, user)}
        there = (known.keys() | {one.id for one in built_in() if not user}) & added.keys()
        if new and there:
            raise Settled(f"there is a preset {', '.join(sorted(there))} already; change it, or give this one another id")
        check_together([*(known | added).values()])
        _write(connection, added.values(), user)
        return True

    attempt(index.database, work, lambda: True if {one.id for one in own(index, user)} >= added.keys() else None)
    _log.info("presets changed", action="presets changed", presets=sorted(added), user=user)


def remove_preset(index: Index, id_: str, user: str = SITE) -> None:
    """Remove what a user, or the site, has said of a preset: a built-in one is as it came. Raises NotFound."""

    def work(connection: Connection) -> bool:
        mine = (preset.c.owner == user, preset.c.preset_id == id_)
        if not connection.execute(delete(preset).where(*mine)).rowcount:
            if any(one.id == id_ for one in built_in()):
                raise Settled(f"preset {id_} comes with the archive and is as it came: hide it instead")
            raise NotFound(f"there is no preset {id_}; pacs presets list and /api/presets have those there are")
        _raise(connection)
        return True

    attempt(index.database, work, lambda: True if id_ not in {one.id for one in own(index, user)} else None)
    _log.info("presets changed", action="preset removed", presets=[id_], user=user)


def revision(connection: Connection) -> int:
    """A number that grows with every change."""
    return int(connection.execute(select(counter.c.value).where(counter.c.name == _COUNTER)).scalar_one())


class KnownPresets:
    """What holds, at most `fresh_seconds` old, and what was last known while the database is away. Thread-safe."""

    def __init__(self, index: Index, fresh_seconds: float = FRESH_SECONDS) -> None:
        self._index = index
        self._fresh_seconds = fresh_seconds
        self._looking = threading.Lock()
        self._looked = float("-inf")
        self._revision = -1
        self._holding: Mapping[str, Presets] = {SITE: Presets(built_in())}

    def now(self, user: str = SITE) -> Presets:
        """What holds for a user; who has no presets has the site's."""
        self._refresh()
        return self._holding.get(user) or self._holding[SITE]

    @property
    def basis(self) -> int:
        """What pictures depend on: it changes with every preset. May ask the database."""
        self._refresh()
        return self._revision

    @property
    def basis_at_hand(self) -> int | None:
        """The same without waiting; None where it may have changed."""
        return self._revision if time.monotonic() - self._looked <= self._fresh_seconds else None

    def _refresh(self) -> None:
        """One thread looks, while others take what there is; nobody goes on before the first look."""
        if time.monotonic() - self._looked <= self._fresh_seconds or not self._looking.acquire(blocking=self._revision < 0):
            return
        try:
            asked = time.monotonic()
            if asked - self._looked > self._fresh_seconds:
                self._look()
        except (LightboxError, Rerun) as error:
            _log.warning("presets unavailable", action="presets unavailable", reason=str(error))
        finally:
            self._looked = asked
            self._looking.release()

    def _look(self) -> None:
        with self._index.database.read() as connection:
            latest = revision(connection)
            if latest == self._revision:
                return
            rows = connection.execute(select(preset).order_by(preset.c.owner, preset.c.modality, preset.c.name_key)).all()
        layers: dict[str, list[Preset]] = {SITE: []}
        for row in rows:
            layers.setdefault(row.owner, []).extend(_presets(row))
        site = (built_in(), layers.pop(SITE))
        self._holding = {SITE: Presets(*site)} | {user: Presets(*site, layer) for user, layer in layers.items()}
        self._revision = latest


def _own(connection: Connection, user: str) -> Layer:
    query = select(preset).where(preset.c.owner == user).order_by(preset.c.modality, preset.c.name_key)
    return tuple(one for row in connection.execute(query).all() for one in _presets(row))


def _presets(row: Any) -> Layer:
    return read(row.definition, Origin.USER if row.owner else Origin.SITE)


def _write(connection: Connection, presets: Iterable[Preset], user: str) -> None:
    added = tuple(presets)
    # Names may change places: what is replaced goes first.
    connection.execute(delete(preset).where(preset.c.owner == user, preset.c.preset_id.in_([one.id for one in added])))
    now = time.time_ns() // 1000
    for one in added:
        connection.execute(
            insert(preset).values(
                owner=user,
                preset_id=one.id,
                modality=one.modality,
                name_key=one.key,
                definition=written([one]),
                updated_at=now,
            )
        )
    _raise(connection)


def _raise(connection: Connection) -> None:
    """Last in a transaction, for the counter is held until its end."""
    connection.execute(update(counter).where(counter.c.name == _COUNTER).values(value=counter.c.value + 1))
