"""What every table is made of: the kinds of columns, the same on SQLite and PostgreSQL, and where tables are registered."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, MetaData, Text

# Byte order on both engines: what sorts and what a prefix is must not depend on the server's locale.
Plain = Text().with_variant(Text(collation="C"), "postgresql")
Key = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData()


def text_column(name: str) -> Column[str]:
    """Text that is never NULL."""
    return Column(name, Plain, nullable=False)


def primary_key() -> Column[int]:
    """The key of a row, given by the database."""
    return Column("pk", Key, primary_key=True, autoincrement=True)


def partition_column() -> Column[str]:
    """Where a UID is one UID."""
    return Column("partition", Plain, nullable=False)


def uid_columns() -> list[Column[str]]:
    """The UIDs of an instance and of what it belongs to."""
    names = ("study_instance_uid", "series_instance_uid", "sop_instance_uid")
    return [text_column(name) for name in names]
