"""Window/level presets of the site and of users."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT as PG_TEXT

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

PLAIN = sa.Text().with_variant(PG_TEXT(collation="C"), "postgresql")
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Those that come with the archive are no rows."""
    op.create_table(
        "preset",
        sa.Column("pk", KEY, primary_key=True, autoincrement=True),
        *(sa.Column(name, PLAIN, nullable=False) for name in ("owner", "preset_id", "modality", "name_key")),
        sa.Column("definition", sa.LargeBinary, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("owner", "preset_id", name="uq_preset_id"),
        sa.UniqueConstraint("owner", "modality", "name_key", name="uq_preset_name"),
        sqlite_autoincrement=True,
    )
    counter = sa.table("counter", sa.column("name"), sa.column("value"))
    op.bulk_insert(counter, [{"name": "preset", "value": 0}])
