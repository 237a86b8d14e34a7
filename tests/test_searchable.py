"""Additional searchable attributes: found by their index at their level, new instances and old, on both engines."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import orjson
import pytest
from sqlalchemy import func, select, text, update

from storage import private
from storage.attributes import tag_of
from storage.errors import BadRequest, NotFound, UnsupportedQuery
from storage.index import Index, backfill
from storage.index.backfill import index_attribute
from storage.index.deletions import Deletions
from storage.index.find import _plan, _Search
from storage.index.plan import Plan
from storage.index.searchable import INDEX_ATTRIBUTE, MOST, SETTLED_SECONDS
from storage.index.searchable_names import level_named, path_named, vr_named
from storage.index.searchable_values import write_rows
from storage.index.settle import WRITE_VALUES
from storage.index.tables import instance, searchable_value
from storage.index.values_anew import write_values
from storage.jobs import JobQueue
from storage.matching import parse
from storage.per_frame import Encoded
from storage.rejection import Why
from storage.types import Level, Query, Scope
from tests.support.entries import entry, values
from tests.support.indexes import conditions

ACME = "ACME 1.1"


def add(index: Index, name: str, *, creator: str = "", vr: str = "", level: str = "", ready: bool = True) -> int:
    path = path_named(name, creator)
    index.searchables.add(path, vr_named(path, vr), level_named(level))
    pk = index.searchables.all()[-1].pk
    if ready:
        index_attribute(index, pk)
        index.searchables.forget()
    return pk


def asked(name: str, value: str, vr: str = "", creator: str = "") -> Any:
    path = path_named(name, creator)
    return ((path, parse(path, vr_named(path, vr), value)),)


def instances(index: Index, level: Level, condition: Any, **options: Any) -> list[str]:
    keyword = {Level.STUDY: "StudyInstanceUID", Level.SERIES: "SeriesInstanceUID", Level.IMAGE: "SOPInstanceUID"}[level]
    return sorted(values(index.find(Query(level, condition, frozenset(), **options)), keyword))


def stored(n: int, **attributes: Any) -> Any:
    return entry(f"1.{n}", "1", "1", **attributes)


def with_private(n: int, value: Any, *, block: str = "10", creator: str = ACME, vr: str = "LO") -> Any:
    made = stored(n)
    dataset = {
        **made.scan.dataset,
        f"000900{block}": {"vr": "LO", "Value": [creator]},
        f"0009{block}01": {"vr": vr, "Value": [value]},
    }
    return replace(made, scan=replace(made.scan, dataset=dataset, encoded=Encoded(orjson.dumps(dataset))))


# (attribute, VR where no dictionary has it, level of the search, what is asked, stored values, which of them match)
CASES: list[tuple[str, Level, str, list[Any], list[int]]] = [
    ("ProtocolName", Level.SERIES, "Thorax", ["Thorax", "thorax", "Thorax 2", None], [0]),
    ("ProtocolName", Level.SERIES, "*orax*", ["Thorax", "Head", "Thorax 2"], [0, 2]),
    ("ProtocolName", Level.STUDY, "Thorax", ["Thorax", "Head"], [0]),
    ("ProtocolName", Level.IMAGE, "T?orax", ["Thorax", "Head"], [0]),
    ("PatientAge", Level.STUDY, "035Y", ["035Y", "036Y"], [0]),
    ("PatientComments", Level.STUDY, '""', ["calm", None], [1]),
    ("KVP", Level.IMAGE, "120", [120.0, 100.0, "120.0"], [0, 2]),
    ("KVP", Level.STUDY, "120", [120.0, 100.0], [0]),
    ("EchoTrainLength", Level.IMAGE, "7", [7, 70], [0]),
    ("ContentDate", Level.IMAGE, "20240101-20240131", ["20240115", "20240201", None], [0]),
    ("ContentTime", Level.SERIES, "10-1059", ["1030", "1130"], [0]),
    ("OperatorsName", Level.SERIES, "doe*", ["Doe^Jane", "Roe", "DOE"], [0, 2]),
    ("ImageType", Level.IMAGE, "PRIMARY", [["ORIGINAL", "PRIMARY"], ["DERIVED", "SECONDARY"]], [0]),
    ("FrameOfReferenceUID", Level.STUDY, "1.2\\1.3", ["1.2", "1.3", "1.4"], [0, 1]),
    ("ProcedureCodeSequence.CodeValue", Level.STUDY, "B", [[{"CodeValue": "A"}, {"CodeValue": "B"}], [{"CodeValue": "C"}]], [0]),
    ("ViewCodeSequence.CodeMeaning", Level.SERIES, "med*", [[{"CodeMeaning": "medio-lateral"}], None], [0]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "level", "value", "stored_values", "expected"), CASES)
@pytest.mark.parametrize("old", [True, False])
def test_found_by_its_index(
    index: Index, name: str, level: Level, value: str, stored_values: list[Any], expected: list[int], old: bool
) -> None:
    """What was there before, and what comes after."""
    entries = [stored(n, **{name.split(".")[0]: one}) for n, one in enumerate(stored_values)]
    if old:
        index.add(entries)
    add(index, name)
    if not old:
        index.add(entries)
    condition = asked(name, value)
    plan = Plan(Query(level, condition), sqlite=True, searchable=index.searchables.known())
    assert plan.exact, "its index alone decides"
    found = values(index.find(Query(level, condition, frozenset())), "StudyInstanceUID")
    assert sorted(found) == [f"1.{n}" for n in expected]


def test_conditions_in_one_sequence_are_met_by_one_item(index: Index) -> None:
    """C.2.2.2.6: the indexes narrow, the items decide."""
    for name in ("ProcedureCodeSequence.CodeValue", "ProcedureCodeSequence.CodingSchemeDesignator"):
        add(index, name)
    pairs = [[("A", "X"), ("B", "Y")], [("A", "Y")]]
    index.add([
        stored(n, ProcedureCodeSequence=[{"CodeValue": v, "CodingSchemeDesignator": s} for v, s in one]) for n, one in enumerate(pairs)
    ])  # fmt: skip
    both = (*asked("ProcedureCodeSequence.CodeValue", "A"), *asked("ProcedureCodeSequence.CodingSchemeDesignator", "Y"))
    assert instances(index, Level.STUDY, both) == ["1.1"]


# --- private attributes -------------------------------------------------------------------------------------------


def test_private_attributes_whatever_their_block(index: Index) -> None:
    """PS3.5 7.8.1; at the level of the instance where nothing else was said."""
    index.add([with_private(0, "x"), with_private(1, "x", block="11"), with_private(2, "x", creator="OTHER"), with_private(3, "y")])
    condition = asked("00091001", "x", "LO", ACME)
    looked_at = instances(index, Level.IMAGE, condition)
    add(index, "00091001", creator=ACME, vr="LO")
    assert len(looked_at) == 2
    assert instances(index, Level.IMAGE, condition) == looked_at
    assert values(index.find(Query(Level.STUDY, condition, frozenset())), "StudyInstanceUID") == ["1.1", "1.0"]


def test_a_private_attribute_of_the_study(index: Index) -> None:
    index.add([with_private(0, "x"), with_private(1, "y")])
    pk = add(index, "00091001", creator=ACME, vr="LO", level="study", ready=False)
    condition = asked("00091001", "x", "LO", ACME)
    with pytest.raises(UnsupportedQuery, match="still being indexed"):
        index.find(Query(Level.STUDY, condition))
    index_attribute(index, pk)
    index.searchables.forget()
    assert instances(index, Level.STUDY, condition) == ["1.0"]
    assert instances(index, Level.STUDY, asked("00091001", "*", "LO", ACME)) == ["1.0", "1.1"]


def test_private_attributes_come_back_with_their_creator(index: Index) -> None:
    index.add([with_private(0, "x", block="1A")])
    fields = frozenset({private.joined(path_named("00091001", ACME))})
    (row,) = index.find(Query(Level.IMAGE, fields=fields))
    assert (row["00091A01"]["Value"], row["0009001A"]["Value"]) == (["x"], [ACME])


# --- indexing -----------------------------------------------------------------------------------------------------


def test_the_job_is_enqueued_for_when_every_ingest_knows(index: Index) -> None:
    pk = add(index, "ProtocolName", ready=False)
    assert JobQueue(index).claim("w") == []
    later = JobQueue(index, clock=lambda: time.time() + SETTLED_SECONDS + 1)
    (job,) = later.claim("w")
    assert (job.kind, dict(job.payload)) == (INDEX_ATTRIBUTE, {"attribute": pk})


def test_indexing_goes_on_where_it_stopped_and_says_how_far_it_is(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfill, "_PAGE", 3)
    index.add([stored(n, KVP=n) for n in range(8)])
    pk = add(index, "KVP", ready=False)
    seen = []
    write = write_rows

    def stopping(connection: Any, rows: Any) -> None:
        seen.append(len(rows))
        if len(seen) == 3:
            raise KeyboardInterrupt
        write(connection, rows)

    monkeypatch.setattr(backfill, "write_rows", stopping)
    with pytest.raises(KeyboardInterrupt):
        index_attribute(index, pk)
    (one,) = index.searchables.all()
    assert (one.done, one.total, one.ready) == (6, 8, False)
    monkeypatch.setattr(backfill, "write_rows", write)
    index_attribute(index, pk)
    (one,) = index.searchables.all()
    assert (one.done, one.total, one.ready) == (8, 8, True)
    index.searchables.forget()
    assert [instances(index, Level.STUDY, asked("KVP", str(n))) for n in (0, 5, 7)] == [["1.0"], ["1.5"], ["1.7"]]
    index_attribute(index, pk)
    index_attribute(index, 999)


def test_until_it_is_ready_rows_are_looked_at_one_by_one(index: Index) -> None:
    index.add([stored(0, KVP=120.0), stored(1, KVP=100.0)])
    add(index, "KVP", ready=False)
    index.add([stored(2, KVP=120.0)])
    assert values(index.find(Query(Level.IMAGE, asked("KVP", "120"), frozenset())), "StudyInstanceUID") == ["1.2", "1.0"]


def test_a_replaced_instance_is_found_by_what_it_has_now(index: Index) -> None:
    add(index, "KVP")
    index.add([stored(0, KVP=120.0)])
    index.add([replace(stored(0, KVP=90.0), sha256="other", object_key="other")], duplicates="replace")
    assert instances(index, Level.STUDY, asked("KVP", "120")) == []
    assert instances(index, Level.STUDY, asked("KVP", "90")) == ["1.0"]


def test_what_is_deleted_is_not_found(index: Index) -> None:
    """An instance's row stays for a while; its values lead nowhere then."""
    add(index, "KVP")
    index.add([stored(0, KVP=120.0), stored(1, KVP=120.0)])
    with index.database.write() as connection:
        connection.execute(update(instance).where(instance.c.sop_instance_uid.like("1.0.%")).values(deleted_at=1))
    assert instances(index, Level.STUDY, asked("KVP", "120")) == ["1.1"]


