"""Nodes that are called over TLS."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nodes that are known already speak no TLS."""
    op.add_column("ae_title", sa.Column("tls", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("ae_title", sa.Column("tls_certificate", sa.Text, nullable=False, server_default=""))
