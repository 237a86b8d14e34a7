"""The tables of deletions, of what is not taken again, and of legal holds."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, LargeBinary, Table, UniqueConstraint

from storage.index.columns import (
    Key,
    Plain,
    metadata,
    partition_column,
    primary_key,
    text_column,
    uid_columns,
)

# Who has deleted what, when and why; `uid` is the name of its record in the object store. UIDs of levels below the deleted one
# are ''. `kept` are the tags that study and series had a value of, so that they can be had again.
deletion = Table(
    "deletion",
    metadata,
    primary_key(),
    partition_column(),
    text_column("uid"),
    *uid_columns(),
    *(text_column(name) for name in ("code", "comment", "deleted_by", "state", "ended_by")),
    *(Column(name, BigInteger, nullable=False) for name in ("instances", "size", "revision", "deleted_at")),
    Column("ended_at", BigInteger),
    Column("kept", LargeBinary, nullable=False),
    UniqueConstraint("uid", name="uq_deletion_uid"),
    Index("ix_deletion_state", "state", "deleted_at"),
    sqlite_autoincrement=True,
)

# Instances that are gone for good and are not taken again.
tombstone = Table(
    "tombstone",
    metadata,
    Column("partition", Plain, primary_key=True),
    Column("sop_instance_uid", Plain, primary_key=True),
    *(text_column(name) for name in ("study_instance_uid", "series_instance_uid", "sha256", "code")),
    Column("deletion_pk", Key, nullable=False),
    Index("ix_tombstone_deletion", "deletion_pk"),
)

# Studies of which nothing may be deleted, purged or replaced.
legal_hold = Table(
    "legal_hold",
    metadata,
    primary_key(),
    partition_column(),
    *(text_column(name) for name in ("study_instance_uid", "reason", "held_by")),
    Column("held_at", BigInteger, nullable=False),
    UniqueConstraint("partition", "study_instance_uid", name="uq_legal_hold"),
    sqlite_autoincrement=True,
)
