"""Whether what a search asks for is common: then walking the answers in their order finds a page soonest, else an index does.

PostgreSQL keeps statistics of its own. SQLite's are made up (see the migrations), so that plans never change; it is asked
before a search, at the price of counting a few thousand entries of an index.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, Select, func, select, text

from storage.index.database import Database
from storage.index.prepared import Prepared

# Whether there are many of such rows; the second value is the answer where nobody looks.
Common = Callable[[Select[Any], bool], bool]

# Answers that a page is taken to have, made less because to look up and sort a row takes longer than to pass one.
_PAGE = 30
_LEAST = 500
# Of all answers: the part of the studies that is looked up and sorted as quickly as all are passed, and the most to sort.
_PART, _SORTED = 4, 10_000


def unlooked(_rows: Select[Any], otherwise: bool) -> bool:
    """For plans that are made without a database."""
    return otherwise


class Frequency:
    """Looks how common rows are, once for each question of one search."""

    def __init__(self, database: Database, *, whole: bool = False) -> None:
        """`whole`: all answers are wanted, not a page of them."""
        self._database = database
        self._whole = whole

    def common(self, rows: Select[Any], _otherwise: bool) -> bool:
        """Whether there are more of `rows` than it is worth to fetch and sort for one page.

        Of n studies m are found: by an index m rows are fetched and sorted; in their order n/m are passed over for each
        answer of a page. The two cost the same where m is the root of n times the page.
        """
        with self._database.read() as connection:
            most = _most(connection, whole=self._whole)
            found = connection.scalar(select(func.count()).select_from(rows.limit(most).subquery()))
        return bool(found is not None and found >= most)

    def counted(self, number: Prepared, values: Mapping[str, Any]) -> bool:
        """The same of rows that a statement counts, up to `look_most` among its values."""
        with self._database.read() as connection:
            most = _most(connection, whole=self._whole)
            return bool(number.run(connection, {**values, "look_most": most})[0].number >= most)


_STUDIES = Prepared(text("SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'study'), 0)"))


def _most(connection: Connection, *, whole: bool) -> int:
    studies = int(_STUDIES.run(connection, {})[0][0])
    if whole:
        # Walked, all studies are passed once; by an index what is found is sorted anew for each page of keys.
        return max(_LEAST, min(studies // _PART, _SORTED))
    return max(_LEAST, math.isqrt(_PAGE * studies))
