"""Up to which change thumbnails were drawn."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Those of what is stored already are drawn when they are asked for."""
    counter = sa.table("counter", sa.column("name"), sa.column("value"))
    latest = op.get_bind().execute(sa.select(counter.c.value).where(counter.c.name == "change")).scalar_one()
    op.bulk_insert(counter, [{"name": "thumbnail", "value": latest}])
