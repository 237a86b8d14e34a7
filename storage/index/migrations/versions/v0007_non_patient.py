"""Objects of no patient (PS3.4 annex GG) move into a partition of their own, where searches for studies do not look."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# PS3.4 table GG.3-1.
SOP_CLASSES = (
    "1.2.840.10008.5.1.4.38.1",
    "1.2.840.10008.5.1.4.39.1",
    "1.2.840.10008.5.1.4.43.1",
    "1.2.840.10008.5.1.4.44.1",
    "1.2.840.10008.5.1.4.45.1",
    "1.2.840.10008.5.1.4.1.1.200.1",
    "1.2.840.10008.5.1.4.1.1.200.3",
    "1.2.840.10008.5.1.4.1.1.200.7",
    "1.2.840.10008.5.1.4.1.1.201.1",
)
DEFAULT, OTHER = "default", "non-patient"


def upgrade() -> None:
    """From the sixth schema to the seventh: rows only."""
    connection = op.get_bind()
    study, series, instance = (
        sa.table(name, *(sa.column(one) for one in columns.split()))
        for name, columns in (
            ("study", "pk partition sop_classes"),
            ("series", "pk study_pk partition"),
            ("instance", "series_pk partition sop_class_uid"),
        )
    )
    # Each has been given a study of its own: one that has other objects too is a patient's, and stays.
    alone = sa.select(study.c.pk).where(
        study.c.partition == DEFAULT, study.c.sop_classes.in_([f"\\{uid}\\" for uid in SOP_CLASSES])
    )
    keys = list(connection.scalars(alone))
    for first in range(0, len(keys), 500):
        page = keys[first : first + 500]
        of_studies = sa.select(series.c.pk).where(series.c.study_pk.in_(page))
        connection.execute(sa.update(instance).where(instance.c.series_pk.in_(of_studies)).values(partition=OTHER))
        connection.execute(sa.update(series).where(series.c.study_pk.in_(page)).values(partition=OTHER))
        connection.execute(sa.update(study).where(study.c.pk.in_(page)).values(partition=OTHER))
    for name in ("instance_history", "quarantine"):
        table = sa.table(name, sa.column("partition"), sa.column("sop_class_uid"))
        known = sa.update(table).where(table.c.sop_class_uid.in_(SOP_CLASSES), table.c.partition == DEFAULT)
        connection.execute(known.values(partition=OTHER))
