"""Entries of the modality worklist."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT as PG_TEXT

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

PLAIN = sa.Text().with_variant(PG_TEXT(collation="C"), "postgresql")
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _text(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, PLAIN, nullable=False) for name in names]


def _whole(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger, nullable=False) for name in names]


def upgrade() -> None:
    """From the fourth schema to the fifth."""
    op.create_table(
        "worklist_entry",
        sa.Column("number", KEY, primary_key=True, autoincrement=False),
        *_text("partition", "state", "begins", "modality", "patient_id", "accession_number", "study_instance_uid"),
        *_text("requested_procedure_id", "step_id", "placer_order_number", "filler_order_number"),
        *_whole("version"),
        sa.Column("dataset", sa.LargeBinary, nullable=False),
        *_whole("created_at", "updated_at"),
        sa.UniqueConstraint("partition", "study_instance_uid", "step_id", name="uq_worklist_entry_step"),
    )
    for name, columns in (
        ("begins", ["state", "begins", "number"]),
        ("patient", ["patient_id"]),
        ("accession", ["accession_number"]),
        ("placer", ["placer_order_number"]),
        ("filler", ["filler_order_number"]),
    ):
        op.create_index(f"ix_worklist_entry_{name}", "worklist_entry", ["partition", *columns])
    counter = sa.table("counter", sa.column("name"), sa.column("value"))
    op.bulk_insert(counter, [{"name": "worklist entry", "value": 0}])
