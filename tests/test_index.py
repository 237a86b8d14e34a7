"""The index on SQLite and PostgreSQL: what goes in, what is found, and that the two engines agree with the pure matcher."""

from __future__ import annotations

import hashlib
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import func, make_url, select, text, update

from storage.attributes import TABLE, default_fields, tag_of
from storage.errors import BadRequest, IndexUnavailable, LightboxError, StoreFull, UnsupportedQuery
from storage.index import Added, Counts, Entry, Index, open_index
from storage.index import tables as t
from storage.index.ae import AeTitle, add_ae_title, ae_title_of, ae_titles, remove_ae_title
from storage.index.database import CommitUnknown, Database
from storage.index.plan import Plan
from storage.matching import combined, matches_dataset, parse
from storage.scanner import scan
from storage.types import BulkItem, Flag, Job, Level, Outcome, Query, Scope, Source
from tests.support.corpus import corpus_files
from tests.support.entries import RECEIVED, entry, values
from tests.support.postgres import PostgresServer
from tests.support.proxies import Proxy, proxy
from tests.test_matching import FUZZY_ROWS, MOMENTS, ROWS, TWO_ITEMS, YAMADA, moment_conditions

ENGINES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


@pytest.fixture(scope="module")
def empty_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file without a row, to be copied: quicker than to migrate for every test."""
    path = tmp_path_factory.mktemp("empty") / "index.db"
    open_index(f"sqlite:///{path}").close()
    return path


@pytest.fixture(scope="module")
def postgres_once(postgres_server: PostgresServer) -> Iterator[str]:
    """A migrated PostgreSQL database, to be emptied for every test."""
    with postgres_server.database() as url:
        open_index(url).close()
        yield url


@pytest.fixture(params=ENGINES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("empty_file"), tmp_path / "index.db")
        return f"sqlite:///{tmp_path / 'index.db'}"
    found: str = request.getfixturevalue("postgres_once")
    names = ", ".join(table.name for table in t.metadata.sorted_tables if table is not t.counter)
    database = Database(found)
    with database.write() as connection:
        connection.execute(text(f"TRUNCATE {names} RESTART IDENTITY CASCADE"))
        connection.execute(update(t.counter).values(value=0))
    database.close()
    return found


@pytest.fixture
def index(url: str) -> Iterator[Index]:
    opened = open_index(url)
    yield opened
    opened.close()


def conditions(asked: dict[str, str]) -> Any:
    made = []
    for keyword, value in asked.items():
        path = tuple(tag_of(part) for part in keyword.split("__"))
        made.append((path, parse(path, _vr(keyword.split("__")[-1]), value)))
    return tuple(made)


def _vr(keyword: str) -> str:
    if keyword in TABLE:
        return TABLE[keyword].vr
    from pydicom.datadict import dictionary_VR

    return dictionary_VR(tag_of(keyword))


def find(index: Index, level: Level, fields: list[str] | None = None, **asked: Any) -> list[Any]:
    options = {name: asked.pop(name) for name in ("limit", "offset", "fuzzy") if name in asked}
    wanted = None if fields is None else frozenset(".".join(tag_of(p) for p in f.split("__")) for f in fields)
    return list(index.find(Query(level, combined(conditions(asked)), wanted, **options)))


def studies(index: Index, **asked: Any) -> list[Any]:
    return values(find(index, Level.STUDY, [], **asked), "StudyInstanceUID")


def level_of(keyword: str) -> Level:
    return TABLE[keyword].level


# --- matching: the rows of test_matching, through SQL -------------------------------------------------------------


def test_sql_agrees_with_the_pure_matcher_row_by_row(index: Index) -> None:
    uids = [f"1.2.{number}" for number in range(len(ROWS))]
    index.add([entry(uid, **{keyword: value}) for uid, (keyword, _, value, _) in zip(uids, ROWS, strict=True)])
    wrong = []
    for uid, (keyword, asked, value, expected) in zip(uids, ROWS, strict=True):
        query = Query(level_of(keyword), conditions({"StudyInstanceUID": uid, keyword: asked}), frozenset())
        assert Plan(query, sqlite=index.database.sqlite).exact, keyword
        if bool(list(index.find(query))) is not expected:
            wrong.append((keyword, asked, value, expected))
    assert wrong == []


def test_sql_agrees_with_the_pure_matcher_across_all_rows(index: Index) -> None:
    """Every question of the table put to every answer of it: what SQL finds is what the pure matcher finds."""
    index.add([entry(f"1.2.{n}", **{keyword: value}) for n, (keyword, _, value, _) in enumerate(ROWS)])
    everything = {level: find(index, level) for level in (Level.STUDY, Level.SERIES, Level.IMAGE)}
    wrong = []
    for keyword, asked, _, _ in ROWS:
        level = Level.STUDY if level_of(keyword) is Level.PATIENT else level_of(keyword)
        found = find(index, level, [], **{keyword: asked})
        expected = [d for d in everything[level] if matches_dataset(conditions({keyword: asked}), d)]
        if values(found, "StudyInstanceUID") != values(expected, "StudyInstanceUID"):
            wrong.append((keyword, asked))
    assert wrong == []


def test_sql_agrees_on_fuzzy_names(index: Index) -> None:
    index.add([entry(f"1.2.{n}", PatientName=value) for n, (_, value, _) in enumerate(FUZZY_ROWS)])
    everything = find(index, Level.STUDY)
    wrong = []
    for number, (asked, value, expected) in enumerate(FUZZY_ROWS):
        found = studies(index, PatientName=asked, fuzzy=True)
        pure = [d for d in everything if matches_dataset(conditions({"PatientName": asked}), d, fuzzy=True)]
        if (f"1.2.{number}" in found) is not expected or found != values(pure, "StudyInstanceUID"):
            wrong.append((asked, value, expected))
    assert wrong == []


def test_sql_agrees_on_moments(index: Index) -> None:
    rows = list(enumerate(MOMENTS))
    index.add([entry(f"1.2.{n}", StudyDate=date, StudyTime=time) for n, (_, _, date, time, _) in rows])
    wrong = []
    for number, (dates, times, _, _, expected) in rows:
        found = list(index.find(Query(Level.STUDY, moment_conditions(dates, times), frozenset())))
        if (f"1.2.{number}" in values(found, "StudyInstanceUID")) is not expected:
            wrong.append((number, MOMENTS[number]))
    assert wrong == []


# --- find ---------------------------------------------------------------------------------------------------------


def archive_of_three(index: Index) -> None:
    """Two studies of Doe (CT and SR; MR), one of Roe."""
    doe: dict[str, Any] = {"PatientName": "Doe^Jane", "PatientID": "D", "PatientBirthDate": "19700101", "PatientComments": "calm"}
    first: dict[str, Any] = {**doe, "StudyDate": "20240101", "StudyTime": "10", "StudyDescription": "THORAX", "AccessionNumber": "A1"}
    index.add(
        [
            entry("1.1", "1", "1", Modality="CT", SeriesNumber=2, InstanceNumber=2, Rows=512, Manufacturer="Acme", **first),
            entry("1.1", "1", "2", Modality="CT", SeriesNumber=2, InstanceNumber=1, Rows=256, Manufacturer="Acme", **first),
            entry("1.1", "2", "1", Modality="SR", SeriesNumber=1, sop_class="1.2.840.10008.5.1.4.1.1.88.11", **first),
            entry("1.2", "1", "1", Modality="MR", SeriesNumber=1, StudyDate="20240202", **doe),
            entry("1.3", "1", "1", Modality="MR", StudyDate="20240101", StudyTime="09", PatientName="Roe", PatientID="R"),
        ]
    )


FOUND: list[tuple[Level, dict[str, str], list[str]]] = [
    (Level.STUDY, {}, ["1.2", "1.1", "1.3"]),
    (Level.STUDY, {"PatientID": "D"}, ["1.2", "1.1"]),
    (Level.STUDY, {"ModalitiesInStudy": "SR"}, ["1.1"]),
    (Level.STUDY, {"ModalitiesInStudy": "CT\\MR"}, ["1.2", "1.1", "1.3"]),
    (Level.STUDY, {"ModalitiesInStudy": "?R"}, ["1.2", "1.1", "1.3"]),
    (Level.STUDY, {"ModalitiesInStudy": "US"}, []),
    (Level.STUDY, {"SOPClassesInStudy": "1.2.840.10008.5.1.4.1.1.88.11"}, ["1.1"]),
    (Level.STUDY, {"SOPClassesInStudy": "1.2.840.10008.5.1.4.1.1.88.1"}, []),
    (Level.STUDY, {"NumberOfStudyRelatedInstances": "3"}, ["1.1"]),
    (Level.STUDY, {"NumberOfStudyRelatedSeries": "1\\2"}, ["1.2", "1.1", "1.3"]),
    (Level.STUDY, {"InstanceAvailability": "ONLINE"}, ["1.2", "1.1", "1.3"]),
    (Level.STUDY, {"InstanceAvailability": "OFFLINE"}, []),
    # What has no column is matched on the row; at lower levels only what some series has.
    (Level.STUDY, {"PatientComments": "CALM"}, []),
    (Level.STUDY, {"PatientComments": "c*m"}, ["1.2", "1.1"]),
    (Level.STUDY, {"Manufacturer": "Acme"}, ["1.1"]),
    (Level.STUDY, {"Manufacturer": "Acme", "Modality": "SR"}, []),
    # Relational queries: one and the same series, and one and the same instance of it.
    (Level.STUDY, {"Modality": "CT"}, ["1.1"]),
    (Level.STUDY, {"Modality": "SR", "SeriesNumber": "2"}, []),
    (Level.STUDY, {"Modality": "SR", "InstanceNumber": "1"}, []),
    (Level.STUDY, {"Modality": "CT", "InstanceNumber": "1"}, ["1.1"]),
    (Level.STUDY, {"SOPInstanceUID": "1.1.2.1"}, ["1.1"]),
    (Level.SERIES, {}, ["1.2.1", "1.1.2", "1.1.1", "1.3.1"]),
    (Level.SERIES, {"PatientName": "doe*"}, ["1.2.1", "1.1.2", "1.1.1"]),
    (Level.SERIES, {"Modality": "CT"}, ["1.1.1"]),
    (Level.SERIES, {"ModalitiesInStudy": "SR"}, ["1.1.2", "1.1.1"]),
    (Level.SERIES, {"NumberOfSeriesRelatedInstances": "2"}, ["1.1.1"]),
    (Level.SERIES, {"InstanceNumber": "1"}, ["1.1.1"]),
    (Level.SERIES, {"PatientComments": "calm", "Manufacturer": "A*"}, ["1.1.1"]),
    (Level.IMAGE, {"StudyInstanceUID": "1.1"}, ["1.1.2.1", "1.1.1.2", "1.1.1.1"]),
    (Level.IMAGE, {"Rows": "512"}, ["1.1.1.1"]),
    (Level.IMAGE, {"PatientComments": "calm", "Rows": "256"}, ["1.1.1.2"]),
    (Level.IMAGE, {"AvailableTransferSyntaxUID": "1.2.840.10008.1.2.1", "Modality": "SR"}, ["1.1.2.1"]),
    (Level.PATIENT, {}, ["D", "R"]),
    (Level.PATIENT, {"PatientName": "r*"}, ["R"]),
    (Level.PATIENT, {"PatientComments": "calm"}, ["D"]),
    (Level.PATIENT, {"StudyDate": "20240202"}, ["D"]),
    (Level.PATIENT, {"Modality": "CT"}, ["D"]),
]


def test_what_is_found_in_which_order(index: Index) -> None:
    archive_of_three(index)
    keys = {
        Level.PATIENT: "PatientID",
        Level.STUDY: "StudyInstanceUID",
        Level.SERIES: "SeriesInstanceUID",
        Level.IMAGE: "SOPInstanceUID",
    }
    found = [(level, asked, values(find(index, level, [], **asked), keys[level])) for level, asked, _ in FOUND]
    assert found == FOUND


@pytest.mark.parametrize(
    ("level", "asked"),
    [
        (Level.STUDY, {"ConversionType": "WSD"}),
        (Level.SERIES, {"ConversionType": "WSD"}),
        (Level.PATIENT, {"Manufacturer": "Acme"}),
        (Level.PATIENT, {"ProcedureCodeSequence__CodeValue": "X"}),
        (Level.PATIENT, {"NumberOfPatientRelatedStudies": "2"}),
        (Level.STUDY, {"RetrieveAETitle": "X"}),
    ],
)
def test_what_cannot_be_matched_is_refused_at_once(index: Index, level: Level, asked: dict[str, str]) -> None:
    with pytest.raises(UnsupportedQuery, match=next(iter(asked)).split("__")[0]):
        index.find(Query(level, conditions(asked)))


def test_an_answer_has_what_was_asked_for_and_the_unique_keys(index: Index) -> None:
    archive_of_three(index)
    fields = ["PatientName", "ModalitiesInStudy", "SOPClassesInStudy", "NumberOfStudyRelatedSeries"]
    fields += ["NumberOfStudyRelatedInstances", "InstanceAvailability", "SpecificCharacterSet", "StudyID"]
    (found,) = find(index, Level.STUDY, fields, StudyInstanceUID="1.1")
    assert found == {
        "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
        "00080056": {"vr": "CS", "Value": ["ONLINE"]},
        "00080061": {"vr": "CS", "Value": ["CT", "SR"]},
        "00080062": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.88.11"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane"}]},
        "0020000D": {"vr": "UI", "Value": ["1.1"]},
        "00201206": {"vr": "IS", "Value": [2]},
        "00201208": {"vr": "IS", "Value": [3]},
    }
    assert list(found) == sorted(found)


def test_an_answer_below_has_what_was_asked_for_from_above(index: Index) -> None:
    archive_of_three(index)
    fields = ["PatientName", "Manufacturer", "Rows", "NumberOfSeriesRelatedInstances", "NumberOfStudyRelatedSeries"]
    (series,) = find(index, Level.SERIES, fields, SeriesInstanceUID="1.1.1")
    assert values([series], "PatientName") == [{"Alphabetic": "Doe^Jane"}]
    assert values([series], "Manufacturer") == ["Acme"]
    assert values([series], "NumberOfSeriesRelatedInstances") == [2]
    assert tag_of("Rows") not in series
    (instance,) = find(index, Level.IMAGE, fields, SOPInstanceUID="1.1.1.1")
    assert values([instance], "Rows") == [512]
    assert values([instance], "NumberOfStudyRelatedSeries") == [2]
    assert values([instance], "SeriesInstanceUID") == ["1.1.1"]


@pytest.mark.parametrize("level", [Level.STUDY, Level.SERIES, Level.IMAGE])
def test_default_fields_are_there(index: Index, level: Level) -> None:
    """Whatever the attributes say, the standard's computed fields and unique keys are in every answer."""
    archive_of_three(index)
    fields = default_fields(level)
    (found, *_) = index.find(Query(level, conditions({"StudyInstanceUID": "1.1"}), fields))
    assert set(found) <= fields | {tag_of("StudyInstanceUID"), tag_of("SeriesInstanceUID")}
    assert tag_of("SpecificCharacterSet") in found


