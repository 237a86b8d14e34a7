"""Subscribers to workitems that are told over DIMSE."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Those that are known already have subscribed by UPS-RS, and are told on WebSockets."""
    op.add_column("workitem_subscriber", sa.Column("dimse", sa.Boolean, nullable=False, server_default=sa.false()))
    for name in ("not_before", "failures"):
        op.add_column("workitem_subscriber", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
