"""The tables of rules that send and fetch by themselves, and of what was sent and fetched."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, LargeBinary, Table, Text, UniqueConstraint

from storage.index.columns import Plain, metadata, primary_key, text_column

# What is sent on, or fetched, without anybody asking. `definition` is JSON; `since` is the change after which it holds.
rule = Table(
    "rule",
    metadata,
    primary_key(),
    *(text_column(name) for name in ("kind", "name")),
    Column("position", BigInteger, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("definition", LargeBinary, nullable=False),
    *(Column(name, BigInteger, nullable=False) for name in ("created_at", "updated_at")),
    UniqueConstraint("kind", "name", name="uq_rule_name"),
    sqlite_autoincrement=True,
)

# A study, or a part of it, to a node or from one. How it goes while it is open says its job; `waiting`, `sent` and `failures`
# are packed lists (`storage.transfer_records`). `rule` is empty where somebody has asked, and '=' and a title for default destinations.
transfer = Table(
    "transfer",
    metadata,
    primary_key(),
    *(text_column(name) for name in ("kind", "state", "rule", "asked_by", "node", "target")),
    *(text_column(name) for name in ("study_instance_uid", "series_instance_uid")),
    *(Column(name, BigInteger, nullable=False) for name in ("total", "completed", "warned", "failed", "job_pk")),
    Column("error", Text, nullable=False),
    Column("options", LargeBinary, nullable=False),
    *(Column(name, LargeBinary) for name in ("waiting", "sent", "failures")),
    *(Column(name, BigInteger, nullable=False) for name in ("created_at", "updated_at")),
    Index("ix_transfer_open", "kind", "state", "study_instance_uid"),
    Index("ix_transfer_study", "study_instance_uid"),
    Index("ix_transfer_node", "node", "pk"),
    Index("ix_transfer_updated", "updated_at"),
    Index("ix_transfer_job", "job_pk"),
    sqlite_autoincrement=True,
)

# Storage commitment that a node was asked for, under its Transaction UID; `result` is what it has reported.
commitment_sent = Table(
    "commitment_sent",
    metadata,
    Column("uid", Plain, primary_key=True),
    Column("transfer_pk", BigInteger, nullable=False),
    text_column("node"),
    Column("asked", LargeBinary, nullable=False),
    Column("result", LargeBinary),
    *(Column(name, BigInteger, nullable=False) for name in ("tries", "asked_at")),
    Index("ix_commitment_sent_transfer", "transfer_pk"),
)