def test_all_fields_of_an_instance_are_its_metadata_and_more(index: Index) -> None:
    archive_of_three(index)
    (found,) = find(index, Level.IMAGE, None, SOPInstanceUID="1.1.1.1")
    for keyword in ("Rows", "Manufacturer", "PatientComments", "ModalitiesInStudy", "AvailableTransferSyntaxUID"):
        assert tag_of(keyword) in found


def test_fields_inside_sequences(index: Index) -> None:
    index.add([entry("1.1", RequestAttributesSequence=_items())])
    wanted = ["RequestAttributesSequence__ScheduledProcedureStepID"]
    (found,) = find(index, Level.SERIES, wanted, RequestAttributesSequence__RequestedProcedureID="R2")
    items = found[tag_of("RequestAttributesSequence")]["Value"]
    assert [list(item) for item in items] == [[tag_of("ScheduledProcedureStepID")]] * 2
    assert find(index, Level.SERIES, [], RequestAttributesSequence__RequestedProcedureID="R3") == []
    both = {
        "RequestAttributesSequence__RequestedProcedureID": "R2",
        "RequestAttributesSequence__ScheduledProcedureStepID": "S1",
    }
    assert find(index, Level.SERIES, [], **both) == []


def _items() -> Any:
    return [
        {"ScheduledProcedureStepID": "S1", "RequestedProcedureID": "R1"},
        {"ScheduledProcedureStepID": "S2", "RequestedProcedureID": "R2"},
    ]


