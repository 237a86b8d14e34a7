"""What was deleted, by whom and why; what is not taken again; what is held; what of the quarantine is not wanted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT as PG_TEXT

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

PLAIN = sa.Text().with_variant(PG_TEXT(collation="C"), "postgresql")
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
UIDS = ("study_instance_uid", "series_instance_uid", "sop_instance_uid")


def _text(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, PLAIN, nullable=False) for name in names]


def _whole(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger, nullable=False) for name in names]


def _pk() -> sa.Column[int]:
    return sa.Column("pk", KEY, primary_key=True, autoincrement=True)


def upgrade() -> None:
    """From the third schema to the fourth."""
    op.add_column("instance", sa.Column("deletion_pk", KEY))
    op.create_index(
        "ix_instance_deletion",
        "instance",
        ["deletion_pk", "pk"],
        sqlite_where=sa.text("deletion_pk IS NOT NULL"),
        postgresql_where=sa.text("deletion_pk IS NOT NULL"),
    )
    op.add_column("quarantine", sa.Column("rejected_at", sa.BigInteger))
    op.add_column("quarantine", sa.Column("rejected_by", PLAIN))
    op.create_table(
        "deletion",
        _pk(),
        *_text("partition", "uid", *UIDS, "code", "comment", "deleted_by", "state", "ended_by"),
        *_whole("instances", "size", "revision", "deleted_at"),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("kept", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("uid", name="uq_deletion_uid"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_deletion_state", "deletion", ["state", "deleted_at"])
    op.create_table(
        "tombstone",
        sa.Column("partition", PLAIN, primary_key=True),
        sa.Column("sop_instance_uid", PLAIN, primary_key=True),
        *_text("study_instance_uid", "series_instance_uid", "sha256", "code"),
        sa.Column("deletion_pk", KEY, nullable=False),
    )
    op.create_index("ix_tombstone_deletion", "tombstone", ["deletion_pk"])
    op.create_table(
        "legal_hold",
        _pk(),
        *_text("partition", "study_instance_uid", "reason", "held_by"),
        *_whole("held_at"),
        sa.UniqueConstraint("partition", "study_instance_uid", name="uq_legal_hold"),
        sqlite_autoincrement=True,
    )
