"""Rules that send and fetch by themselves, transfers, default destinations, and associations that we have asked for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT as PG_TEXT

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

PLAIN = sa.Text().with_variant(PG_TEXT(collation="C"), "postgresql")
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _text(names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, PLAIN, nullable=False) for name in names.split()]


def _whole(names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger, nullable=False) for name in names.split()]


def upgrade() -> None:
    """What is stored already is not sent on; associations that are in the log already came from other nodes."""
    op.add_column("ae_title", sa.Column("destinations", PLAIN, nullable=False, server_default=""))
    op.add_column("association", sa.Column("direction", PLAIN, nullable=False, server_default="in"))
    op.create_table(
        "rule",
        sa.Column("pk", KEY, primary_key=True, autoincrement=True),
        *_text("kind name"),
        *_whole("position"),
        sa.Column("enabled", sa.Boolean, nullable=False),
        *_whole("since"),
        sa.Column("definition", sa.LargeBinary, nullable=False),
        *_whole("created_at updated_at"),
        sa.UniqueConstraint("kind", "name", name="uq_rule_name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "transfer",
        sa.Column("pk", KEY, primary_key=True, autoincrement=True),
        *_text("kind state rule asked_by node target study_instance_uid series_instance_uid"),
        *_whole("total completed warned failed job_pk"),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("options", sa.LargeBinary, nullable=False),
        *(sa.Column(name, sa.LargeBinary) for name in ("waiting", "sent", "failures")),
        *_whole("created_at updated_at"),
        sqlite_autoincrement=True,
    )
    for name, columns in (
        ("open", ["kind", "state", "study_instance_uid"]),
        ("study", ["study_instance_uid"]),
        ("node", ["node", "pk"]),
        ("updated", ["updated_at"]),
        ("job", ["job_pk"]),
    ):
        op.create_index(f"ix_transfer_{name}", "transfer", columns)
    counter = sa.table("counter", sa.column("name"), sa.column("value"))
    latest = dict(tuple(row) for row in op.get_bind().execute(sa.select(counter.c.name, counter.c.value)))
    seen = {"rule": 0, "routing": latest["change"], "prefetch": latest["change"], "prefetch worklist": latest["worklist entry"]}
    op.bulk_insert(counter, [{"name": name, "value": value} for name, value in seen.items()])
