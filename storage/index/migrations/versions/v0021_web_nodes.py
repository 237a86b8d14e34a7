"""Nodes that are sent to over the web, by STOW-RS."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT as PG_TEXT

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

PLAIN = sa.Text().with_variant(PG_TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """None of the nodes that there are."""
    for name in ("url", "login"):
        op.add_column("ae_title", sa.Column(name, PLAIN, nullable=False, server_default=""))
