"""Who we say that we are when we call a node (PS3.7 D.3.3.7)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT as PG_TEXT

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

PLAIN = sa.Text().with_variant(PG_TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Nobody in particular, to all nodes that there are."""
    op.create_table(
        "ae_identity",
        sa.Column("title", PLAIN, primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("user_name", "passcode", "token")),
        sa.Column("confirm", sa.Boolean, nullable=False),
    )
