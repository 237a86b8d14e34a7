"""By what workitems are found, and which were there."""

from __future__ import annotations

import orjson
import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT as PG_TEXT

from storage.workitem_keys import keys_of

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

PLAIN = sa.Text().with_variant(PG_TEXT(collation="C"), "postgresql")
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_BATCH = 500


def upgrade() -> None:
    """The keys of the workitems that are there are made here: there are seldom more than some thousands."""
    key = op.create_table(
        "workitem_key",
        sa.Column("name", PLAIN, primary_key=True),
        sa.Column("value", PLAIN, primary_key=True),
        sa.Column("workitem_pk", KEY, primary_key=True, autoincrement=False),
    )
    op.create_index("ix_workitem_key_workitem", "workitem_key", ["workitem_pk"])
    op.create_table(
        "workitem_gone", sa.Column("uid", PLAIN, primary_key=True), sa.Column("at", sa.BigInteger, nullable=False)
    )
    op.create_index("ix_workitem_gone_at", "workitem_gone", ["at"])
    connection, after = op.get_bind(), 0
    item = sa.table("workitem", sa.column("pk"), sa.column("dataset"))
    while rows := connection.execute(sa.select(item).where(item.c.pk > after).order_by(item.c.pk).limit(_BATCH)).all():
        keys = [
            {"name": name, "value": value, "workitem_pk": row.pk}
            for row in rows
            for name, value in sorted(keys_of(orjson.loads(row.dataset)))
        ]
        if keys:
            connection.execute(sa.insert(key), keys)
        after = rows[-1].pk