def test_sequences_of_the_table_are_those_of_the_matching_rows() -> None:
    assert entry(RequestAttributesSequence=_items()).scan.dataset[tag_of("RequestAttributesSequence")] == (
        TWO_ITEMS[tag_of("RequestAttributesSequence")]
    )


def test_patients_are_studies_of_one_id_and_issuer(index: Index) -> None:
    index.add(
        [
            entry("1.1", "1", "1", PatientID="P", IssuerOfPatientID="A", PatientName="Old^Name", StudyDescription="x"),
            entry("1.2", "1", "1", PatientID="P", IssuerOfPatientID="A", PatientName="New^Name"),
            entry("1.2", "2", "1", PatientID="P", IssuerOfPatientID="A", PatientName="New^Name"),
            entry("1.3", "1", "1", PatientID="P", IssuerOfPatientID="B", PatientName="Other"),
            entry("1.4", "1", "1", PatientName="Nobody"),
        ]
    )
    found = find(index, Level.PATIENT)
    assert [(d["00201200"]["Value"], d["00201202"]["Value"], d["00201204"]["Value"]) for d in found] == [
        ([1], [1], [1]),
        ([2], [3], [3]),
        ([1], [1], [1]),
    ]
    assert values(found, "PatientName") == [{"Alphabetic": n} for n in ("Nobody", "New^Name", "Other")]
    assert values(found, "StudyDescription") == [None] * 3
    # All studies of a patient count, not only those that match.
    (one,) = find(index, Level.PATIENT, ["NumberOfPatientRelatedStudies"], PatientName="old*", PatientID="P")
    assert values([one], "NumberOfPatientRelatedStudies") == [2]


