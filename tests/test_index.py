"""The index on SQLite and PostgreSQL: what goes in, what comes out, and that the numbers are right under load."""

from __future__ import annotations

import threading
from typing import Any

import orjson
import pytest
from sqlalchemy import func, select, update

from storage.attributes import tag_of
from storage.errors import BadRequest
from storage.index import Counts, Entry, Index
from storage.index import tables as t
from storage.index.ae import AeTitle, add_ae_title, ae_title_of, ae_titles, remove_ae_title
from storage.types import BulkItem, Flag, Job, Level, Outcome, Scope, Source
from tests.support.entries import CT, EXPLICIT_LITTLE, RECEIVED, entry, values
from tests.support.indexes import counters_are_exact, find, in_threads, outcomes, studies
from tests.test_matching import YAMADA

# --- add ----------------------------------------------------------------------------------------------------------


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
        assert (held.object_key, held.source, held.received_at) == (
            second.object_key,
            second.source,
            RECEIVED,
        )
    assert "bytes" in held.reason
    assert index.counts() == Counts(1, 1, 1, 1000)
    assert [change.kind for change in index.changes(0, 10)] == ["instance-stored"] + [
        "instance-quarantined"
    ] * 2
    assert index.known_keys([first.object_key, second.object_key, "x"]) == {
        first.object_key,
        second.object_key,
    }


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
    assert [one["code"] for one in orjson.loads(stored[1])] == [
        "odd",
        "differs-from-study",
        "differs-from-series",
    ]


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
    odd: dict[str, Any] = {
        "PatientName": "A\0B^\\",
        "StudyDescription": "x" * 5000,
        "PatientID": "\U0001f600 %_'\";--",
        "StudyID": "\0",
    }
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
    assert (index.kinds(Scope("1.2.3")), index.instances(["1.2.3.1.1"])) == ({}, [])
    assert (index.layout(scope), index.etag(scope), index.etag(Scope("1.2.3"))) == (None, None, None)
    assert index.counts() == Counts(0, 0, 0, 0)
    assert [row.instance for row in index.objects(0, 10)] == ["1.2.3.1.1"], "its object is still known"
    assert outcomes(index.add([first])) == [Outcome.STORED]
    assert index.counts() == Counts(1, 1, 1, 1000)
    assert studies(index) == ["1.2.3"]
    with index.database.read() as connection:
        assert connection.scalar(select(t.instance_history.c.reason)) is None, "the same bytes are no earlier version"


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
    assert [orjson.loads(one.json)["00080018"]["Value"][0] for one in index.metadata(Scope("1.1"))] == expected
    assert [one.uids.instance for one in index.locate(Scope("1.1", "1.1.2"))] == ["1.1.2.1"]
    assert [one.uids.instance for one in index.locate(Scope("1.1", "1.1.1", "1.1.1.1"))] == ["1.1.1.1"]
    assert sum(index.kinds(Scope("1.1")).values()) == 5
    assert {one.uids.instance for one in index.instances(["1.1.1.2", "1.1.3.1", "9"])} == {"1.1.1.2", "1.1.3.1"}
    assert index.instances(["1.1.1.2"], partitions=("x",)) == []
    assert index.kinds(Scope("1.1", "1.1.1")) == {(CT, EXPLICIT_LITTLE): 3}
    for nowhere in (
        Scope("9"),
        Scope("1.1", "9"),
        Scope("1.1", "1.1.2", "1.1.1.1"),
        Scope("1.1", partition="x"),
    ):
        assert list(index.locate(nowhere)) == []
        assert index.etag(nowhere) is None
    for nowhere in (Scope("9"), Scope("1.1", "9"), Scope("1.1", partition="x")):
        assert index.kinds(nowhere) == {}


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


def test_eight_threads_into_one_new_study(index: Index) -> None:
    def work(which: int) -> None:
        for n in range(10):
            series = str(n % 3)
            index.add(
                [entry("1.1", series, f"{which}{n}{m}", Modality="CT" if n % 2 else "MR") for m in range(4)]
            )

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
