"""Performed procedure steps, and what they perform."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT as PG_TEXT

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

PLAIN = sa.Text().with_variant(PG_TEXT(collation="C"), "postgresql")
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _text(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, PLAIN, nullable=False) for name in names]


def upgrade() -> None:
    """From the schema before to this one."""
    op.create_table(
        "performed_step",
        sa.Column("pk", KEY, primary_key=True, autoincrement=True),
        *_text("partition", "uid", "state", "station", "started"),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("dataset", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("partition", "uid", name="uq_performed_step_uid"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "performed_step_schedule",
        sa.Column("pk", KEY, primary_key=True, autoincrement=True),
        sa.Column("step_pk", KEY, sa.ForeignKey("performed_step.pk"), nullable=False),
        *_text("study_instance_uid"),
        sa.Column("entry", sa.BigInteger),
    )
    op.create_index("ix_performed_step_schedule_step", "performed_step_schedule", ["step_pk"])
    op.create_index("ix_performed_step_schedule_study", "performed_step_schedule", ["study_instance_uid"])
    op.create_index("ix_performed_step_schedule_entry", "performed_step_schedule", ["entry"])