# An attribute that the series keeps, a private one of the series that only its instances know, and one of the study.
ABOVE = [("ProtocolName", "", ""), ("00091001", ACME, "series"), ("00091001", ACME, "study")]


@pytest.mark.parametrize(("name", "creator", "level"), ABOVE)
def test_values_of_series_and_study_are_those_of_the_instances_that_are_left(
    index: Index, name: str, creator: str, level: str
) -> None:
    add(index, name, creator=creator, vr="LO", level=level)
    contents = [with_private(0, value) for value in "xyx"]
    for number, one in enumerate(contents):
        uids = replace(one.scan.uids, instance=f"1.0.1.{number}")
        dataset = {**one.scan.dataset, "00080018": {"vr": "UI", "Value": [uids.instance]}}
        dataset[tag_of("ProtocolName")] = {"vr": "LO", "Value": ["xyx"[number]]}
        scan = replace(one.scan, uids=uids, dataset=dataset, encoded=Encoded(orjson.dumps(dataset)))
        index.add([replace(one, scan=scan, sha256=f"{number}", object_key=f"{number}")])

    def found() -> list[str]:
        write_values_of(index)
        return [value for value in "xy" if instances(index, Level.STUDY, asked(name, value, "LO", creator))]

    kept = not creator
    assert found() == (["x"] if kept else ["x", "y"])
    made = [Deletions(index).delete(Scope("1.0", "1.0.1", f"1.0.1.{number}"), Why(), "x").id for number in (0, 1)]
    assert found() == ["x"]
    made.append(Deletions(index).delete(Scope("1.0"), Why(), "x").id)
    assert found() == []
    Deletions(index).restore(made[1], "x")
    assert found() == ["y"]
    Deletions(index).restore(made[0], "x")
    assert found() == (["x"] if kept else ["x", "y"])


