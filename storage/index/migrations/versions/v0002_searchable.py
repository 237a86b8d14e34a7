"""Additional searchable attributes, and their values."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT as PG_TEXT

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

PLAIN = sa.Text().with_variant(PG_TEXT(collation="C"), "postgresql")
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
# Made up, as those of the first schema are.
STATISTICS = {
    "ux_searchable_value": "10000000 1000000 2 1 1 1",
    "ix_searchable_value_text": "10000000 1000000 50 1",
    "ix_searchable_value_number": "10000000 1000000 50 1",
}


def upgrade() -> None:
    """From the first schema to the second."""
    op.create_table(
        "searchable",
        sa.Column("pk", KEY, primary_key=True, autoincrement=True),
        *(sa.Column(name, PLAIN, nullable=False) for name in ("path", "vr", "level", "state")),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("done", "total", "created_at")),
        sa.UniqueConstraint("path", name="uq_searchable_path"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "searchable_value",
        sa.Column("pk", KEY, primary_key=True, autoincrement=True),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("attribute_pk", "owner")),
        *(sa.Column(name, PLAIN, nullable=False) for name in ("text", "ideographic", "phonetic", "words")),
        sa.Column("number", sa.Double),
    )
    op.create_index(
        "ux_searchable_value",
        "searchable_value",
        ["attribute_pk", "owner", "text", "ideographic", "phonetic"],
        unique=True,
    )
    op.create_index("ix_searchable_value_text", "searchable_value", ["attribute_pk", "text", "owner"])
    op.create_index("ix_searchable_value_number", "searchable_value", ["attribute_pk", "number", "owner"])
    if op.get_bind().dialect.name == "sqlite":
        table = sa.table("sqlite_stat1", sa.column("tbl"), sa.column("idx"), sa.column("stat"))
        rows = [{"tbl": "searchable_value", "idx": name, "stat": stat} for name, stat in STATISTICS.items()]
        op.bulk_insert(table, rows)
