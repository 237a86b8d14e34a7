"""The statements of `add`, built once and compiled once per engine."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BindParameter, Table, bindparam, insert, select, text, update

from storage.index.deletion_tables import deletion, legal_hold, tombstone
from storage.index.inserting import ByEngine, insert_into
from storage.index.prepared import Prepared
from storage.index.tables import counter, instance, quarantine, series, study

UIDS: BindParameter[Any] = bindparam("uids", expanding=True)

# The instances of these UIDs, with everything that their history would keep.
EXISTING = Prepared(
    select(
        *(instance.c[name] for name in (
            "pk", "sop_instance_uid", "sop_class_uid", "transfer_syntax_uid", "object_key", "sha256", "size", "source",
            "received_at", "revision", "deleted_at", "deletion_pk",
        )),
        series.c.series_instance_uid,
        study.c.study_instance_uid,
        deletion.c.code,
    )
    .join_from(instance, series, instance.c.series_pk == series.c.pk)
    .join(study, series.c.study_pk == study.c.pk)
    .outerjoin(deletion, instance.c.deletion_pk == deletion.c.pk)
    .where(instance.c.partition == bindparam("in_partition"), instance.c.sop_instance_uid.in_(UIDS)),
    "uids",
)  # fmt: skip

# Those of the UIDs that are gone for good and are not taken again.
TOMBSTONES = Prepared(
    select(tombstone.c.sop_instance_uid, tombstone.c.sha256, tombstone.c.code).where(
        tombstone.c.partition == bindparam("in_partition"), tombstone.c.sop_instance_uid.in_(UIDS)
    ),
    "uids",
)

# Those of the studies of which nothing may be replaced.
HELD = Prepared(
    select(legal_hold.c.study_instance_uid).where(
        legal_hold.c.partition == bindparam("in_partition"), legal_hold.c.study_instance_uid.in_(UIDS)
    ),
    "uids",
)

# Locked in the order of their UIDs, so that two batches with the same studies wait for each other in turn.
STUDIES = Prepared(
    select(
        *(study.c[name] for name in (
            "pk", "study_instance_uid", "attributes", "modalities", "sop_classes", "number_of_series",
            "number_of_instances", "size", "revision", "deleted_at",
        ))
    )
    .where(study.c.partition == bindparam("in_partition"), study.c.study_instance_uid.in_(UIDS))
    .order_by(study.c.study_instance_uid)
    .with_for_update(),
    "uids",
)  # fmt: skip

SERIES = Prepared(
    select(
        *(series.c[name] for name in (
            "pk", "study_pk", "series_instance_uid", "attributes", "number_of_instances", "size", "revision",
            "deleted_at",
        ))
    ).where(series.c.study_pk.in_(bindparam("studies", expanding=True)), series.c.series_instance_uid.in_(UIDS)),
    "studies",
    "uids",
)  # fmt: skip

UPDATE_STUDY = Prepared(
    update(study)
    .where(study.c.pk == bindparam("row"))
    .values({name: bindparam(f"new_{name}") for name in (
        "modalities", "sop_classes", "number_of_series", "number_of_instances", "size", "revision", "updated_at",
    )})
    .values(deleted_at=None)
)  # fmt: skip

UPDATE_SERIES = Prepared(
    update(series)
    .where(series.c.pk == bindparam("row"))
    .values(
        {name: bindparam(f"new_{name}") for name in ("number_of_instances", "size", "revision", "updated_at")}
    )
    .values(deleted_at=None)
)

TAKE_CHANGES = Prepared(
    update(counter)
    .where(counter.c.name == "change")
    .values(value=counter.c.value + bindparam("number"))
    .returning(counter.c.value)
)

# A newcomer that is sent again and again is one row that counts.
_AGAIN = {"times": quarantine.c.times + 1}
_QUARANTINE_KEY = ["partition", "sop_instance_uid", "sha256"]

ADD_STUDY = ByEngine(lambda dialect: insert_into(dialect, study).on_conflict_do_nothing())
ADD_QUARANTINE = ByEngine(
    lambda dialect: insert_into(dialect, quarantine).on_conflict_do_update(index_elements=_QUARANTINE_KEY, set_=_AGAIN)
)
_ADD: dict[Table, Prepared] = {}


def add_to(table: Table) -> Prepared:
    """A plain INSERT into `table`, which gives nothing back."""
    if table not in _ADD:
        _ADD[table] = Prepared(insert(table).inline())
    return _ADD[table]


# New primary keys of instances, taken before the rows are written. On SQLite the transaction is alone, so the last one tells.
NEW_KEYS: dict[str, Prepared] = {
    "sqlite": Prepared(text("SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'instance'), 0)")),
    "postgresql": Prepared(
        text("SELECT nextval(pg_get_serial_sequence('instance', 'pk')) FROM generate_series(1, :number)")
    ),
}