def write_values_of(index: Index) -> None:
    """As the worker does it."""
    queue = JobQueue(index)
    for job in queue.claim("w", kinds=[WRITE_VALUES], limit=100):
        write_values(index, job.payload["study"])
        assert queue.done(job)


def test_a_value_that_comes_later_is_found(index: Index) -> None:
    """The study's first instance says nothing, a later one does (`rows.merge`)."""
    add(index, "PatientComments")
    index.add([stored(0, PatientComments=None)])
    index.add([entry("1.0", "1", "2", PatientComments="calm")])
    assert instances(index, Level.STUDY, asked("PatientComments", "calm")) == ["1.0"]


def test_nothing_is_written_where_nothing_was_added(index: Index) -> None:
    index.add([stored(0, KVP=120.0)])
    with index.database.read() as connection:
        assert connection.scalar(select(func.count()).select_from(searchable_value)) == 0


def test_removed_with_its_index(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.index.searchable._CHUNK", 2)
    index.add([stored(n, KVP=n) for n in range(5)])
    add(index, "KVP")
    index.searchables.remove(path_named("KVP"))
    with index.database.read() as connection:
        assert connection.scalar(select(func.count()).select_from(searchable_value)) == 0
    assert index.searchables.known() == {}
    with pytest.raises(NotFound):
        index.searchables.remove(path_named("KVP"))


def test_its_index_is_used(index: Index) -> None:
    if not index.database.sqlite:
        pytest.skip("plans of PostgreSQL depend on how much there is")
    add(index, "KVP")
    add(index, "ProtocolName")
    for name, value, way in (("KVP", "120", "ix_searchable_value_number"), ("ProtocolName", "T*", "ix_searchable_value_text")):
        query = Query(Level.STUDY, asked(name, value), frozenset(), limit=10)
        search = _Search(index.database, query, _plan(index.database, query, index.searchables.known()))
        with index.database.read() as connection:
            statement = search._select([], 10, 0).compile(connection.engine, compile_kwargs={"literal_binds": True})
            plan = " / ".join(row[3] for row in connection.execute(text(f"EXPLAIN QUERY PLAN {statement}")))
        assert way in plan, plan


# --- what cannot be added -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "creator", "vr", "level", "what"),
    [
        ("Nonsense", "", "", "", "Nonsense"),
        ("00189999", "", "", "", "00189999"),
        ("00091001", "", "", "", "private"),
        ("00091001", "Nobody", "", "", "--vr"),
        ("00091001", ACME, "ZZ", "", "ZZ"),
        ("00091001", ACME, "LO", "patients", "patients"),
        ("KVP", "", "", "study", "IMAGE"),
        ("StudyDate", "", "", "", "StudyDate"),
        ("ModalitiesInStudy", "", "", "", "ModalitiesInStudy"),
        ("PixelData", "", "", "", "PixelData"),
        ("ProcedureCodeSequence", "", "", "", "ProcedureCodeSequence"),
        ("ProcedureCodeSequence.", "", "", "", "''"),
    ],
)
def test_what_cannot_be_added_is_named(index: Index, name: str, creator: str, vr: str, level: str, what: str) -> None:
    with pytest.raises(BadRequest, match=what):
        add(index, name, creator=creator, vr=vr, level=level)
    assert index.searchables.all() == []


def test_no_two_and_not_too_many(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    add(index, "KVP")
    with pytest.raises(BadRequest, match="already"):
        add(index, "00180060")
    monkeypatch.setattr("storage.index.searchable.MOST", 1)
    with pytest.raises(BadRequest, match="remove one"):
        add(index, "ProtocolName")
    assert MOST > 1


def test_conditions_of_other_attributes_are_as_before(index: Index) -> None:
    add(index, "KVP")
    index.add([stored(0, KVP=120.0, PatientID="A"), stored(1, KVP=120.0, PatientID="B")])
    assert instances(index, Level.STUDY, (*asked("KVP", "120"), *conditions({"PatientID": "B"}))) == ["1.1"]
    assert tag_of("KVP") not in next(index.find(Query(Level.STUDY, asked("KVP", "120"), frozenset())))
