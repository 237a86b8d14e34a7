"""Workitems, who is told of them, and what."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT as PG_TEXT

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

PLAIN = sa.Text().with_variant(PG_TEXT(collation="C"), "postgresql")
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _text(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, PLAIN, nullable=False) for name in names]


def _whole(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger, nullable=False) for name in names]


def upgrade() -> None:
    """From the second schema to the third."""
    op.create_table(
        "workitem",
        sa.Column("pk", KEY, primary_key=True, autoincrement=True),
        *_text("partition", "uid", "state", "transaction_uid"),
        *_whole("version"),
        sa.Column("dataset", sa.LargeBinary, nullable=False),
        *_whole("created_at", "updated_at"),
        sa.UniqueConstraint("partition", "uid", name="uq_workitem_uid"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_workitem_state", "workitem", ["state", "updated_at"])
    op.create_table(
        "workitem_subscription",
        sa.Column("pk", KEY, primary_key=True, autoincrement=True),
        *_text("uid", "ae_title"),
        sa.Column("locked", sa.Boolean, nullable=False),
        sa.Column("filter", sa.LargeBinary),
        sa.UniqueConstraint("uid", "ae_title", name="uq_workitem_subscription"),
    )
    op.create_index("ix_workitem_subscription_ae", "workitem_subscription", ["ae_title"])
    op.create_table(
        "workitem_event",
        sa.Column("sequence", KEY, primary_key=True, autoincrement=False),
        *_text("ae_title", "uid"),
        *_whole("kind"),
        sa.Column("report", sa.LargeBinary, nullable=False),
        *_whole("at"),
    )
    op.create_index("ix_workitem_event_ae", "workitem_event", ["ae_title", "sequence"])
    op.create_index("ix_workitem_event_at", "workitem_event", ["at"])
    op.create_table(
        "workitem_subscriber", sa.Column("ae_title", PLAIN, primary_key=True), *_whole("delivered")
    )
    counter = sa.table("counter", sa.column("name"), sa.column("value"))
    op.bulk_insert(counter, [{"name": "workitem event", "value": 0}])