def test_pages_follow_each_other_without_gap_or_overlap(index: Index) -> None:
    many = [
        entry(f"1.{n}", "1", "1", StudyDate=f"202401{n % 28 + 1:02d}" if n % 5 else None, StudyTime="10" if n % 3 else None,
              PatientID=f"P{n % 50}", PatientComments="odd" if n % 2 else "even")
        for n in range(1, 701)
    ]  # fmt: skip
    index.add(many)
    whole = studies(index)
    assert sorted(whole) == sorted(f"1.{n}" for n in range(1, 701))
    for limit, offset in ((0, 0), (7, 0), (300, 100), (100, 650), (5, 1000), (None, 690), (700, 0), (5000, 0)):
        expected = whole[offset : None if limit is None else offset + limit]
        assert studies(index, limit=limit, offset=offset) == expected
    # The same when Python has the last word.
    odd = studies(index, PatientComments="odd")
    assert len(odd) == 350
    assert odd == [uid for uid in whole if int(uid.split(".")[1]) % 2]
    assert studies(index, PatientComments="odd", limit=20, offset=300) == odd[300:320]
    assert len(find(index, Level.PATIENT, [], limit=30)) == 30
    assert len(find(index, Level.SERIES, [])) == 700
    assert len(find(index, Level.IMAGE)) == 700


def test_a_search_may_be_left_at_any_point(index: Index) -> None:
    archive_of_three(index)
    found = index.find(Query(Level.STUDY))
    next(found)
    found.close()  # type: ignore[attr-defined]  # a generator
    abandoned = [index.find(Query(Level.STUDY)) for _ in range(100)]
    for one in abandoned:
        next(one)
    assert len(list(index.find(Query(Level.STUDY)))) == 3, "100 open searches hold no connection"


# --- add ----------------------------------------------------------------------------------------------------------


def outcomes(added: list[Added]) -> list[Outcome | None]:
    return [one.outcome for one in added]


def test_the_same_again_is_already_there(index: Index) -> None:
    one = entry(PatientName="A")
    assert outcomes(index.add([one])) == [Outcome.STORED]
    before = index.etag(Scope("1.2.3"))
    assert outcomes(index.add([one])) == [Outcome.ALREADY]
    assert index.add([]) == []
    assert index.counts() == Counts(1, 1, 1, 1000)
    assert index.etag(Scope("1.2.3")) == before
    assert len(index.changes(0, 10)) == 1


def test_other_bytes_are_kept_in_quarantine(index: Index) -> None:
    first, second = entry(content="a"), entry(content="b")
    index.add([first])
    for times in (1, 2):
        (added,) = index.add([second])
        assert (added.outcome, added.conflict_sha256) == (None, first.sha256)
        (held,) = index.quarantined()
        assert (held.uids, held.sha256, held.existing_sha256, held.times) == (
            second.scan.uids, second.sha256, first.sha256, times,
        )  # fmt: skip
        assert (held.object_key, held.source, held.received_at) == (second.object_key, second.source, RECEIVED)
    assert "bytes" in held.reason
    assert index.counts() == Counts(1, 1, 1, 1000)
    assert [change.kind for change in index.changes(0, 10)] == ["instance-stored"] + ["instance-quarantined"] * 2
    assert index.known_keys([first.object_key, second.object_key, "x"]) == {first.object_key, second.object_key}


@pytest.mark.parametrize("duplicates", ["keep", "replace"])
def test_a_uid_of_another_study_or_series_is_a_conflict(index: Index, duplicates: Any) -> None:
    index.add([entry("1.1", "1", "9.9.9")])
    added = index.add([entry("1.2", "1", "9.9.9"), entry("1.1", "2", "9.9.9")], duplicates=duplicates)
    assert outcomes(added) == [None, None]
    assert ["another" in held.reason for held in index.quarantined()] == [True, True]
    assert index.counts() == Counts(1, 1, 1, 1000)


def test_replacing_keeps_the_older_version_as_history(index: Index) -> None:
    index.add([entry(content="a", Rows=1), entry(instance="2")])
    scope = Scope("1.2.3", "1.2.3.1", "1.2.3.1.1")
    before = index.etag(scope), index.etag(Scope("1.2.3"))
    newer = entry(content="b", Rows=2, size=500)
    assert outcomes(index.add([newer], duplicates="replace")) == [Outcome.REPLACED]
    assert index.counts() == Counts(1, 1, 2, 1500)
    layout = index.layout(scope)
    assert layout is not None
    assert layout.located.sha256 == newer.sha256
    assert orjson.loads(layout.json)["00280010"]["Value"] == [2]
    assert values(find(index, Level.IMAGE, ["Rows"], SOPInstanceUID="1.2.3.1.1"), "Rows") == [2]
    after = index.etag(scope), index.etag(Scope("1.2.3"))
    assert all(one and one != other for one, other in zip(after, before, strict=True))
    assert len(index.known_keys([entry(content="a", Rows=1).object_key, newer.object_key])) == 2
    with index.database.read() as connection:
        history = connection.execute(select(t.instance_history)).one()
    assert (history.sha256, history.reason) == (entry(content="a", Rows=1).sha256, "replaced")
    assert [change.kind for change in index.changes(0, 10)][-1] == "instance-replaced"


@pytest.mark.parametrize(
    ("duplicates", "expected"),
    [
        ("keep", [Outcome.STORED, Outcome.ALREADY, None, Outcome.STORED]),
        ("replace", [Outcome.STORED, Outcome.ALREADY, Outcome.REPLACED, Outcome.STORED]),
    ],
)
def test_duplicates_within_one_batch(index: Index, duplicates: Any, expected: list[Outcome | None]) -> None:
    batch = [entry(content="a"), entry(content="a"), entry(content="b"), entry(instance="2")]
    assert outcomes(index.add(batch, duplicates=duplicates)) == expected
    assert index.counts() == Counts(1, 1, 2, 2000)


def test_a_study_keeps_what_came_first_and_fills_what_was_empty(index: Index) -> None:
    flag = Flag("odd", "something odd")
    index.add([entry(instance="1", PatientName="Doe^Jane", StudyDescription=None, BodyPartExamined="KNEE")])
    (added,) = index.add(
        [
            entry(instance="2", PatientName="Roe^Jane", StudyDescription="THORAX", BodyPartExamined="CHEST",
                  TimezoneOffsetFromUTC="+0100", scan_flags=(flag,))
        ]
    )  # fmt: skip
    assert added.outcome is Outcome.STORED
    assert [(one.code, one.tag) for one in added.flags] == [
        ("differs-from-study", tag_of("PatientName")),
        ("differs-from-series", tag_of("BodyPartExamined")),
    ]
    assert all("Roe" not in one.text and "Doe" not in one.text for one in added.flags)
    assert studies(index, PatientName="doe^jane", StudyDescription="THORAX") == ["1.2.3"]
    assert studies(index, StudyDescription="*HORA*") == ["1.2.3"], "the trigram index has learnt it"
    assert studies(index, PatientName="roe^jane") == []
    with index.database.read() as connection:
        stored = connection.scalars(select(t.instance.c.flags).order_by(t.instance.c.pk)).all()
    assert stored[0] is None
    assert [one["code"] for one in orjson.loads(stored[1])] == ["odd", "differs-from-study", "differs-from-series"]


