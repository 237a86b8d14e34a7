"""The studies and series of a batch: found or made, held for the transaction, counted, and written back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, Table, update

from storage.attributes import tag_of
from storage.index import rows, statements
from storage.index.entries import Entry
from storage.index.ready import Part, Ready
from storage.index.tables import series, study
from storage.matching.keys import key_of
from storage.types import Flag

_MODALITY = tag_of("Modality")


class Kept:
    """What a study or a series keeps of its instances, as it was read; `changed` when an instance has filled some of it.

    `gone`: all of its instances are deleted, and the next one describes it as if it were the first.
    """

    __slots__ = ("_attributes", "_encoded", "_gone", "changed")

    def __init__(self, encoded: bytes, *, gone: bool = False) -> None:
        self._encoded: bytes | None = encoded
        self._attributes: dict[str, Mapping[str, Any]] | None = None
        self._gone = gone
        self.changed = False

    @property
    def attributes(self) -> dict[str, Mapping[str, Any]]:
        """In the DICOM JSON model, decoded when somebody looks."""
        if self._attributes is None:
            self._attributes = orjson.loads(self._encoded or b"{}")
        return self._attributes

    def learn(self, part: Part, whole: str) -> tuple[Flag, ...]:
        """Fill what was not known yet from an instance; flags for where it contradicts what was."""
        if self._gone:
            self._attributes, self._encoded, self._gone = dict(part.attributes), part.encoded, False
            self.changed = True
            return ()
        if part.encoded == self._encoded:
            # Nearly always: the instances of a series agree about it to the letter.
            return ()
        filled, flags = rows.merge(self.attributes, part.attributes, whole)
        if filled:
            self.changed, self._encoded = True, None
        return tuple(flags)


@dataclass(slots=True)
class HeldStudy:
    """A study's row while this transaction holds it. Modalities and SOP classes are sets of one text each."""

    pk: int
    kept: Kept
    modalities: set[str]
    sop_classes: set[str]
    number_of_series: int
    number_of_instances: int
    size: int
    revision: int


@dataclass(slots=True)
class HeldSeries:
    """A series' row likewise. `counted`: the study's counters know of it."""

    pk: int
    study: HeldStudy
    kept: Kept
    number_of_instances: int
    size: int
    revision: int
    counted: bool

    def describe(self, one: Ready) -> tuple[Flag, ...]:
        """Fill what study and series did not know yet from an instance; flags for where it contradicts them."""
        return (*self.study.kept.learn(one.study, "study"), *self.kept.learn(one.series, "series"))

    def count(self, sop_class_uid: str, *, instances: int, size: int) -> None:
        """Add to the counters of series and study."""
        self.number_of_instances += instances
        self.size += size
        self.study.number_of_instances += instances
        self.study.size += size
        self.study.sop_classes.add(sop_class_uid)
        if not self.counted:
            self.counted = True
            self.kept.changed = True
            self.study.number_of_series += 1


