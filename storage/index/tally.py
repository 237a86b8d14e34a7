"""How many studies each month and each day has: what the list has in all, and how many come before a page far down it.

The database itself keeps the tally, by triggers in the transaction that stores, deletes or redates a study (migration 0025).
A page is found by one statement, so that tally and studies are of one moment: the sums of the months say in which month it
begins, those of the days in it on which day, and what is left to skip is on that day.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import ge, gt
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Connection,
    Text,
    bindparam,
    cast,
    func,
    literal,
    select,
)

from storage.attributes import tag_of
from storage.index.order import Order
from storage.index.prepared import Prepared
from storage.index.tables import ALL_MONTHS, study, study_tally
from storage.matching import Range, Universal
from storage.types import Level, Query

_STUDY_DATE: Final = (tag_of("StudyDate"),)
# Letters of a date that say its month.
_MONTH: Final = 6
# Before and after every day; before the first day is where no date is.
_FIRST, _LAST, _UNDATED = "0", "\U0010ffff", ""
_MONTHS: Final = literal(ALL_MONTHS, Text())


class Days(NamedTuple):
    """The studies of a partition from one day to another, both included, in the order of the study list."""

    partition: str
    low: str
    high: str


def days_of(query: Query) -> Days | None:
    """What a query asks for, where that is the study list from its beginning or a range of its days; else None."""
    if query.level is not Level.STUDY or query.order or query.after is not None:
        return None
    asked = [one for one in query.conditions if not isinstance(one[1], Universal)]
    if not asked:
        return Days(query.partition, _UNDATED, _LAST)
    (path, condition), *others = asked
    if others or path != _STUDY_DATE or not isinstance(condition, Range):
        return None
    return Days(query.partition, condition.low or _FIRST, condition.high or _LAST)


def count(connection: Connection, days: Days) -> int:
    """How many studies they have."""
    return int(_COUNT.run(connection, days._asdict())[0].studies)


def keys(connection: Connection, days: Days, size: int, offset: int) -> Sequence[int]:
    """The keys of a page of them, newest first."""
    given = {**days._asdict(), "page_size": size, "page_offset": offset}
    return [row.pk for row in _PAGE.run(connection, given)]


def _text(name: str) -> ColumnElement[str]:
    return bindparam(name, type_=Text())


def _number(name: str) -> ColumnElement[int]:
    return bindparam(name, type_=BigInteger())


def _sum(within: ColumnElement[str], spans: ColumnElement[bool]) -> ColumnElement[int]:
    own = study_tally.c
    rows = select(cast(func.coalesce(func.sum(own.studies), 0), BigInteger))
    return rows.where(own.partition == _text("partition"), own.within == within, spans).scalar_subquery()


def _newer(days: Callable[[Any, Any], Any], day: ColumnElement[str]) -> ColumnElement[int]:
    """How many studies are of days that are greater (or equal) than one: of the months after its own, and of such days in that."""
    span, month = study_tally.c.span, func.substr(day, 1, _MONTH)
    return _sum(_MONTHS, span > month) + _sum(month, days(span, day))


def _reached(within: ColumnElement[str], before: ColumnElement[int], offset: ColumnElement[int], name: str) -> CTE:
    """Of the spans within another, newest first, that which an offset leads to, and how many studies come before it."""
    own = study_tally.c
    upto = before + cast(func.sum(own.studies).over(order_by=own.span.desc(), rows=(None, 0)), BigInteger)
    sums = select(own.span, own.studies, upto.label("upto")).where(own.partition == _text("partition"), own.within == within)
    spans = sums.subquery()
    found = select(spans.c.span, (spans.c.upto - spans.c.studies).label("before")).where(spans.c.upto > offset)
    return found.order_by(spans.c.upto).limit(1).cte(name)


def _of(found: CTE, name: str) -> ColumnElement[Any]:
    return select(found.c[name]).scalar_subquery()


def _page() -> Prepared:
    offset = _of(select((_number("page_offset") + _newer(gt, _text("high"))).label("offset")).cte("the_place"), "offset")
    month = _reached(_MONTHS, literal(0, BigInteger()), offset, "the_month")
    day = _reached(_of(month, "span"), _of(month, "before"), offset, "the_day")
    return Prepared(
        select(study.c.pk)
        .where(
            study.c.partition == _text("partition"),
            study.c.deleted_at.is_(None),
            study.c.study_date <= _of(day, "span"),
            study.c.study_date >= _text("low"),
        )
        .order_by(*Order(Query(Level.STUDY)).by())
        .limit(_number("page_size"))
        # Behind the last study there is no day, and nothing to skip.
        .offset(func.coalesce(offset - _of(day, "before"), 0))
    )


_PAGE: Final = _page()
_COUNT: Final = Prepared(select((_newer(ge, _text("low")) - _newer(gt, _text("high"))).label("studies")))
