"""What fuzzy matching looks into, with the words of a component joined: De la Cruz is found as Delacruz."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

from storage.matching.names import fuzzy_key

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

# Each column of words, with those of the groups that it is made from; as this version of the schema has them.
_NAMES = {
    "study": ("patient_name", "referring_physician_name"),
    "searchable_value": ("",),
}
_BATCH = 1000


def upgrade() -> None:
    """Write anew what would be another: only names of several words are."""
    connection = op.get_bind()
    for table, names in _NAMES.items():
        for name in names:
            groups = (
                [f"{name}{suffix}" for suffix in ("", "_ideographic", "_phonetic")]
                if name
                else ["text", "ideographic", "phonetic"]
            )
            _rewrite(connection, table, groups, f"{name}_words" if name else "words")


def _rewrite(connection: sa.Connection, name: str, groups: list[str], words: str) -> None:
    table = sa.table(name, sa.column("pk"), sa.column(words), *(sa.column(group) for group in groups))
    change = sa.update(table).where(table.c.pk == sa.bindparam("_pk")).values({words: sa.bindparam("_words")})
    for rows in _batches(connection, table, words):
        anew = ((pk, old, fuzzy_key((first, second, third))) for pk, old, first, second, third in rows)
        changed = [{"_pk": pk, "_words": found} for pk, old, found in anew if found != old]
        if changed:
            connection.execute(change, changed)


def _batches(connection: sa.Connection, table: sa.TableClause, words: str) -> Iterator[list[Any]]:
    after = 0
    query = sa.select(table).where(table.c[words] != "").order_by(table.c.pk).limit(_BATCH)
    while rows := list(connection.execute(query.where(table.c.pk > after)).all()):
        yield rows
        after = rows[-1].pk