def test_a_clock_change_is_no_contradiction(index: Index) -> None:
    index.add([entry(instance="1", TimezoneOffsetFromUTC="+0100")])
    assert index.add([entry(instance="2", TimezoneOffsetFromUTC="+0200")])[0].flags == ()


def test_counters_modalities_and_classes_follow(index: Index) -> None:
    index.add([entry("1.1", "1", str(n), Modality="CT") for n in range(3)])
    index.add([entry("1.1", "2", "1", Modality="SR", sop_class="1.2.9")])
    index.add([entry("1.1", "3", "1", Modality=None)])
    (found,) = find(index, Level.STUDY)
    assert found["00080061"]["Value"] == ["CT", "SR"]
    assert found["00201206"]["Value"] == [3]
    assert found["00201208"]["Value"] == [5]
    assert values(find(index, Level.SERIES), "NumberOfSeriesRelatedInstances") == [3, 1, 1]
    index.add([entry("1.1", "3", "2", Modality="PR")])
    assert find(index, Level.STUDY)[0]["00080061"]["Value"] == ["CT", "PR", "SR"]


def test_one_series_uid_in_two_studies(index: Index) -> None:
    index.add([entry("1.1", "7.7", "5.5.1"), entry("1.2", "7.7", "5.5.2")])
    assert index.counts() == Counts(2, 2, 2, 2000)
    assert [one.uids.instance for one in index.locate(Scope("1.2", "7.7"))] == ["5.5.2"]


def test_jobs_are_in_the_same_transaction(index: Index) -> None:
    job = Job("thumbnail", {"study": "1.2.3"})
    index.add([entry(jobs=(job,)), entry(jobs=(job,)), entry(instance="2", jobs=(job,))])
    with index.database.read() as connection:
        assert connection.scalar(select(func.count()).select_from(t.job)) == 2
    index.add([entry(content="other", jobs=(job,))])
    with index.database.read() as connection:
        assert connection.scalar(select(func.count()).select_from(t.job)) == 2, "nothing follows a conflict"


def test_odd_text_does_no_harm(index: Index) -> None:
    odd: dict[str, Any] = {"PatientName": "A\0B^\\", "StudyDescription": "x" * 5000, "PatientID": "\U0001f600 %_'\";--", "StudyID": "\0"}
    index.add([entry(**odd)])
    assert studies(index, PatientID="\U0001f600*", StudyDescription="xxx*", PatientName="ab*") == ["1.2.3"]
    assert values(find(index, Level.STUDY), "StudyDescription") == ["x" * 5000]
    # Numbers beyond what a column holds are as good as none.
    index.add([entry("1.9", SeriesNumber="9" * 30, InstanceNumber="abc")])
    assert studies(index, SeriesNumber='""', InstanceNumber='""') == ["1.9", "1.2.3"]
    assert len(list(index.locate(Scope("1.9")))) == 1


# --- deleted rows -------------------------------------------------------------------------------------------------


def test_what_is_deleted_is_not_found_and_can_come_again(index: Index) -> None:
    first = entry(PatientName="A")
    index.add([first])
    with index.database.write() as connection:
        for table in (t.instance, t.series, t.study):
            connection.execute(update(table).values(deleted_at=1))
        zero = {"number_of_instances": 0, "size": 0}
        connection.execute(update(t.series).values(zero))
        connection.execute(update(t.study).values(number_of_series=0, **zero))
    scope = Scope("1.2.3", "1.2.3.1", "1.2.3.1.1")
    assert [find(index, level) for level in Level] == [[], [], [], []]
    assert list(index.locate(Scope("1.2.3"))) == []
    assert list(index.metadata(scope)) == []
    assert (index.layout(scope), index.etag(scope), index.etag(Scope("1.2.3"))) == (None, None, None)
    assert index.counts() == Counts(0, 0, 0, 0)
    assert [row.instance for row in index.objects(0, 10)] == ["1.2.3.1.1"], "its object is still known"
    assert outcomes(index.add([first])) == [Outcome.STORED]
    assert index.counts() == Counts(1, 1, 1, 1000)
    assert studies(index) == ["1.2.3"]
    with index.database.read() as connection:
        assert connection.scalar(select(t.instance_history.c.reason)) == "deleted"


# --- reading ------------------------------------------------------------------------------------------------------


def test_instances_come_by_series_and_instance_number(index: Index) -> None:
    index.add(
        [
            entry("1.1", "1", "1", SeriesNumber=10, InstanceNumber=10),
            entry("1.1", "1", "2", SeriesNumber=10, InstanceNumber=9),
            entry("1.1", "1", "3", SeriesNumber=10, InstanceNumber=None),
            entry("1.1", "2", "1", SeriesNumber=9, InstanceNumber=-1),
            entry("1.1", "3", "1", SeriesNumber=None),
        ]
    )
    expected = ["1.1.2.1", "1.1.1.2", "1.1.1.1", "1.1.1.3", "1.1.3.1"]
    assert [one.uids.instance for one in index.locate(Scope("1.1"))] == expected
    assert [orjson.loads(one)["00080018"]["Value"][0] for one in index.metadata(Scope("1.1"))] == expected
    assert [one.uids.instance for one in index.locate(Scope("1.1", "1.1.2"))] == ["1.1.2.1"]
    assert [one.uids.instance for one in index.locate(Scope("1.1", "1.1.1", "1.1.1.1"))] == ["1.1.1.1"]
    for nowhere in (Scope("9"), Scope("1.1", "9"), Scope("1.1", "1.1.2", "1.1.1.1"), Scope("1.1", partition="x")):
        assert list(index.locate(nowhere)) == []
        assert index.etag(nowhere) is None


def test_long_series_come_in_pages(index: Index) -> None:
    index.add([entry("1.1", "1", str(n), InstanceNumber=n if n % 2 else None) for n in range(1100)])
    located = [one.uids.instance for one in index.locate(Scope("1.1"))]
    assert len(set(located)) == len(located) == 1100
    assert located[:2] == ["1.1.1.1", "1.1.1.3"]
    assert sum(1 for _ in index.metadata(Scope("1.1"))) == 1100


