"""The tables, the same on SQLite and PostgreSQL; columns that are searched are made from the table of attributes.

Nothing that is searched is NULL: absent text is `''` (and so sorts last where the newest comes first), an absent number is
`NO_NUMBER` (and sorts last). Times are whole microseconds since 1970 in UTC. JSON is stored as UTF-8 bytes.

Made by the migrations, which alone say what an index of PostgreSQL has besides: for its words its dialect would be loaded.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from storage.attributes import Attribute, indexed_at
from storage.index import coercion_tables, columns, deletion_tables, transfer_tables  # noqa: F401 - register their tables
from storage.index.columns import Key, Plain, partition_column, primary_key, text_column, uid_columns
from storage.matching.keys import WHOLE
from storage.types import Level

# Of all tables, those of the modules that are imported here among them.
metadata = columns.metadata

# A person name's further columns: its other component groups (PS3.5 6.2.1.1), and what fuzzy matching looks into.
NAME_SUFFIXES = ("", "_ideographic", "_phonetic", "_words")


def columns_of(attribute: Attribute) -> tuple[str, ...]:
    """The names of the columns in which an indexed attribute is kept."""
    if attribute.vr == "PN":
        return tuple(attribute.column + suffix for suffix in NAME_SUFFIXES)
    return (attribute.column,)


def _searched(*levels: Level) -> list[Column[str] | Column[int]]:
    made: list[Column[str] | Column[int]] = []
    for attribute in indexed_at(*levels):
        whole = attribute.vr in WHOLE
        made.extend(
            Column(n, BigInteger, nullable=False) if whole else text_column(n) for n in columns_of(attribute)
        )
    return made


study = Table(
    "study",
    metadata,
    primary_key(),
    partition_column(),
    *_searched(Level.PATIENT, Level.STUDY),
    Column("attributes", LargeBinary, nullable=False),
    Column("modalities", Plain, nullable=False),
    Column("sop_classes", Plain, nullable=False),
    Column("number_of_series", BigInteger, nullable=False),
    Column("number_of_instances", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("deleted_at", BigInteger),
    UniqueConstraint("partition", "study_instance_uid", name="uq_study_uid"),
    Index(
        "ix_study_order",
        "partition",
        "study_date",
        "study_time",
        "study_instance_uid",
        # With the key, as every index of SQLite has it: a page far behind is counted off here alone.
        sqlite_where=text("deleted_at IS NULL"),
    ),
    Index("ix_study_patient_id", "partition", "patient_id", "issuer_of_patient_id"),
    Index("ix_study_patient_name", "partition", "patient_name"),
    Index("ix_study_patient_name_ideographic", "partition", "patient_name_ideographic"),
    Index("ix_study_patient_name_phonetic", "partition", "patient_name_phonetic"),
    Index("ix_study_patient_birth_date", "partition", "patient_birth_date"),
    Index("ix_study_accession_number", "partition", "accession_number"),
    Index("ix_study_study_id", "partition", "study_id"),
    sqlite_autoincrement=True,
)

# What `within` says of a span that is a month; of a day it says its month.
ALL_MONTHS = "all"

# How many studies that are not deleted each month and each day of Study Date has (`span`, `''` where there is none). Kept by
# triggers on `study`, on PostgreSQL at the very end of a transaction, so that what is written to by everybody is not held long.
study_tally = Table(
    "study_tally",
    metadata,
    Column("partition", Plain, primary_key=True),
    Column("within", Plain, primary_key=True),
    Column("span", Plain, primary_key=True),
    Column("studies", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

series = Table(
    "series",
    metadata,
    primary_key(),
    Column("study_pk", Key, ForeignKey("study.pk"), nullable=False),
    partition_column(),
    *_searched(Level.SERIES),
    Column("attributes", LargeBinary, nullable=False),
    Column("number_of_instances", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("deleted_at", BigInteger),
    UniqueConstraint("study_pk", "series_instance_uid", name="uq_series_uid"),
    Index("ix_series_uid", "partition", "series_instance_uid"),
    Index("ix_series_modality", "partition", "modality", "study_pk"),
    Index("ix_series_date", "partition", "series_date"),
    sqlite_autoincrement=True,
)

instance = Table(
    "instance",
    metadata,
    primary_key(),
    Column("series_pk", Key, ForeignKey("series.pk"), nullable=False),
    partition_column(),
    *_searched(Level.IMAGE),
    Column("transfer_syntax_uid", Plain, nullable=False),
    Column("object_key", Plain, nullable=False),
    Column("sha256", Plain, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("dataset_offset", BigInteger, nullable=False),
    Column("inflated", Boolean, nullable=False),
    Column("frame_count", BigInteger, nullable=False),
    Column("source", LargeBinary, nullable=False),
    Column("flags", LargeBinary),
    Column("received_at", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("deleted_at", BigInteger),
    # Of the deletion that it can come back from; only where `deleted_at` is set.
    Column("deletion_pk", Key),
    UniqueConstraint("partition", "sop_instance_uid", name="uq_instance_uid"),
    Index("ix_instance_series", "series_pk", "instance_number", "pk"),
    Index("ix_instance_object_key", "object_key"),
    Index(
        "ix_instance_deletion",
        "deletion_pk",
        "pk",
        sqlite_where=text("deletion_pk IS NOT NULL"),
    ),
    sqlite_autoincrement=True,
)

# Beside the instance rather than in it, so that searching instances does not read past their metadata.
instance_content = Table(
    "instance_content",
    metadata,
    Column("instance_pk", Key, ForeignKey("instance.pk"), primary_key=True, autoincrement=False),
    Column("json", LargeBinary, nullable=False),
    Column("frames", LargeBinary, nullable=False),
    Column("bulk", LargeBinary),
)


def _kept_object() -> list[Column[str] | Column[int] | Column[bytes]]:
    return [
        Column("sop_class_uid", Plain, nullable=False),
        Column("transfer_syntax_uid", Plain, nullable=False),
        Column("object_key", Plain, nullable=False),
        Column("sha256", Plain, nullable=False),
        Column("size", BigInteger, nullable=False),
        Column("source", LargeBinary, nullable=False),
        Column("received_at", BigInteger, nullable=False),
    ]


# Earlier versions of instances: what `duplicates=replace` has replaced.
instance_history = Table(
    "instance_history",
    metadata,
    primary_key(),
    partition_column(),
    *uid_columns(),
    *_kept_object(),
    Column("replaced_at", BigInteger, nullable=False),
    Column("reason", Plain, nullable=False),
    Index("ix_history_uid", "partition", "sop_instance_uid"),
    Index("ix_history_object_key", "object_key"),
    sqlite_autoincrement=True,
)

# Instances that were refused because their UID is taken; an administrator decides.
quarantine = Table(
    "quarantine",
    metadata,
    primary_key(),
    partition_column(),
    *uid_columns(),
    *_kept_object(),
    Column("existing_sha256", Plain, nullable=False),
    Column("reason", Plain, nullable=False),
    Column("times", BigInteger, nullable=False),
    # Looked at and not wanted: it goes by the policy for what is deleted.
    Column("rejected_at", BigInteger),
    Column("rejected_by", Plain),
    UniqueConstraint("partition", "sop_instance_uid", "sha256", name="uq_quarantine"),
    Index("ix_quarantine_object_key", "object_key"),
    sqlite_autoincrement=True,
)

# Requests for storage commitment over the web, by their Transaction UID; `result` is NULL until it is known.
commitment_request = Table(
    "commitment_request",
    metadata,
    Column("uid", Plain, primary_key=True),
    Column("asked", LargeBinary, nullable=False),
    Column("result", LargeBinary),
    Column("job_pk", Key),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Index("ix_commitment_request_updated", "updated_at"),
)

# `sequence` comes from `counter` in the last steps of the transaction, so it has no gaps and follows the commits' order.
change = Table(
    "change",
    metadata,
    Column("sequence", Key, primary_key=True, autoincrement=False),
    partition_column(),
    Column("kind", Plain, nullable=False),
    *uid_columns(),
    Column("at", BigInteger, nullable=False),
)

counter = Table(
    "counter",
    metadata,
    Column("name", Plain, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

job = Table(
    "job",
    metadata,
    primary_key(),
    Column("kind", Plain, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("state", Plain, nullable=False),
    Column("attempts", BigInteger, nullable=False),
    Column("not_before", BigInteger, nullable=False),
    Column("worker", Plain, nullable=False),
    Column("error", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Index("ix_job_due", "state", "not_before", "pk"),
    sqlite_autoincrement=True,
)

# Attributes that an administrator has made searchable beside those with a column, and the values that studies, series and
# instances (`owner`, by the attribute's level) have of them.
searchable = Table(
    "searchable",
    metadata,
    primary_key(),
    *(text_column(name) for name in ("path", "vr", "level", "state")),
    *(Column(name, BigInteger, nullable=False) for name in ("done", "total", "created_at")),
    UniqueConstraint("path", name="uq_searchable_path"),
    sqlite_autoincrement=True,
)

searchable_value = Table(
    "searchable_value",
    metadata,
    primary_key(),
    *(Column(name, BigInteger, nullable=False) for name in ("attribute_pk", "owner")),
    *(text_column(name) for name in ("text", "ideographic", "phonetic", "words")),
    Column("number", Double),
    Index("ux_searchable_value", "attribute_pk", "owner", "text", "ideographic", "phonetic", unique=True),
    Index("ix_searchable_value_text", "attribute_pk", "text", "owner"),
    Index("ix_searchable_value_number", "attribute_pk", "number", "owner"),
)

# Workitems (PS3.4 annex CC). `transaction_uid` is the performer's key and is never in `dataset`.
workitem = Table(
    "workitem",
    metadata,
    primary_key(),
    partition_column(),
    *(text_column(name) for name in ("uid", "state", "transaction_uid")),
    Column("version", BigInteger, nullable=False),
    Column("dataset", LargeBinary, nullable=False),
    *(Column(name, BigInteger, nullable=False) for name in ("created_at", "updated_at")),
    UniqueConstraint("partition", "uid", name="uq_workitem_uid"),
    Index("ix_workitem_state", "state", "updated_at"),
    sqlite_autoincrement=True,
)

# By what workitems are found (`storage.workitem_keys`).
workitem_key = Table(
    "workitem_key",
    metadata,
    Column("name", Plain, primary_key=True),
    Column("value", Plain, primary_key=True),
    Column("workitem_pk", Key, primary_key=True, autoincrement=False),
    Index("ix_workitem_key_workitem", "workitem_pk"),
)

# Workitems that were there and are removed.
workitem_gone = Table(
    "workitem_gone",
    metadata,
    Column("uid", Plain, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Index("ix_workitem_gone_at", "at"),
)

# Who is told of which workitem; of those that are to come where `uid` is empty. `filter` is what they must match.
workitem_subscription = Table(
    "workitem_subscription",
    metadata,
    primary_key(),
    *(text_column(name) for name in ("uid", "ae_title")),
    Column("locked", Boolean, nullable=False),
    Column("filter", LargeBinary),
    UniqueConstraint("uid", "ae_title", name="uq_workitem_subscription"),
    Index("ix_workitem_subscription_ae", "ae_title"),
)

# One row for each that is told; `sequence` comes from `counter`, so that it follows the order of the commits.
workitem_event = Table(
    "workitem_event",
    metadata,
    Column("sequence", Key, primary_key=True, autoincrement=False),
    *(text_column(name) for name in ("ae_title", "uid")),
    Column("kind", BigInteger, nullable=False),
    Column("report", LargeBinary, nullable=False),
    Column("at", BigInteger, nullable=False),
    Index("ix_workitem_event_ae", "ae_title", "sequence"),
    Index("ix_workitem_event_at", "at"),
)

# Up to which event each subscriber has been told.
workitem_subscriber = Table(
    "workitem_subscriber",
    metadata,
    Column("ae_title", Plain, primary_key=True),
    Column("delivered", BigInteger, nullable=False),
    # Whether it is told on associations of ours; until when one worker has that in hand, or nobody tries again; failures in a row.
    Column("dimse", Boolean, nullable=False),
    Column("not_before", BigInteger, nullable=False),
    Column("failures", BigInteger, nullable=False),
)

# Scheduled procedure steps (PS3.4 annex K). The columns narrow a search and find what an order or a performed step is about;
# what matches is decided on `dataset`. `begins` sorts: YYYYMMDDHHMMSS.FFFFFF.
worklist_entry = Table(
    "worklist_entry",
    metadata,
    Column("number", Key, primary_key=True, autoincrement=False),
    partition_column(),
    *(text_column(name) for name in ("state", "begins", "modality", "patient_id", "accession_number", "study_instance_uid")),
    *(text_column(name) for name in ("requested_procedure_id", "step_id", "placer_order_number", "filler_order_number")),
    Column("version", BigInteger, nullable=False),
    Column("dataset", LargeBinary, nullable=False),
    *(Column(name, BigInteger, nullable=False) for name in ("created_at", "updated_at")),
    UniqueConstraint("partition", "study_instance_uid", "step_id", name="uq_worklist_entry_step"),
    Index("ix_worklist_entry_begins", "partition", "state", "begins", "number"),
    Index("ix_worklist_entry_patient", "partition", "patient_id"),
    Index("ix_worklist_entry_accession", "partition", "accession_number"),
    Index("ix_worklist_entry_placer", "partition", "placer_order_number"),
    Index("ix_worklist_entry_filler", "partition", "filler_order_number"),
)

# HL7 messages that were done, so that one that comes again is not done twice.
received_message = Table(
    "received_message",
    metadata,
    Column("digest", Plain, primary_key=True),
    Column("received_at", BigInteger, nullable=False),
    Index("ix_received_message_at", "received_at"),
)

# Performed procedure steps (PS3.4 annex F), and what each says that it performs: a study, and the worklist entry if we have it.
performed_step = Table(
    "performed_step",
    metadata,
    primary_key(),
    partition_column(),
    *(text_column(name) for name in ("uid", "state", "station", "started")),
    Column("version", BigInteger, nullable=False),
    Column("dataset", LargeBinary, nullable=False),
    *(Column(name, BigInteger, nullable=False) for name in ("created_at", "updated_at")),
    UniqueConstraint("partition", "uid", name="uq_performed_step_uid"),
    sqlite_autoincrement=True,
)

performed_step_schedule = Table(
    "performed_step_schedule",
    metadata,
    primary_key(),
    Column("step_pk", Key, ForeignKey("performed_step.pk"), nullable=False),
    text_column("study_instance_uid"),
    Column("entry", BigInteger),
    Index("ix_performed_step_schedule_step", "step_pk"),
    Index("ix_performed_step_schedule_study", "study_instance_uid"),
    Index("ix_performed_step_schedule_entry", "entry"),
)

# Nodes that may call us and that we call. `rights`, `addresses` and `destinations` are words; `quirks` is JSON.
ae_title = Table(
    "ae_title",
    metadata,
    Column("title", Plain, primary_key=True),
    Column("host", Plain, nullable=False),
    Column("port", Integer, nullable=False),
    Column("description", Text, nullable=False),
    *(text_column(name) for name in ("rights", "addresses", "syntaxes", "destinations", "url", "login")),
    Column("quirks", LargeBinary, nullable=False),
    Column("tls", Boolean, nullable=False),
    Column("tls_certificate", Text, nullable=False),
    Column("tls_only", Boolean, nullable=False),
    Column("certificates", Text, nullable=False),
)

# Who we say that we are to a node (`storage.index.identities`): beside it, so that nothing that shows or changes a node reads a secret.
ae_identity = Table(
    "ae_identity",
    metadata,
    Column("title", Plain, primary_key=True),
    *(Column(name, Text, nullable=False) for name in ("user_name", "passcode", "token")),
    Column("confirm", Boolean, nullable=False),
)

# Window/level presets of the site (`owner` empty) and of users; `definition` is JSON (`storage.presets.written`).
preset = Table(
    "preset",
    metadata,
    primary_key(),
    *(text_column(name) for name in ("owner", "preset_id", "modality", "name_key")),
    Column("definition", LargeBinary, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    UniqueConstraint("owner", "preset_id", name="uq_preset_id"),
    UniqueConstraint("owner", "modality", "name_key", name="uq_preset_name"),
    sqlite_autoincrement=True,
)

# What we are called, beside PACS_AE_TITLE, and who may call us so.
own_ae = Table(
    "own_ae",
    metadata,
    Column("title", Plain, primary_key=True),
    Column("description", Text, nullable=False),
    *(text_column(name) for name in ("callers", "unknown_callers")),
    # JSON: what becomes of what is sent to it.
    Column("policy", LargeBinary, nullable=False),
)

# Who has asked for an association and is not known, may have one once, or is blocked. An empty title or address is any.
caller = Table(
    "caller",
    metadata,
    primary_key(),
    *(text_column(name) for name in ("calling_ae", "address", "called_ae", "state", "rights", "reason", "certificate")),
    *(Column(name, BigInteger, nullable=False) for name in ("times", "first_at", "last_at", "until")),
    UniqueConstraint("calling_ae", "address", name="uq_caller"),
    Index("ix_caller_state", "state", "last_at"),
    sqlite_autoincrement=True,
)

# The log of associations. `sequence` comes from `counter` with every change of a row, so that it follows the commits' order;
# `seconds` is NULL while an association goes on, and `seen_at` is when its process last said so.
association = Table(
    "association",
    metadata,
    primary_key(),
    *(text_column(name) for name in ("id", "calling_ae", "called_ae", "address", "outcome", "how", "direction")),
    Column("reason", Text, nullable=False),
    *(Column(name, LargeBinary, nullable=False) for name in ("contexts", "operations")),
    *(
        Column(name, BigInteger, nullable=False)
        for name in ("at", "last_at", "seen_at", "times", "received", "sent", "sequence")
    ),
    Column("seconds", Double),
    UniqueConstraint("id", name="uq_association_id"),
    Index("ix_association_sequence", "sequence"),
    Index("ix_association_at", "at"),
    Index("ix_association_calling", "calling_ae", "pk"),
    Index("ix_association_address", "address", "pk"),
    sqlite_autoincrement=True,
)
