"""The values of additional attributes: taken from data sets, and written for a study, a series or an instance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete

from storage import private
from storage.index.inserting import insert_into
from storage.index.searchable import Path, Searchable, kept
from storage.index.tables import searchable_value
from storage.matching.keys import DECIMAL, WHOLE, key_of
from storage.matching.names import fuzzy_key, name_keys
from storage.types import Dataset, Level

# Of one attribute in one data set; a sequence of a million items must not make an index of a million rows.
MOST_VALUES = 200

Row = dict[str, Any]


class Taken(NamedTuple):
    """An instance and whose it is: keys of the rows, and the attributes that study and series keep."""

    dataset: Dataset
    study_pk: int
    study: Dataset
    series_pk: int
    series: Dataset
    instance_pk: int


def write(connection: Connection, attributes: Iterable[Searchable], taken: Sequence[Taken]) -> None:
    """Index instances that have just been stored or replaced."""
    attributes = list(attributes)
    own = [one.pk for one in attributes if one.level is Level.IMAGE]
    if own:
        replaced = searchable_value.c.owner.in_([one.instance_pk for one in taken])
        connection.execute(
            delete(searchable_value).where(searchable_value.c.attribute_pk.in_(own), replaced)
        )
    write_rows(connection, [row for one in attributes for each in taken for row in _of(one, each)])


def write_rows(connection: Connection, rows: Sequence[Row]) -> None:
    """Write values; those that are there already stay."""
    if not rows:
        return
    into = insert_into(connection.dialect.name, searchable_value)
    connection.execute(into.on_conflict_do_nothing(), list(rows))


def rows_of(one: Searchable, owner: int, dataset: Dataset) -> list[Row]:
    """The values of an attribute in a data set, each once."""
    found: dict[tuple[str, ...], Row] = {}
    for value in values_at(dataset, one.path):
        row = _row(one.vr, value)
        if row is not None:
            row |= {"attribute_pk": one.pk, "owner": owner}
            found.setdefault((row["text"], row["ideographic"], row["phonetic"]), row)
        if len(found) >= MOST_VALUES:
            break
    return list(found.values())


def values_at(dataset: Dataset, path: Path) -> Iterator[Any]:
    """Every value at a path, of every item of the sequences on its way."""
    values = dataset.get(private.tag_in(dataset, path[0]), {}).get("Value") or ()
    if len(path) == 1:
        yield from values
        return
    for item in values:
        if isinstance(item, Mapping):
            yield from values_at(item, path[1:])


def _of(one: Searchable, taken: Taken) -> list[Row]:
    if one.level is Level.IMAGE:
        return rows_of(one, taken.instance_pk, taken.dataset)
    if one.level is Level.SERIES:
        return rows_of(one, taken.series_pk, taken.series if kept(one) else taken.dataset)
    return rows_of(one, taken.study_pk, taken.study if kept(one) else taken.dataset)


def _row(vr: str, value: Any) -> Row | None:
    if vr == "PN":
        first, second, third = keys = name_keys(value)
        row = {"text": first, "ideographic": second, "phonetic": third, "words": fuzzy_key(keys), "number": None}
        return row if any(keys) else None
    key = key_of(vr, value)
    if key is None:
        return None
    number = float(key) if vr in WHOLE | DECIMAL else None
    return {"text": str(key), "ideographic": "", "phonetic": "", "words": "", "number": number}