def test_layout_is_everything_about_one_instance(index: Index) -> None:
    bulk = (BulkItem("00281201", "OW", 100, 512), BulkItem("00081140/0/00081150", "OB", 700, -1))
    one = entry(bulk=bulk, NumberOfFrames=7)
    index.add([one])
    layout = index.layout(Scope("1.2.3", "1.2.3.1", "1.2.3.1.1"))
    assert layout is not None
    assert layout.json == one.scan.json
    assert layout.bulk == bulk
    assert layout.frames == one.scan.frames
    assert layout.inflated is False
    located = layout.located
    assert located == next(index.locate(Scope("1.2.3")))
    assert (located.uids, located.object_key, located.sha256) == (one.scan.uids, one.object_key, one.sha256)
    assert (located.size, located.dataset_offset, located.number_of_frames) == (1000, 144, 1)
    assert index.layout(Scope("1.2.3", "1.2.3.1", "9")) is None
    assert index.layout(Scope("1.2.3", "9", "1.2.3.1.1")) is None


def test_etags_change_with_what_is_in_scope(index: Index) -> None:
    index.add([entry("1.1", "1", "1"), entry("1.1", "2", "1")])
    scopes = [Scope("1.1"), Scope("1.1", "1.1.1"), Scope("1.1", "1.1.2"), Scope("1.1", "1.1.1", "1.1.1.1")]
    before = [index.etag(scope) for scope in scopes]
    assert all(before)
    index.add([entry("1.1", "1", "2")])
    after = [index.etag(scope) for scope in scopes]
    assert [one == other for one, other in zip(before, after, strict=True)] == [False, False, True, True]


def test_objects_are_walked_by_key(index: Index) -> None:
    added = [entry(instance=str(n)) for n in range(5)]
    index.add(added)
    first = index.objects(0, 3)
    rest = index.objects(first[-1].id, 3)
    assert [row.object_key for row in first + rest] == [one.object_key for one in added]
    assert [row.sha256 for row in first] == [one.sha256 for one in added[:3]]
    assert index.objects(rest[-1].id, 3) == []
    many = [f"k{n}" for n in range(2000)]
    assert index.known_keys([*many, added[0].object_key]) == {added[0].object_key}


def test_the_change_feed_counts_without_gaps(index: Index) -> None:
    index.add([entry("1.1", "1", str(n)) for n in range(3)])
    index.add([entry("1.2", "1", "1")])
    feed = index.changes(0, 100)
    assert [change.sequence for change in feed] == [1, 2, 3, 4]
    assert [change.uids.study for change in feed] == ["1.1", "1.1", "1.1", "1.2"]
    assert feed[0].at.tzinfo is not None
    assert [change.sequence for change in index.changes(2, 1)] == [3]
    assert index.changes(4, 10) == []


def test_names_of_every_script_survive(index: Index) -> None:
    index.add([entry(PatientName=YAMADA)])
    (found,) = find(index, Level.STUDY, ["PatientName"])
    assert values([found], "PatientName") == [
        {"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"}
    ]


def test_the_source_is_kept(index: Index) -> None:
    index.add([entry()])
    with index.database.read() as connection:
        stored = connection.scalars(select(t.instance.c.source)).one()
    assert Source(**orjson.loads(stored)) == Source("stow", user="test")


# --- many at once -------------------------------------------------------------------------------------------------


