"""The tables of coercion: objects as they were received, and secrets by which identifiers are replaced."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, LargeBinary, Table

from storage.index.columns import Plain, metadata, text_column

# What objects were made of by the policy of an AE title: `made_key` is the object that has taken its place. `digest` is of the
# data set alone, by which it is recognised when it is sent again. Times in microseconds.
original = Table(
    "original",
    metadata,
    Column("object_key", Plain, primary_key=True),
    *(text_column(name) for name in ("sop_instance_uid", "made_key", "sha256", "digest")),
    *(Column(name, BigInteger, nullable=False) for name in ("size", "coerced_at")),
    Index("ix_original_made_key", "made_key"),
    Index("ix_original_digest", "digest"),
)

# Made once, and never shown: who has one can find out of which identifiers others were made.
secret = Table(
    "secret",
    metadata,
    Column("name", Plain, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)
