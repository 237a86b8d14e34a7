"""Callers' AE titles that are tied to certificates."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT as PG_TEXT

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

PLAIN = sa.Text().with_variant(PG_TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Nodes that are known already may call as before."""
    op.add_column("ae_title", sa.Column("tls_only", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("ae_title", sa.Column("certificates", sa.Text, nullable=False, server_default=""))
    op.add_column("caller", sa.Column("certificate", PLAIN, nullable=False, server_default=""))