def in_threads(work: Any, number: int) -> list[BaseException]:
    errors: list[BaseException] = []

    def run(which: int) -> None:
        try:
            work(which)
        except BaseException as error:  # noqa: BLE001 - reported by the test
            errors.append(error)

    threads = [threading.Thread(target=run, args=(which,)) for which in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    return errors


def counters_are_exact(index: Index) -> None:
    """I5: counters equal real counts."""
    with index.database.read() as connection:
        for row in connection.execute(select(t.study)).all():
            of_study = select(t.series).where(t.series.c.study_pk == row.pk)
            assert len(connection.execute(of_study).all()) == row.number_of_series
        total = 0
        for row in connection.execute(select(t.series)).all():
            found = connection.scalars(select(t.instance.c.size).where(t.instance.c.series_pk == row.pk)).all()
            assert (len(found), sum(found)) == (row.number_of_instances, row.size)
            total += len(found)
        assert total == connection.scalar(select(func.sum(t.study.c.number_of_instances)))


def test_eight_threads_into_one_new_study(index: Index) -> None:
    def work(which: int) -> None:
        for n in range(10):
            series = str(n % 3)
            index.add([entry("1.1", series, f"{which}{n}{m}", Modality="CT" if n % 2 else "MR") for m in range(4)])

    assert in_threads(work, 8) == []
    assert index.counts() == Counts(1, 3, 320, 320_000)
    counters_are_exact(index)
    feed = index.changes(0, 1000)
    assert [change.sequence for change in feed] == list(range(1, 321))
    (found,) = find(index, Level.STUDY)
    assert found["00080061"]["Value"]


def test_the_same_instance_from_eight_threads_is_stored_once(index: Index) -> None:
    results: list[Outcome | None] = []

    def work(which: int) -> None:
        results.extend(outcomes(index.add([entry("1.1", "1", "1"), entry("1.1", "1", f"2.{which % 2}.1")])))

    assert in_threads(work, 8) == []
    assert results.count(Outcome.STORED) == 3
    assert results.count(Outcome.ALREADY) == 13
    counters_are_exact(index)


def test_one_uid_for_two_studies_at_once_is_one_instance_and_one_conflict(index: Index) -> None:
    results: list[Outcome | None] = []

    def work(which: int) -> None:
        batch = [entry(f"1.{which}", "1", f"9.9.{n}") for n in (range(5) if which % 2 else range(4, -1, -1))]
        results.extend(outcomes(index.add(batch)))

    assert in_threads(work, 4) == []
    assert results.count(Outcome.STORED) == 5
    assert results.count(None) == 15
    assert len(index.quarantined()) == 15
    counters_are_exact(index)


def test_the_change_feed_never_shows_a_line_before_one_already_seen(index: Index) -> None:
    done = threading.Event()
    seen: list[int] = []

    def poll() -> None:
        while not done.is_set() or index.changes(seen[-1] if seen else 0, 1):
            seen.extend(change.sequence for change in index.changes(seen[-1] if seen else 0, 50))

    poller = threading.Thread(target=poll)
    poller.start()
    errors = in_threads(lambda w: [index.add([entry(f"1.{w}", "1", str(n))]) for n in range(25)], 4)
    done.set()
    poller.join(60)
    assert errors == []
    assert seen == list(range(1, 101)), "a poller that only asks for what is new misses nothing"


# --- trouble ------------------------------------------------------------------------------------------------------


def test_an_exception_leaves_nothing_behind(index: Index) -> None:
    bad = entry(instance="2", jobs=(Job("x", {"y": object()}),))
    with pytest.raises(TypeError):
        index.add([entry(), bad])
    assert index.counts() == Counts(0, 0, 0, 0)
    assert index.changes(0, 10) == []
    assert outcomes(index.add([entry()])) == [Outcome.STORED]


class BreaksInCommit(Database):
    """Loses its connection in COMMIT: after it happened, or before."""

    happened = True

    def write(self, *, patient: bool = False) -> Any:
        import contextlib

        @contextlib.contextmanager
        def writing() -> Iterator[Any]:
            try:
                with super(BreaksInCommit, self).write() as connection:
                    yield connection
                    if not self.happened:
                        raise ZeroDivisionError
            except ZeroDivisionError:
                pass
            raise CommitUnknown("the connection broke")

        return writing()


@pytest.mark.parametrize("happened", [True, False])
def test_a_commit_of_unknown_outcome_is_looked_up(index: Index, url: str, happened: bool) -> None:
    index.add([entry("1.1", "1", "1", content="a")])
    database = BreaksInCommit(url)
    database.happened = happened
    broken = Index(database)
    batch = [entry("1.2", "1", "1"), entry("1.1", "1", "1", content="b")]
    if happened:
        assert outcomes(broken.add(batch)) == [Outcome.STORED, None]
        assert index.counts().instances == 2
    else:
        with pytest.raises(IndexUnavailable):
            broken.add(batch)
        assert index.counts().instances == 1
    broken.close()


def test_a_search_without_end_is_ended(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    index.ping()
    monkeypatch.setattr("storage.index.database._TRANSACTION_SECONDS", 0.3)
    endless = text(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000) SELECT count(*) FROM n"
    )
    begun = time.monotonic()
    with pytest.raises(IndexUnavailable), index.database.read() as connection:
        connection.execute(endless)
    assert time.monotonic() - begun < 5
    monkeypatch.undo()
    index.ping()


def test_ping_and_reuse_after_close(index: Index) -> None:
    index.ping()
    index.close()
    index.ping()


@pytest.mark.parametrize("url_text", ["mysql://x/y", "sqlite://", "sqlite:///:memory:"])
def test_other_databases_are_refused(url_text: str) -> None:
    with pytest.raises(ValueError, match="database URL"):
        open_index(url_text)


def test_an_absent_server_is_unavailable() -> None:
    with pytest.raises(IndexUnavailable) as refused:
        open_index("postgresql+psycopg://nobody:secret@127.0.0.1:9/none")
    assert "secret" not in str(refused.value)


def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "index.db").write_bytes(b"no database" * 1000)
    with pytest.raises(IndexUnavailable):
        open_index(f"sqlite:///{tmp_path / 'index.db'}")


def test_a_full_disk_is_a_full_store(tmp_path: Path) -> None:
    index = open_index(f"sqlite:///{tmp_path / 'index.db'}")
    index.add([entry()])
    with index.database.engine.connect() as connection:
        pages = connection.scalar(text("PRAGMA page_count"))
    index.close()
    from sqlalchemy import event

    event.listen(index.database.engine, "connect", lambda c, _: c.execute(f"PRAGMA max_page_count={pages}"))
    with pytest.raises(StoreFull):
        index.add([entry("1.5", "1", str(n), PatientComments="x" * 500) for n in range(500)])
    assert index.counts() == Counts(1, 1, 1, 1000)
    assert outcomes(index.add([entry()])) == [Outcome.ALREADY]
    index.close()


def test_sqlite_is_as_durable_as_promised(tmp_path: Path) -> None:
    index = open_index(f"sqlite:///{tmp_path / 'deep' / 'er' / 'index.db'}")
    with index.database.read() as connection:
        asked = ("journal_mode", "synchronous", "foreign_keys")
        assert [connection.scalar(text(f"PRAGMA {name}")) for name in asked] == ["wal", 2, 1]
    index.close()


@pytest.mark.postgres
def test_postgresql_is_as_durable_as_promised(postgres_database: str) -> None:
    index = open_index(postgres_database)
    with index.database.read() as connection:
        assert connection.scalar(text("SHOW synchronous_commit")) == "on"
    index.close()


# --- application entities -----------------------------------------------------------------------------------------


def test_application_entities(index: Index) -> None:
    assert ae_titles(index) == []
    ws, ct = AeTitle("WS1", "ws.example", 104, "reading room"), AeTitle("CT 1", "10.0.0.5", 11112)
    add_ae_title(index, ws)
    add_ae_title(index, ct)
    assert ae_titles(index) == [ct, ws]
    moved = AeTitle("WS1", "10.0.0.9", 105)
    add_ae_title(index, moved)
    assert ae_title_of(index, " WS1 ") == moved
    assert ae_title_of(index, "ws1") is None
    assert remove_ae_title(index, "CT 1")
    assert not remove_ae_title(index, "CT 1")
    assert ae_titles(index) == [moved]


@pytest.mark.parametrize(
    "entity",
    [
        AeTitle("", "h", 1),
        AeTitle("   ", "h", 1),
        AeTitle("SEVENTEEN_LETTERS", "h", 1),
        AeTitle("A\\B", "h", 1),
        AeTitle("A\nB", "h", 1),
        AeTitle("ÄE", "h", 1),
        AeTitle("A", "", 1),
        AeTitle("A", "h h", 1),
        AeTitle("A", "h", 0),
        AeTitle("A", "h", 65536),
    ],
)
def test_what_is_no_application_entity(index: Index, entity: AeTitle) -> None:
    with pytest.raises(BadRequest):
        add_ae_title(index, entity)
    assert ae_titles(index) == []


def test_entries_are_frozen() -> None:
    assert isinstance(entry(), Entry)
    with pytest.raises(AttributeError):
        entry().size = 3  # type: ignore[misc]


# --- a server that goes away (PostgreSQL) -------------------------------------------------------------------------


