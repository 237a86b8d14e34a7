"""Rights of nodes, our own AE titles, callers that wait to be let in, and the log of associations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT as PG_TEXT

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

PLAIN = sa.Text().with_variant(PG_TEXT(collation="C"), "postgresql")
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _text(names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, PLAIN, nullable=False) for name in names.split()]


def _whole(names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger, nullable=False) for name in names.split()]


def _bytes(names: str) -> list[sa.Column[bytes]]:
    return [sa.Column(name, sa.LargeBinary, nullable=False) for name in names.split()]


def upgrade() -> None:
    """Nodes that are known already keep every right, from every address."""
    for name, value in (("rights", "all"), ("addresses", ""), ("syntaxes", "")):
        op.add_column("ae_title", sa.Column(name, PLAIN, nullable=False, server_default=value))
    nothing = sa.text("'\\x7b7d'" if op.get_bind().dialect.name == "postgresql" else "X'7b7d'")
    op.add_column("ae_title", sa.Column("quirks", sa.LargeBinary, nullable=False, server_default=nothing))
    op.create_table(
        "own_ae",
        sa.Column("title", PLAIN, primary_key=True),
        sa.Column("description", sa.Text, nullable=False),
        *_text("callers unknown_callers"),
    )
    op.create_table(
        "caller",
        sa.Column("pk", KEY, primary_key=True, autoincrement=True),
        *_text("calling_ae address called_ae state rights reason"),
        *_whole("times first_at last_at until"),
        sa.UniqueConstraint("calling_ae", "address", name="uq_caller"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_caller_state", "caller", ["state", "last_at"])
    op.create_table(
        "association",
        sa.Column("pk", KEY, primary_key=True, autoincrement=True),
        *_text("id calling_ae called_ae address outcome how"),
        sa.Column("reason", sa.Text, nullable=False),
        *_bytes("contexts operations"),
        *_whole("at last_at seen_at times received sent sequence"),
        sa.Column("seconds", sa.Double),
        sa.UniqueConstraint("id", name="uq_association_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_association_sequence", "association", ["sequence"])
    op.create_index("ix_association_at", "association", ["at"])
    op.create_index("ix_association_calling", "association", ["calling_ae", "pk"])
    op.create_index("ix_association_address", "association", ["address", "pk"])
    counter = sa.table("counter", sa.column("name"), sa.column("value"))
    op.bulk_insert(counter, [{"name": "ae title", "value": 0}, {"name": "association", "value": 0}])
