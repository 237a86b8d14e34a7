"""Requests for storage commitment over the web, and their results."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT as PG_TEXT

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

PLAIN = sa.Text().with_variant(PG_TEXT(collation="C"), "postgresql")
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """From the ninth schema to the tenth."""
    op.create_table(
        "commitment_request",
        sa.Column("uid", PLAIN, primary_key=True),
        sa.Column("asked", sa.LargeBinary, nullable=False),
        sa.Column("result", sa.LargeBinary),
        sa.Column("job_pk", KEY),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_commitment_request_updated", "commitment_request", ["updated_at"])
