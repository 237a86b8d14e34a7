"""Storage commitment that other archives were asked for, whose reports may come on associations of theirs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT as PG_TEXT

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

PLAIN = sa.Text().with_variant(PG_TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """What was asked for before is not known, and its report is refused."""
    op.create_table(
        "commitment_sent",
        sa.Column("uid", PLAIN, primary_key=True),
        sa.Column("transfer_pk", sa.BigInteger, nullable=False),
        sa.Column("node", PLAIN, nullable=False),
        sa.Column("asked", sa.LargeBinary, nullable=False),
        sa.Column("result", sa.LargeBinary),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("tries", "asked_at")),
    )
    op.create_index("ix_commitment_sent_transfer", "commitment_sent", ["transfer_pk"])