class Parents:
    """The studies and series that one transaction adds to. `now` is in microseconds."""

    def __init__(self, connection: Connection, partition: str, now: int) -> None:
        self._connection = connection
        self._partition = partition
        self._now = now
        self._studies: dict[str, HeldStudy] = {}
        self._series: dict[tuple[int, str], HeldSeries] = {}

    def hold(self, instances: Sequence[Ready]) -> None:
        """Find, or make, the rows that the instances belong to, and lock their studies until the commit."""
        self._hold_studies({one.entry.scan.uids.study: one for one in instances})
        wanted = {
            (self._studies[one.entry.scan.uids.study].pk, one.entry.scan.uids.series): one for one in instances
        }
        self._hold_series(wanted)

    def of(self, entry: Entry) -> HeldSeries:
        """The series that an entry belongs to; it must have been held."""
        uids = entry.scan.uids
        return self._series[self._studies[uids.study].pk, uids.series]

    def write_back(self) -> None:
        """Write counters, and what was filled, of everything that is held."""
        for held in self._series.values():
            if held.kept.changed:
                fill(self._connection, series, held.pk, held.kept.attributes)
                held.study.modalities |= _modality(held.kept)
        for one in self._studies.values():
            if one.kept.changed:
                fill(self._connection, study, one.pk, one.kept.attributes)
        if self._studies:
            statements.UPDATE_STUDY.run_many(
                self._connection, [self._study_values(one) for one in self._studies.values()]
            )
            statements.UPDATE_SERIES.run_many(
                self._connection, [self._series_values(one) for one in self._series.values()]
            )

    def _hold_studies(self, wanted: Mapping[str, Ready]) -> None:
        found = self._find_studies(wanted)
        missing = sorted(wanted.keys() - {row.study_instance_uid for row in found})
        if missing:
            made = [self._new_study(uid, wanted[uid]) for uid in missing]
            statements.ADD_STUDY[self._connection.dialect.name].run_many(self._connection, made)
            # Another transaction may have made them first: then these are its rows, committed and locked for us.
            found = [*found, *self._find_studies(missing)]
        for row in found:
            self._studies[row.study_instance_uid] = _held_study(row)

    def _find_studies(self, uids: Sequence[str] | Mapping[str, Ready]) -> Sequence[Any]:
        return statements.STUDIES.run(
            self._connection, {"in_partition": self._partition, "uids": list(uids)}
        )

    def _hold_series(self, wanted: Mapping[tuple[int, str], Ready]) -> None:
        studies = {one.pk: one for one in self._studies.values()}
        for row in self._find_series(wanted):
            key = (row.study_pk, row.series_instance_uid)
            if key in wanted:
                self._series[key] = _held_series(row, studies[row.study_pk])
        missing = [key for key in wanted if key not in self._series]
        if not missing:
            return
        # Nobody else can add to a study that is held, so these do not exist.
        statements.add_to(series).run_many(
            self._connection, [self._new_series(key, wanted[key]) for key in missing]
        )
        for row in self._find_series(missing):
            key = (row.study_pk, row.series_instance_uid)
            if key in missing:
                self._series[key] = _held_series(row, studies[row.study_pk])
                self._series[key].counted = False

    def _find_series(
        self, keys: Sequence[tuple[int, str]] | Mapping[tuple[int, str], Ready]
    ) -> Sequence[Any]:
        """Rows of these series; perhaps also of others with such a UID in another of the studies."""
        return statements.SERIES.run(
            self._connection,
            {"studies": list({study_pk for study_pk, _ in keys}), "uids": list({uid for _, uid in keys})},
        )

    def _new_study(self, uid: str, one: Ready) -> dict[str, Any]:
        return {
            **rows.columns(rows.STUDY_COLUMNS, one.study.attributes),
            **self._new_parent(one.study),
            "study_instance_uid": uid,
            "modalities": "",
            "sop_classes": "",
            "number_of_series": 0,
        }

    def _new_series(self, key: tuple[int, str], one: Ready) -> dict[str, Any]:
        return {
            **rows.columns(rows.SERIES_COLUMNS, one.series.attributes),
            **self._new_parent(one.series),
            "study_pk": key[0],
            "series_instance_uid": key[1],
        }

    def _new_parent(self, part: Part) -> dict[str, Any]:
        return {
            "partition": self._partition,
            "attributes": part.encoded,
            "number_of_instances": 0,
            "size": 0,
            "revision": 0,
            "created_at": self._now,
            "updated_at": self._now,
        }

    def _study_values(self, held: HeldStudy) -> dict[str, Any]:
        return {
            "row": held.pk,
            "new_modalities": listed(held.modalities),
            "new_sop_classes": listed(held.sop_classes),
            "new_number_of_series": held.number_of_series,
            "new_number_of_instances": held.number_of_instances,
            "new_size": held.size,
            "new_revision": held.revision + 1,
            "new_updated_at": self._now,
        }

    def _series_values(self, held: HeldSeries) -> dict[str, Any]:
        return {
            "row": held.pk,
            "new_number_of_instances": held.number_of_instances,
            "new_size": held.size,
            "new_revision": held.revision + 1,
            "new_updated_at": self._now,
        }


def fill(connection: Connection, table: Table, pk: int, attributes: Mapping[str, Any]) -> None:
    """Write what a study or a series keeps of its instances, and its search columns."""
    kept = rows.subset(attributes, attributes.keys())
    searched = rows.columns(rows.STUDY_COLUMNS if table is study else rows.SERIES_COLUMNS, kept)
    # The unique keys stay those under which the row was made.
    searched.pop("study_instance_uid", None)
    searched.pop("series_instance_uid", None)
    connection.execute(update(table).where(table.c.pk == pk).values(attributes=orjson.dumps(kept), **searched))


def listed(texts: set[str]) -> str:
    r"""Several values in one column, each between backslashes, so that one can be looked for: `\CT\SR\`."""
    return "\\".join(("", *sorted(texts), "")) if texts else ""


def unlisted(text: str) -> list[str]:
    """The values again, in their order."""
    return text.strip("\\").split("\\") if text else []


def _modality(kept: Kept) -> set[str]:
    values = kept.attributes.get(_MODALITY, {}).get("Value")
    key = key_of("CS", values[0]) if values else None
    return {str(key)} if key else set()


def _held_study(row: Any) -> HeldStudy:
    return HeldStudy(
        pk=row.pk,
        kept=Kept(row.attributes, gone=row.deleted_at is not None),
        modalities=set(unlisted(row.modalities)),
        sop_classes=set(unlisted(row.sop_classes)),
        number_of_series=row.number_of_series,
        number_of_instances=row.number_of_instances,
        size=row.size,
        revision=row.revision,
    )


def _held_series(row: Any, parent: HeldStudy) -> HeldSeries:
    return HeldSeries(
        pk=row.pk,
        study=parent,
        kept=Kept(row.attributes, gone=row.deleted_at is not None),
        number_of_instances=row.number_of_instances,
        size=row.size,
        revision=row.revision,
        counted=row.deleted_at is None,
    )
