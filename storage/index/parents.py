"""The studies and series of a batch: found or made, held for the transaction, counted, and written back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, Row, Table, update

from storage.attributes import tag_of
from storage.index import rows, statements
from storage.index.entries import Entry
from storage.index.tables import series, study
from storage.matching.keys import key_of
from storage.types import Flag

_MODALITY = tag_of("Modality")


@dataclass(slots=True)
class HeldStudy:
    """A study's row while this transaction holds it. Modalities and SOP classes are sets of one text each."""

    pk: int
    attributes: dict[str, Mapping[str, Any]]
    modalities: set[str]
    sop_classes: set[str]
    number_of_series: int
    number_of_instances: int
    size: int
    revision: int
    filled: bool = False


@dataclass(slots=True)
class HeldSeries:
    """A series' row likewise. `counted`: the study's counters know of it."""

    pk: int
    study: HeldStudy
    attributes: dict[str, Mapping[str, Any]]
    number_of_instances: int
    size: int
    revision: int
    counted: bool
    filled: bool = False

    def describe(self, entry: Entry) -> tuple[Flag, ...]:
        """Fill what study and series did not know yet from an instance; flags for where it contradicts them."""
        dataset = entry.scan.dataset
        filled, flags = rows.merge(self.study.attributes, rows.subset(dataset, rows.STUDY_TAGS), "study")
        self.study.filled |= filled
        filled, more = rows.merge(self.attributes, rows.subset(dataset, rows.SERIES_TAGS), "series")
        self.filled |= filled
        return (*flags, *more)

    def count(self, sop_class_uid: str, *, instances: int, size: int) -> None:
        """Add to the counters of series and study."""
        self.number_of_instances += instances
        self.size += size
        self.study.number_of_instances += instances
        self.study.size += size
        self.study.sop_classes.add(sop_class_uid)
        if not self.counted:
            self.counted = True
            self.study.number_of_series += 1


class Parents:
    """The studies and series that one transaction adds to. `now` is in microseconds."""

    def __init__(self, connection: Connection, partition: str, now: int) -> None:
        self._connection = connection
        self._partition = partition
        self._now = now
        self._studies: dict[str, HeldStudy] = {}
        self._series: dict[tuple[int, str], HeldSeries] = {}

    def hold(self, entries: Sequence[Entry]) -> None:
        """Find, or make, the rows that the entries belong to, and lock their studies until the commit."""
        self._hold_studies({entry.scan.uids.study: entry for entry in entries})
        wanted = {
            (self._studies[entry.scan.uids.study].pk, entry.scan.uids.series): entry for entry in entries
        }
        self._hold_series(wanted)

    def of(self, entry: Entry) -> HeldSeries:
        """The series that an entry belongs to; it must have been held."""
        uids = entry.scan.uids
        return self._series[self._studies[uids.study].pk, uids.series]

    def write_back(self) -> None:
        """Write counters, and what was filled, of everything that is held."""
        for held in self._series.values():
            if held.filled:
                self._fill(series, held.pk, held.attributes)
            held.study.modalities |= _modality(held)
        for one in self._studies.values():
            if one.filled:
                self._fill(study, one.pk, one.attributes)
        if self._studies:
            statements.UPDATE_STUDY.run_many(
                self._connection, [self._study_values(one) for one in self._studies.values()]
            )
            statements.UPDATE_SERIES.run_many(
                self._connection, [self._series_values(one) for one in self._series.values()]
            )

    def _hold_studies(self, wanted: Mapping[str, Entry]) -> None:
        found = self._find_studies(wanted)
        missing = sorted(wanted.keys() - {row.study_instance_uid for row in found})
        if missing:
            made = [self._new_study(uid, wanted[uid]) for uid in missing]
            statements.ADD_STUDY[self._connection.dialect.name].run_many(self._connection, made)
            # Another transaction may have made them first: then these are its rows, committed and locked for us.
            found = [*found, *self._find_studies(missing)]
        for row in found:
            self._studies[row.study_instance_uid] = _held_study(row)

    def _find_studies(self, uids: Sequence[str] | Mapping[str, Entry]) -> Sequence[Row[*tuple[Any, ...]]]:
        return statements.STUDIES.run(
            self._connection, {"in_partition": self._partition, "uids": list(uids)}
        ).all()

    def _hold_series(self, wanted: Mapping[tuple[int, str], Entry]) -> None:
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
        self, keys: Sequence[tuple[int, str]] | Mapping[tuple[int, str], Entry]
    ) -> Sequence[Row[*tuple[Any, ...]]]:
        """Rows of these series; perhaps also of others with such a UID in another of the studies."""
        return statements.SERIES.run(
            self._connection,
            {"studies": list({study_pk for study_pk, _ in keys}), "uids": list({uid for _, uid in keys})},
        ).all()

    def _new_study(self, uid: str, entry: Entry) -> dict[str, Any]:
        attributes = rows.subset(entry.scan.dataset, rows.STUDY_TAGS)
        return {
            **rows.columns(rows.STUDY_COLUMNS, attributes),
            **self._new_parent(attributes),
            "study_instance_uid": uid,
            "modalities": "",
            "sop_classes": "",
            "number_of_series": 0,
        }

    def _new_series(self, key: tuple[int, str], entry: Entry) -> dict[str, Any]:
        attributes = rows.subset(entry.scan.dataset, rows.SERIES_TAGS)
        return {
            **rows.columns(rows.SERIES_COLUMNS, attributes),
            **self._new_parent(attributes),
            "study_pk": key[0],
            "series_instance_uid": key[1],
        }

    def _new_parent(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "partition": self._partition,
            "attributes": orjson.dumps(attributes),
            "number_of_instances": 0,
            "size": 0,
            "revision": 0,
            "created_at": self._now,
            "updated_at": self._now,
        }

    def _fill(self, table: Table, pk: int, attributes: Mapping[str, Any]) -> None:
        kept = rows.subset(attributes, attributes.keys())
        searched = rows.columns(rows.STUDY_COLUMNS if table is study else rows.SERIES_COLUMNS, kept)
        # The unique keys stay those under which the row was made.
        searched.pop("study_instance_uid", None)
        searched.pop("series_instance_uid", None)
        self._connection.execute(
            update(table).where(table.c.pk == pk).values(attributes=orjson.dumps(kept), **searched)
        )

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


def listed(texts: set[str]) -> str:
    r"""Several values in one column, each between backslashes, so that one can be looked for: `\CT\SR\`."""
    return "\\".join(("", *sorted(texts), "")) if texts else ""


def unlisted(text: str) -> list[str]:
    """The values again, in their order."""
    return text.strip("\\").split("\\") if text else []


def _modality(held: HeldSeries) -> set[str]:
    values = held.attributes.get(_MODALITY, {}).get("Value")
    key = key_of("CS", values[0]) if values else None
    return {str(key)} if key else set()


def _held_study(row: Row[*tuple[Any, ...]]) -> HeldStudy:
    return HeldStudy(
        pk=row.pk,
        attributes=orjson.loads(row.attributes),
        modalities=set(unlisted(row.modalities)),
        sop_classes=set(unlisted(row.sop_classes)),
        number_of_series=row.number_of_series,
        number_of_instances=row.number_of_instances,
        size=row.size,
        revision=row.revision,
    )


def _held_series(row: Row[*tuple[Any, ...]], parent: HeldStudy) -> HeldSeries:
    return HeldSeries(
        pk=row.pk,
        study=parent,
        attributes=orjson.loads(row.attributes),
        number_of_instances=row.number_of_instances,
        size=row.size,
        revision=row.revision,
        counted=row.deleted_at is None,
    )
