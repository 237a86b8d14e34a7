"""How many studies each month and each day has is kept, so that a page far down the study list is found without walking to it.

By triggers: whatever stores, deletes or redates a study, programs of an earlier release among them, keeps it in its own
transaction.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT as PG_TEXT

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

_PLAIN = sa.Text().with_variant(PG_TEXT(collation="C"), "postgresql")
# When a study that is there becomes one of the day that it has now: more of that. When it was one before: less of that.
_CHANGED = "(old.partition <> new.partition OR old.study_date <> new.study_date OR (old.deleted_at IS NULL) <> (new.deleted_at IS NULL))"
_COLUMNS = "partition, study_date, deleted_at"
_TRIGGERS = (
    ("stored", "INSERT", "new.deleted_at IS NULL", "more"),
    ("changed_to", f"UPDATE OF {_COLUMNS}", f"new.deleted_at IS NULL AND {_CHANGED}", "more"),
    ("changed_from", f"UPDATE OF {_COLUMNS}", f"old.deleted_at IS NULL AND {_CHANGED}", "less"),
    ("removed", "DELETE", "old.deleted_at IS NULL", "less"),
)
_OWN = """partition = old.partition AND (
    (within = 'all' AND span = substr(old.study_date, 1, 6)) OR (within = substr(old.study_date, 1, 6) AND span = old.study_date)
)"""
_DOES = {
    "more": """
        INSERT INTO study_tally (partition, within, span, studies)
        VALUES (new.partition, 'all', substr(new.study_date, 1, 6), 1),
               (new.partition, substr(new.study_date, 1, 6), new.study_date, 1)
        ON CONFLICT (partition, within, span) DO UPDATE SET studies = study_tally.studies + 1;
    """,
    "less": f"""
        UPDATE study_tally SET studies = studies - 1 WHERE {_OWN};
        DELETE FROM study_tally WHERE {_OWN} AND studies = 0;
    """,  # noqa: S608 - no values
}
_PRESENT = """
    INSERT INTO study_tally (partition, within, span, studies)
    SELECT partition, substr(study_date, 1, 6), study_date, count(*) FROM study WHERE deleted_at IS NULL GROUP BY 1, 2, 3
    UNION ALL
    SELECT partition, 'all', substr(study_date, 1, 6), count(*) FROM study WHERE deleted_at IS NULL GROUP BY 1, 2, 3
"""


def upgrade() -> None:
    """The table, filled, and what keeps it from now on; of a million studies it takes seconds."""
    op.create_table(
        "study_tally",
        *(sa.Column(name, _PLAIN, primary_key=True) for name in ("partition", "within", "span")),
        sa.Column("studies", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    if op.get_bind().dialect.name == "sqlite":
        _sqlite()
    else:
        _postgresql()
    op.execute(_PRESENT)


def _sqlite() -> None:
    for name, event, condition, does in _TRIGGERS:
        op.execute(f"CREATE TRIGGER study_tally_{name} AFTER {event} ON study WHEN {condition} BEGIN {_DOES[does]} END")


def _postgresql() -> None:
    """Deferred to the commit: there the transaction has taken the change counter (`storage.index.add`), which everybody waits for
    in turn, so that nobody waits longer for the tally of today, or in another order."""
    for does, body in _DOES.items():
        op.execute(f"CREATE FUNCTION study_tally_{does}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NULL; END $$")
    for name, event, condition, does in _TRIGGERS:
        op.execute(
            f"CREATE CONSTRAINT TRIGGER study_tally_{name} AFTER {event} ON study DEFERRABLE INITIALLY DEFERRED"
            f" FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION study_tally_{does}()"
        )