@pytest.fixture
def through_proxy(postgres_database: str) -> Iterator[tuple[Proxy, Index]]:
    """An index on a PostgreSQL behind a proxy that can be told to misbehave."""
    real = make_url(postgres_database)
    assert real.port is not None
    open_index(postgres_database).close()
    with proxy(real.port) as between:
        index = open_index(real.set(port=between.port).render_as_string(hide_password=False))
        yield between, index
        index.close()


@pytest.mark.postgres
@pytest.mark.parametrize("moment", ["after", "before"])
def test_a_connection_cut_in_commit(through_proxy: tuple[Proxy, Index], moment: str) -> None:
    """Cut after the server has committed, the ingest succeeds; cut before, it fails, and the resend succeeds."""
    between, index = through_proxy
    index.ping()
    cuts = iter([moment])
    between.watch = lambda data: next(cuts, None) if b"COMMIT" in data else None
    if moment == "after":
        assert outcomes(index.add([entry()])) == [Outcome.STORED]
    else:
        with pytest.raises(IndexUnavailable):
            index.add([entry()])
        assert index.counts().instances == 0
    assert outcomes(index.add([entry()])) == [Outcome.ALREADY if moment == "after" else Outcome.STORED]
    assert index.counts() == Counts(1, 1, 1, 1000)


@pytest.mark.postgres
def test_a_server_that_falls_silent_is_given_up_in_time(
    through_proxy: tuple[Proxy, Index], monkeypatch: pytest.MonkeyPatch
) -> None:
    between, index = through_proxy
    monkeypatch.setattr("storage.index.database._TRANSACTION_SECONDS", 1.0)
    monkeypatch.setattr("storage.index.database._PING_SECONDS", 1.0)
    index.add([entry()])
    # In mid-transaction first, then at the next use of a connection.
    between.watch = lambda data: setattr(between, "silent", True) if b"INSERT" in data else None
    begun = time.monotonic()
    for _ in range(2):
        with pytest.raises(IndexUnavailable):
            index.add([entry(instance="2")])
        assert time.monotonic() - begun < 15
        begun = time.monotonic()
    between.watch = lambda _: None
    between.silent = False
    assert outcomes(index.add([entry(instance="2")])) == [Outcome.STORED]
    counters_are_exact(index)


@pytest.mark.postgres
def test_a_server_that_was_restarted_costs_nobody_an_error(postgres_database: str) -> None:
    index, other = open_index(postgres_database), open_index(postgres_database)
    index.add([entry()])
    assert in_threads(lambda _: index.ping(), 4) == []
    with other.database.write() as connection:
        ended = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
        assert connection.scalars(ended).all()
    assert index.counts().instances == 1
    assert outcomes(index.add([entry(instance="2")])) == [Outcome.STORED]
    index.close()
    other.close()


# --- real files ---------------------------------------------------------------------------------------------------


def scanned_corpus() -> list[Entry]:
    """Every storable file of the corpus, scanned; of several with one UID the first."""
    found: dict[str, Entry] = {}
    for file in corpus_files():
        content = file.path.read_bytes()
        try:
            made = scan(content)
        except LightboxError:
            continue
        sha256 = hashlib.sha256(content).hexdigest()
        key = f"{sha256}.dcm"
        one = Entry(made, key, sha256, len(content), Source("import", file=file.name), RECEIVED)
        found.setdefault(made.uids.instance, one)
    return list(found.values())


# What is asked of the corpus at each level, beyond every single UID.
CORPUS_QUERIES: list[tuple[Level, dict[str, str]]] = [
    (Level.STUDY, {"PatientName": "*a*"}),
    (Level.STUDY, {"PatientName": "*smi*"}),
    (Level.STUDY, {"PatientName": "S*^J*"}),
    (Level.STUDY, {"PatientName": "*山*"}),
    (Level.STUDY, {"PatientName": '""'}),
    (Level.STUDY, {"StudyDate": "20000101-20101231"}),
    (Level.STUDY, {"StudyDate": "20000101-", "StudyTime": "12-"}),
    (Level.STUDY, {"StudyDescription": "*O*"}),
    (Level.STUDY, {"AccessionNumber": "acc*"}),
    (Level.STUDY, {"AccessionNumber": '""'}),
    (Level.STUDY, {"ModalitiesInStudy": "C?\\MR"}),
    (Level.STUDY, {"ReferringPhysicianName": "*e*"}),
    (Level.STUDY, {"PatientWeight": '""'}),
    (Level.SERIES, {"Modality": "US"}),
    (Level.SERIES, {"SeriesNumber": "1\\2"}),
    (Level.SERIES, {"BodyPartExamined": "*E*"}),
    (Level.SERIES, {"Manufacturer": "S*"}),
    (Level.IMAGE, {"InstanceNumber": "1"}),
    (Level.IMAGE, {"Rows": "512", "Modality": "CT"}),
    (Level.IMAGE, {"ImageType": "DERIVED"}),
    (Level.IMAGE, {"ContentDate": "-20151231"}),
]
UNIQUE_KEY = {Level.STUDY: "StudyInstanceUID", Level.SERIES: "SeriesInstanceUID", Level.IMAGE: "SOPInstanceUID"}


def test_the_corpus_is_kept_and_found(index: Index) -> None:
    entries = scanned_corpus()
    added = [one for first in range(0, len(entries), 50) for one in index.add(entries[first : first + 50])]
    assert {one.outcome for one in added} == {Outcome.STORED}
    assert index.counts().instances == len(entries) > 700
    counters_are_exact(index)
    for one in entries[::7]:
        uids = one.scan.uids
        layout = index.layout(Scope(uids.study, uids.series, uids.instance))
        assert layout is not None
        assert (layout.json, layout.frames, layout.bulk) == (one.scan.json, one.scan.frames, one.scan.bulk)
        assert values(find(index, Level.IMAGE, [], SOPInstanceUID=uids.instance), "SOPInstanceUID") == [uids.instance]
    everything = {level: find(index, level) for level in UNIQUE_KEY}
    for level, asked in CORPUS_QUERIES:
        wanted = combined(conditions(asked))
        pure = [one for one in everything[level] if matches_dataset(wanted, one)]
        found = find(index, level, [], **asked)
        assert values(found, UNIQUE_KEY[level]) == values(pure, UNIQUE_KEY[level]), asked
        assert 0 < len(found) < len(everything[level]), f"{asked} tells nothing"
