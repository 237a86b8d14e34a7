"""The first schema: studies, series, instances and all that is written with them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT as PG_TEXT

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

PLAIN = sa.Text().with_variant(PG_TEXT(collation="C"), "postgresql")
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

STUDY_TEXT = """
    study_instance_uid patient_name patient_name_ideographic patient_name_phonetic patient_name_words patient_id
    issuer_of_patient_id patient_birth_date patient_sex study_date study_time accession_number study_id study_description
    referring_physician_name referring_physician_name_ideographic referring_physician_name_phonetic
    referring_physician_name_words modalities sop_classes
"""
SERIES_TEXT = """
    series_instance_uid modality series_description series_date series_time body_part_examined
    performed_procedure_step_start_date performed_procedure_step_start_time
"""
INSTANCE_TEXT = "sop_instance_uid sop_class_uid transfer_syntax_uid object_key sha256"
UIDS = "study_instance_uid series_instance_uid sop_instance_uid"
KEPT_TEXT = f"{UIDS} sop_class_uid transfer_syntax_uid object_key sha256 reason"
# What SQLite's planner is told (https://www.sqlite.org/fileformat2.html#stat1tab): rows, then rows per distinct value of
# the first column, of the first two, and so on. Made up after a large archive and never measured, so that an archive's
# plans are the same on its first day and after ten years. Unnamed indexes are those of UNIQUE constraints.
STATISTICS = {
    ("study", "sqlite_autoindex_study_1"): "1000000 1000000 1",
    ("study", "ix_study_order"): "1000000 1000000 300 3 1",
    ("study", "ix_study_patient_id"): "1000000 1000000 4 4",
    ("study", "ix_study_patient_name"): "1000000 1000000 5",
    ("study", "ix_study_patient_name_ideographic"): "1000000 1000000 5",
    ("study", "ix_study_patient_name_phonetic"): "1000000 1000000 5",
    ("study", "ix_study_patient_birth_date"): "1000000 1000000 40",
    ("study", "ix_study_accession_number"): "1000000 1000000 2",
    ("study", "ix_study_study_id"): "1000000 1000000 20",
    ("series", "sqlite_autoindex_series_1"): "4000000 4 1",
    ("series", "ix_series_uid"): "4000000 4000000 1",
    ("series", "ix_series_modality"): "4000000 4000000 400000 3",
    ("series", "ix_series_date"): "4000000 4000000 1200",
    ("instance", "sqlite_autoindex_instance_1"): "400000000 400000000 1",
    ("instance", "ix_instance_series"): "400000000 100 2 1",
    ("instance", "ix_instance_object_key"): "400000000 1",
}
# Searched by `*text*`: trigrams.
SUBSTRINGS = (
    "patient_name",
    "patient_name_ideographic",
    "patient_name_phonetic",
    "patient_name_words",
    "patient_id",
    "accession_number",
    "study_description",
)


def _text(names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, PLAIN, nullable=False) for name in names.split()]


def _whole(names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger, nullable=False) for name in names.split()]


def _bytes(names: str) -> list[sa.Column[bytes]]:
    return [sa.Column(name, sa.LargeBinary, nullable=False) for name in names.split()]


def _pk() -> sa.Column[int]:
    return sa.Column("pk", KEY, primary_key=True, autoincrement=True)


def _partition() -> sa.Column[str]:
    return sa.Column("partition", PLAIN, nullable=False)


def _deleted_at() -> sa.Column[int]:
    return sa.Column("deleted_at", sa.BigInteger)


def upgrade() -> None:
    """From nothing to the first schema."""
    _studies()
    _series()
    _instances()
    _other_versions()
    _followers()
    if op.get_bind().dialect.name == "sqlite":
        _sqlite_trigrams()
        _sqlite_statistics()
    else:
        _postgresql_trigrams()


def _studies() -> None:
    op.create_table(
        "study",
        _pk(),
        _partition(),
        *_text(STUDY_TEXT),
        *_bytes("attributes"),
        *_whole("number_of_series number_of_instances size revision created_at updated_at"),
        _deleted_at(),
        sa.UniqueConstraint("partition", "study_instance_uid", name="uq_study_uid"),
        sqlite_autoincrement=True,
    )
    # Walked from its end for the study list; without deleted studies, so that a page far down need not read them.
    op.create_index(
        "ix_study_order",
        "study",
        ["partition", "study_date", "study_time", "study_instance_uid"],
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index("ix_study_patient_id", "study", ["partition", "patient_id", "issuer_of_patient_id"])
    for column in (
        "patient_name",
        "patient_name_ideographic",
        "patient_name_phonetic",
        "patient_birth_date",
        "accession_number",
        "study_id",
    ):
        op.create_index(f"ix_study_{column}", "study", ["partition", column])


def _series() -> None:
    op.create_table(
        "series",
        _pk(),
        sa.Column("study_pk", KEY, sa.ForeignKey("study.pk"), nullable=False),
        _partition(),
        *_text(SERIES_TEXT),
        *_bytes("attributes"),
        *_whole("series_number number_of_instances size revision created_at updated_at"),
        _deleted_at(),
        sa.UniqueConstraint("study_pk", "series_instance_uid", name="uq_series_uid"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_series_uid", "series", ["partition", "series_instance_uid"])
    op.create_index("ix_series_modality", "series", ["partition", "modality", "study_pk"])
    op.create_index("ix_series_date", "series", ["partition", "series_date"])


def _instances() -> None:
    op.create_table(
        "instance",
        _pk(),
        sa.Column("series_pk", KEY, sa.ForeignKey("series.pk"), nullable=False),
        _partition(),
        *_text(INSTANCE_TEXT),
        *_whole("instance_number rows columns bits_allocated number_of_frames"),
        *_whole("size dataset_offset frame_count received_at revision"),
        sa.Column("inflated", sa.Boolean, nullable=False),
        *_bytes("source"),
        sa.Column("flags", sa.LargeBinary),
        _deleted_at(),
        sa.UniqueConstraint("partition", "sop_instance_uid", name="uq_instance_uid"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_instance_series", "instance", ["series_pk", "instance_number", "pk"])
    op.create_index("ix_instance_object_key", "instance", ["object_key"])
    op.create_table(
        "instance_content",
        sa.Column("instance_pk", KEY, sa.ForeignKey("instance.pk"), primary_key=True, autoincrement=False),
        *_bytes("json frames"),
        sa.Column("bulk", sa.LargeBinary),
    )


def _other_versions() -> None:
    op.create_table(
        "instance_history",
        _pk(),
        _partition(),
        *_text(KEPT_TEXT),
        *_whole("size received_at replaced_at"),
        *_bytes("source"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_history_uid", "instance_history", ["partition", "sop_instance_uid"])
    op.create_index("ix_history_object_key", "instance_history", ["object_key"])
    op.create_table(
        "quarantine",
        _pk(),
        _partition(),
        *_text(f"{KEPT_TEXT} existing_sha256"),
        *_whole("size received_at times"),
        *_bytes("source"),
        sa.UniqueConstraint("partition", "sop_instance_uid", "sha256", name="uq_quarantine"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_quarantine_object_key", "quarantine", ["object_key"])


def _followers() -> None:
    op.create_table(
        "change",
        sa.Column("sequence", KEY, primary_key=True, autoincrement=False),
        _partition(),
        *_text(f"kind {UIDS}"),
        *_whole("at"),
    )
    counter = op.create_table("counter", sa.Column("name", PLAIN, primary_key=True), *_whole("value"))
    op.bulk_insert(counter, [{"name": "change", "value": 0}])
    op.create_table(
        "job",
        _pk(),
        *_text("kind state worker"),
        *_bytes("payload"),
        *_whole("attempts not_before created_at updated_at"),
        sa.Column("error", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_job_due", "job", ["state", "not_before", "pk"])
    op.create_table(
        "ae_title",
        sa.Column("title", PLAIN, primary_key=True),
        *_text("host"),
        sa.Column("port", sa.Integer, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
    )


def _sqlite_trigrams() -> None:
    """A full-text index that keeps no text of its own; triggers tell it what changes."""
    columns = ", ".join(SUBSTRINGS)
    new = ", ".join(f"new.{column}" for column in SUBSTRINGS)
    old = ", ".join(f"old.{column}" for column in SUBSTRINGS)
    forget = f"INSERT INTO study_text (study_text, rowid, {columns}) VALUES ('delete', old.pk, {old});"  # noqa: S608 - names from above
    learn = f"INSERT INTO study_text (rowid, {columns}) VALUES (new.pk, {new});"  # noqa: S608 - likewise
    op.execute(
        f"CREATE VIRTUAL TABLE study_text USING fts5({columns}, content='study', content_rowid='pk', tokenize='trigram')"
    )
    op.execute(f"CREATE TRIGGER study_text_insert AFTER INSERT ON study BEGIN {learn} END")
    op.execute(f"CREATE TRIGGER study_text_delete AFTER DELETE ON study BEGIN {forget} END")
    op.execute(
        f"CREATE TRIGGER study_text_update AFTER UPDATE OF {columns} ON study BEGIN {forget} {learn} END"
    )


def _sqlite_statistics() -> None:
    op.execute("ANALYZE")
    table = sa.table("sqlite_stat1", sa.column("tbl"), sa.column("idx"), sa.column("stat"))
    op.bulk_insert(table, [{"tbl": t, "idx": i, "stat": numbers} for (t, i), numbers in STATISTICS.items()])


def _postgresql_trigrams() -> None:
    """Trigram indexes where the extension can be had: it is trusted, but a provider may still refuse it."""
    connection = op.get_bind()
    try:
        with connection.begin_nested():
            connection.execute(sa.text("CREATE EXTENSION IF NOT EXISTS pg_trgm"))
    except sa.exc.DBAPIError:
        # Searching by `*text*` then reads every study: slower, not wrong.
        return
    # Without fastupdate: its list of pending entries is read by every search, and studies are not that many.
    columns = ", ".join(f"{column} gin_trgm_ops" for column in SUBSTRINGS)
    op.execute(f"CREATE INDEX ix_study_text ON study USING gin ({columns}) WITH (fastupdate = off)")
