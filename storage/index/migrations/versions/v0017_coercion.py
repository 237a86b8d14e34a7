"""Objects as they were received beside what was made of them, and what becomes of what is sent to a title of ours."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT as PG_TEXT

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

PLAIN = sa.Text().with_variant(PG_TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Titles that are there change nothing of what they get."""
    op.create_table(
        "original",
        sa.Column("object_key", PLAIN, primary_key=True),
        *(sa.Column(name, PLAIN, nullable=False) for name in ("sop_instance_uid", "made_key", "sha256", "digest")),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("size", "coerced_at")),
    )
    op.create_index("ix_original_made_key", "original", ["made_key"])
    op.create_index("ix_original_digest", "original", ["digest"])
    op.create_table(
        "secret", sa.Column("name", PLAIN, primary_key=True), sa.Column("value", sa.LargeBinary, nullable=False)
    )
    op.add_column("own_ae", sa.Column("policy", sa.LargeBinary, nullable=False, server_default="{}"))
