"""Conditions as SQL over the indexed columns: the same answer as the pure matcher gives, on both engines."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeAlias

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Table,
    Text,
    and_,
    bindparam,
    literal_column,
    or_,
    select,
    true,
)
from sqlalchemy import Column as AnyColumn
from sqlalchemy import column as named
from sqlalchemy import table as named_table
from sqlalchemy.sql.elements import UnaryExpression
from sqlalchemy.sql.operators import custom_op

from storage.attributes import BY_TAG, TABLE, Attribute
from storage.index.columns import Key
from storage.index.frequency import Common, unlooked
from storage.index.order import TABLE_OF
from storage.index.searchable import Searchable
from storage.index.tables import columns_of, instance, searchable_value, series, study
from storage.matching import (
    STAR,
    AllOf,
    Condition,
    DateTimeRange,
    Empty,
    NameLike,
    Names,
    OneOf,
    Pattern,
    Range,
    Universal,
)
from storage.matching.conditions import Wild
from storage.matching.keys import DECIMAL, LOOSE, NO_NUMBER, NO_TEXT, WHOLE
from storage.types import DEFAULT_PARTITION

Clause: TypeAlias = ColumnElement[bool]
Column: TypeAlias = AnyColumn[Any]
# Values that are made of others, by their names: what makes each, and of what.
Made: TypeAlias = dict[str, tuple[Callable[[tuple[Any, ...]], str], tuple[Any, ...]]]

# Columns with a trigram index on SQLite (the table `study_text`); three letters are the least it can look for.
_TRIGRAMS = frozenset({
    "patient_name", "patient_name_ideographic", "patient_name_phonetic", "patient_name_words", "patient_id",
    "accession_number", "study_description",
})  # fmt: skip
_TRIGRAM = 3

_BEYOND = re.compile(r"[^\x00-\x7f]")

# Greater than any text that begins like the one before it.
_LAST = "\U0010ffff"

# Computed attributes that are matched as a plain column.
_COUNTED: dict[str, Column] = {
    TABLE["NumberOfStudyRelatedSeries"].tag: study.c.number_of_series,
    TABLE["NumberOfStudyRelatedInstances"].tag: study.c.number_of_instances,
    TABLE["NumberOfSeriesRelatedInstances"].tag: series.c.number_of_instances,
    TABLE["AvailableTransferSyntaxUID"].tag: instance.c.transfer_syntax_uid,
}
_MODALITIES = TABLE["ModalitiesInStudy"].tag
_SOP_CLASSES = TABLE["SOPClassesInStudy"].tag


# Columns that know every value of an attribute; others have its first one only.
_SEVERAL = frozenset({_MODALITIES, _SOP_CLASSES})


class Clauses:
    """Makes clauses for one database (`sqlite` or not), one way of matching names, and one `partition`.

    `common` says whether something is found so often that looking it up in an index would not pay.
    """

    def __init__(
        self,
        *,
        sqlite: bool,
        fuzzy: bool,
        partition: str = DEFAULT_PARTITION,
        common: Common = unlooked,
        made: Made | None = None,
    ) -> None:
        self._sqlite = sqlite
        self._fuzzy = fuzzy
        self._partition = partition
        self._common = common
        # Where conditions have names for their values: the values that are made of those.
        self._made = {} if made is None else made

    def of(self, tag: str, condition: Condition) -> Clause | None:
        """The clause for a condition on a top-level attribute, or None when no column can answer it."""
        if isinstance(condition, Universal):
            return true()
        if isinstance(condition, AllOf):
            if tag not in _SEVERAL:
                return None
            return and_(*(clause for one in condition.each if (clause := self._in_study(tag, one)) is not None))
        if tag in (_MODALITIES, _SOP_CLASSES):
            return self._in_study(tag, condition)
        if tag in _COUNTED:
            return self._on_columns((_COUNTED[tag],), condition)
        attribute = BY_TAG.get(tag)
        if attribute is None or not attribute.indexed:
            return None
        table = TABLE_OF[attribute.level]
        if isinstance(condition, DateTimeRange):
            return _moments(table, attribute, condition)
        return self._on_columns([table.c[name] for name in columns_of(attribute)], condition)

    def of_searchable(self, one: Searchable, condition: Condition) -> Clause | None:
        """The clause for a condition on an additional attribute, or None when its values cannot answer it."""
        owner, value = TABLE_OF[one.level].c.pk, searchable_value.c
        if isinstance(condition, Universal):
            return true()
        if isinstance(condition, AllOf):
            each = [self.of_searchable(one, part) for part in condition.each]
            return and_(*(clause for clause in each if clause is not None))
        owners = select(value.owner).where(value.attribute_pk == one.pk)
        if isinstance(condition, Empty):
            return owner.not_in(owners)
        columns = [value.text, value.ideographic, value.phonetic, value.words] if one.vr == "PN" else [value.text]
        if isinstance(condition, OneOf) and one.vr in WHOLE | DECIMAL:
            columns = [value.number]
        clause = self._on_columns(columns, condition)
        return None if clause is None else owner.in_(owners.where(clause))

    def _on_columns(self, columns: Sequence[Column], condition: Condition) -> Clause | None:
        if isinstance(condition, Empty):
            nothing = NO_NUMBER if condition.vr in WHOLE else NO_TEXT
            return and_(*(column == nothing for column in columns[:3]))
        if isinstance(condition, Range):
            return _range(columns[0], condition)
        if isinstance(condition, Names):
            return self._names(columns, condition)
        if isinstance(condition, OneOf):
            return self._one_of(columns[0], condition)
        return None

    def exact(self, condition: Condition) -> bool:
        """Whether the clause for a condition finds just what matches, or may find more."""
        if isinstance(condition, AllOf):
            return all(self.exact(one) for one in condition.each)
        if not (self._fuzzy and isinstance(condition, OneOf) and condition.vr in LOOSE):
            return True
        pieces = [piece for pattern in _patterns(condition) for piece in pattern]
        return all(piece.isascii() for piece in pieces if isinstance(piece, str))

    def _one_of(self, column: Column, condition: OneOf) -> Clause:
        if self._fuzzy and condition.vr in LOOSE:
            return or_(*(self._loosely(column, pattern) for pattern in _patterns(condition)))
        alternatives: list[Clause] = [self._like((column,), (pattern,)) for pattern in condition.patterns]
        if condition.keys:
            alternatives.append(
                column.in_(condition.keys) if len(condition.keys) > 1 else column == condition.keys[0]
            )
        return or_(*alternatives)

    def _loosely(self, column: Column, pattern: Pattern) -> Clause:
        """Without case, as far as the database knows letters: those beyond ASCII may be any."""
        written = _written(pattern, "%", "_", lambda piece: _like_literal(_BEYOND.sub("\0", piece)).replace("\0", "_"))
        fits = column.ilike(written, escape="\\") if not self._sqlite else column.like(written, escape="\\")
        known = [run for piece in pattern if isinstance(piece, str) for run in _BEYOND.split(piece)]
        return and_(fits, self._trigrams((column,), [max(known, key=len, default="")]))

    def _names(self, columns: Sequence[Column], condition: Names) -> Clause:
        *groups, words = columns
        literal = [self._name(groups, one) for one in condition.literal]
        if self._fuzzy:
            return or_(*(self._words(words, one.words) for one in condition.fuzzy), *literal)
        return or_(*literal)

    def _name(self, groups: Sequence[Column], condition: NameLike) -> Clause:
        if condition.groups:
            pairs = zip(groups, condition.groups, strict=False)
            return and_(*(self._like((column,), patterns) for column, patterns in pairs if patterns))
        return self._like(groups, condition.patterns)

    def _words(self, column: Column, words: Sequence[Sequence[str]]) -> Clause:
        found = [
            or_(*(self._pattern(column, (STAR, needle, STAR)) for needle in needles)) for needles in words
        ]
        return and_(*found, *(self._trigrams((column,), needles) for needles in words))

    def _like(self, columns: Sequence[Column], patterns: Sequence[Pattern]) -> Clause:
        """One of the columns fits one of the patterns."""
        fits = or_(*(self._pattern(column, pattern) for pattern in patterns for column in columns))
        if any(not isinstance(pattern[0], Wild) for pattern in patterns):
            # Begins with a literal: the column's own index serves.
            return fits
        return and_(fits, self._trigrams(columns, [_longest(pattern) for pattern in patterns]))

    def _pattern(self, column: Column, pattern: Pattern) -> Clause:
        first = pattern[0]
        if isinstance(first, Wild):
            return self._wild(column, pattern)
        if len(pattern) == 1:
            return column == first
        begins = and_(column >= first, column < first + _LAST)
        if self._sqlite and column.table is study and self._often(column, begins):
            # The same, but not to be looked up in the column's index (https://www.sqlite.org/optoverview.html, unary "+").
            value = UnaryExpression(column, operator=custom_op("+"), type_=column.type)
            begins = and_(value >= first, value < first + _LAST)
        return begins if pattern[1:] == (STAR,) else and_(begins, self._wild(column, pattern))

    def _often(self, column: Column, clause: Clause) -> bool:
        rows = select(column).where(study.c.partition == self._partition, clause)
        return self._common(rows, False)

    def _wild(self, column: Column, pattern: Pattern) -> Clause:
        if self._sqlite:
            return column.op("GLOB", is_comparison=True)(self._text(_as_glob, pattern))
        return column.like(self._text(_as_like, pattern))

    def _text(self, make: Callable[[tuple[Any, ...]], str], of: tuple[Any, ...]) -> Any:
        """The text that `make` makes of some pieces; a name for it where they have names themselves."""
        if not any(isinstance(piece, BindParameter) for piece in of):
            return make(of)
        name = f"made_{len(self._made)}"
        self._made[name] = (make, of)
        return bindparam(name, type_=Text())

    def _trigrams(self, columns: Sequence[Column], literals: Iterable[str]) -> Clause:
        """Narrows to studies in which some literal occurs. Only narrows: letters are compared without their case."""
        wanted = tuple(literals)
        # What has a name is long enough (`storage.index.shapes`).
        if not self._sqlite or not wanted or any(isinstance(one, str) and len(one) < _TRIGRAM for one in wanted):
            return true()
        names = [column.name for column in columns]
        if columns[0].table is not study or not _TRIGRAMS.issuperset(names):
            return true()
        phrase = self._text(partial(_phrase, tuple(names)), wanted)
        matches = literal_column("study_text").op("MATCH", is_comparison=True)(phrase)
        rowids = select(named("rowid", Key)).select_from(named_table("study_text")).where(matches)
        if self._common(select(rowids.subquery("matched").c.rowid), False):
            return true()
        return study.c.pk.in_(rowids)

    def _in_study(self, tag: str, condition: Condition) -> Clause | None:
        """ModalitiesInStudy and SOPClassesInStudy: several values, of which any may match."""
        column = study.c.modalities if tag == _MODALITIES else study.c.sop_classes
        if isinstance(condition, Empty):
            return column == NO_TEXT
        if not isinstance(condition, OneOf):
            return None
        if tag == _MODALITIES:
            return self._some_series(condition)
        return self._among(column, condition.keys)

    def _among(self, column: Column, keys: Sequence[Any]) -> Clause:
        """One of the keys is among the values of a column that has several (`storage.index.parents.listed`)."""
        return or_(*(self._wild(column, (STAR, "\\", key, "\\", STAR)) for key in keys))

    def _some_series(self, condition: OneOf) -> Clause:
        """A common modality is looked for in each study, a rare one leads to its studies; PostgreSQL knows which is which."""
        modality = self._one_of(series.c.modality, condition)
        entries = select(series.c.study_pk).where(series.c.partition == self._partition, modality)
        of_series = entries.where(series.c.deleted_at.is_(None), series.c.modality != NO_TEXT)
        if self._sqlite and not self._common(entries, True):
            return study.c.pk.in_(of_series)
        if self._sqlite and not condition.patterns:
            return self._among(study.c.modalities, condition.keys)
        return of_series.where(series.c.study_pk == study.c.pk).correlate(study).exists()


def _patterns(condition: OneOf) -> tuple[Pattern, ...]:
    return (*((str(key),) for key in condition.keys), *condition.patterns)


def _range(column: Column, condition: Range) -> Clause:
    clauses: list[Clause] = [column > NO_TEXT]
    if condition.low is not None:
        clauses = [column >= condition.low]
    if condition.high is not None:
        clauses.append(column <= condition.high)
    return and_(*clauses)


def _moments(table: Table, attribute: Attribute, condition: DateTimeRange) -> Clause | None:
    of_time = BY_TAG.get(condition.time_tag)
    if of_time is None or not of_time.indexed:
        return None
    date, time = table.c[attribute.column], table.c[of_time.column]
    dates, times = condition.dates, condition.times
    clauses = [_range(date, dates)]
    # A date without a time stands for the whole of its day.
    if dates.low is not None and times.low is not None:
        clauses.append(or_(date > dates.low, time == NO_TEXT, time >= times.low))
    if dates.high is not None and times.high is not None:
        clauses.append(or_(date < dates.high, time == NO_TEXT, time <= times.high))
    return and_(*clauses)


def _longest(pattern: Pattern) -> str:
    literals = [piece for piece in pattern if not isinstance(piece, Wild)]
    return literals[0] if len(literals) == 1 else max(literals, key=len, default="")


def _phrase(columns: tuple[str, ...], literals: tuple[str, ...]) -> str:
    """For FTS5: one of the texts in one of the columns."""
    phrases = " OR ".join(f'"{one.replace(chr(34), chr(34) * 2)}"' for one in literals)
    return f"{{{' '.join(columns)}}} : ({phrases})"


def _as_glob(pattern: Pattern) -> str:
    return _written(pattern, "*", "?", _glob_literal)


def _as_like(pattern: Pattern) -> str:
    return _written(pattern, "%", "_", _like_literal)


def _written(pattern: Pattern, star: str, one: str, literal: Callable[[str], str]) -> str:
    pieces = (
        literal(piece) if isinstance(piece, str) else star if piece is STAR else one for piece in pattern
    )
    return "".join(pieces)


def _glob_literal(piece: str) -> str:
    # Stars and question marks in a literal cannot occur: they are wildcards by then.
    return piece.replace("[", "[[]")


def _like_literal(piece: str) -> str:
    return piece.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
