"""Deleting, bringing back and taking out for good, in the index, on both engines: what every reader sees, and every counter."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from storage.errors import BadRequest, Held, NotFound, Settled
from storage.index import Counts, Index
from storage.index import tables as t
from storage.index.deleted_rows import Deletion, State
from storage.index.deletions import Deletions
from storage.index.holds import Holds
from storage.index.purging import PAGE, REMOVE_OBJECTS
from storage.jobs import JobQueue
from storage.rejection import Why, why
from storage.types import Level, Outcome, Scope
from tests.support.entries import entry, values
from tests.support.indexes import find, in_threads, outcomes, studies

PLAIN, WRONG = Why(), Why("113001")
STUDY, SERIES, INSTANCE = Scope("1.1"), Scope("1.1", "1.1.1"), Scope("1.1", "1.1.1", "1.1.1.1")


def stock(index: Index) -> None:
    """Study 1.1 with two CT and one SR, study 1.2 with a CT."""
    index.add([entry("1.1", "1", str(number), Modality="CT", size=100) for number in (1, 2)])
    index.add([entry("1.1", "2", "1", Modality="SR", sop_class="1.2.9", size=7)])
    index.add([entry("1.2", "1", "1", Modality="CT", size=50)])


def delete(index: Index, scope: Scope, reason: Why = PLAIN, by: str = "somebody") -> Deletion:
    return Deletions(index).delete(scope, reason, by)


def everything(index: Index) -> Any:
    """All that searches, metadata and figures say."""
    found = [find(index, level) for level in Level]
    metadata = [list(index.metadata(Scope(uid))) for uid in studies(index)]
    return found, metadata, index.counts()


# What is deleted; studies, series and instances that are left; modalities of study 1.1, its series and instances.
LEFT = [
    (INSTANCE, Counts(2, 3, 3, 157), (["CT", "SR"], 2, 2)),
    (SERIES, Counts(2, 2, 2, 57), (["SR"], 1, 1)),
    (Scope("1.1", "1.1.2", "1.1.2.1"), Counts(2, 2, 3, 250), (["CT"], 1, 2)),
    (STUDY, Counts(1, 1, 1, 50), None),
]


@pytest.mark.parametrize(("scope", "left", "study"), LEFT, ids=lambda value: str(value)[:40])
def test_what_is_deleted_is_seen_by_nobody_and_comes_back_as_it_was(index: Index, scope: Scope, left: Counts, study: Any) -> None:
    stock(index)
    before, tags = everything(index), [index.etag(one) for one in (STUDY, SERIES, INSTANCE)]
    state = index.state()
    made = delete(index, scope, why("113038", "wrong patient"), "anna")
    assert index.counts() == left
    assert index.state() > state
    assert (list(index.locate(scope)), list(index.metadata(scope))) == ([], [])
    assert index.etag(scope) is None
    assert sum(index.kinds(STUDY).values()) == 3 - made.instances
    found = find(index, Level.STUDY, StudyInstanceUID="1.1")
    if study is None:
        assert found == []
    else:
        assert (found[0]["00080061"]["Value"], found[0]["00201206"]["Value"], found[0]["00201208"]["Value"]) == (
            study[0], [study[1]], [study[2]],
        )  # fmt: skip
    if scope.instance:
        assert (index.layout(scope), index.instances([scope.instance])) == (None, [])
    assert (made.scope, made.why, made.by, made.state) == (scope, Why("113038", "wrong patient"), "anna", State.DELETED)
    assert (made.instances, made.left) == (4 - left.instances,) * 2
    assert made.size == 257 - left.bytes

    back = Deletions(index).restore(made.id, "berta")
    assert (back.state, back.left, back.ended_by) == (State.RESTORED, 0, "berta")
    assert everything(index) == before
    assert index.etag(STUDY) not in (None, tags[0])
    assert (index.etag(INSTANCE) == tags[2]) == (scope == Scope("1.1", "1.1.2", "1.1.2.1")), "what was not touched is as it was"
    with pytest.raises(Settled, match="restored"):
        Deletions(index).restore(made.id, "berta")


def test_the_change_feed_tells_every_instance(index: Index) -> None:
    stock(index)
    last = index.changes(0, 100)[-1].sequence
    made = delete(index, STUDY)
    Deletions(index).restore(made.id, "x")
    feed = index.changes(last, 100)
    assert [one.sequence for one in feed] == list(range(last + 1, last + 7))
    assert [one.kind for one in feed] == ["instance-deleted"] * 3 + ["instance-restored"] * 3
    assert {one.uids.instance for one in feed[:3]} == {"1.1.1.1", "1.1.1.2", "1.1.2.1"}
    assert [one.uids for one in feed[:3]] == [one.uids for one in feed[3:]]


# (what was deleted before, what is asked to be deleted, what the refusal says)
ABSENT = [
    (None, Scope("9.9"), "nothing is stored for study 9.9"),
    (None, Scope("1.2", "1.1.1"), "nothing is stored for series 1.1.1 of study 1.2"),
    (None, Scope("1.1", "1.1.2", "1.1.1.1"), "nothing is stored for instance"),
    (STUDY, STUDY, r"study 1.1 was deleted on .* \(deletion 1\)"),
    (STUDY, INSTANCE, r"deletion 1"),
    (SERIES, INSTANCE, r"deletion 1"),
    (INSTANCE, INSTANCE, r"deletion 1"),
]


@pytest.mark.parametrize(("before", "scope", "text"), ABSENT)
def test_nothing_to_delete(index: Index, before: Scope | None, scope: Scope, text: str) -> None:
    stock(index)
    if before is not None:
        delete(index, before)
    counts = index.counts()
    with pytest.raises(NotFound, match=text):
        delete(index, scope)
    assert index.counts() == counts


def test_deletions_inside_each_other_come_back_one_by_one(index: Index) -> None:
    stock(index)
    before = everything(index)
    one = delete(index, INSTANCE)
    two = delete(index, STUDY)
    assert two.instances == 2
    Deletions(index).restore(one.id, "x")
    assert index.counts() == Counts(2, 2, 2, 150)
    Deletions(index).restore(two.id, "x")
    assert everything(index) == before


def test_a_study_is_described_by_what_is_left(index: Index) -> None:
    """The first instance gave the study its patient: when it goes as wrong, its patient goes with it."""
    index.add([entry("1.1", "1", "1", PatientName="Wrong^Name", PatientID="W", StudyDescription="A")])
    index.add([entry("1.1", "1", "2", PatientName="Right^Name", PatientID="R", BodyPartExamined="KNEE")])
    before = everything(index)
    made = delete(index, Scope("1.1", "1.1.1", "1.1.1.1"), WRONG)
    assert studies(index, PatientName="Wrong^Name") == studies(index, StudyDescription="A") == []
    assert studies(index, PatientName="Right^Name", PatientID="R") == ["1.1"]
    Deletions(index).restore(made.id, "x")
    assert studies(index, PatientName="Wrong^Name") == studies(index, StudyDescription="A") == ["1.1"]
    assert everything(index) == before


def test_what_comes_after_everything_was_deleted_describes_the_study_anew(index: Index) -> None:
    index.add([entry("1.1", "1", "1", PatientName="Wrong^Name", Modality="CT", SeriesDescription="old")])
    made = delete(index, STUDY, Why("113038"))
    index.add([entry("1.1", "1", "2", PatientName="Right^Name", Modality="MR")])
    (found,) = find(index, Level.STUDY)
    assert (values([found], "PatientName")[0]["Alphabetic"], found["00080061"]["Value"]) == ("Right^Name", ["MR"])
    assert values(find(index, Level.SERIES), "SeriesDescription") == [None]
    Deletions(index).restore(made.id, "x")
    assert studies(index, PatientName="Wrong^Name") == ["1.1"]
    assert index.counts() == Counts(1, 1, 2, 2000)


# (reason, what comes again, outcome, code under which it is refused, whether it goes to quarantine)
AGAIN = [
    ("", "same", Outcome.STORED, "", False),
    ("113039", "same", Outcome.STORED, "", False),
    ("113001", "same", None, "113001", False),
    ("113037", "same", None, "113037", False),
    ("113038", "other", None, "113038", True),
    ("", "other", Outcome.STORED, "", False),
]


@pytest.mark.parametrize(("reason", "which", "outcome", "code", "quarantined"), AGAIN)
def test_what_was_deleted_comes_again(index: Index, reason: str, which: str, outcome: Outcome | None, code: str, quarantined: bool) -> None:
    first = entry("1.1", "1", "1", content="a")
    index.add([first, entry("1.1", "1", "2")])
    made = delete(index, INSTANCE, why(reason))
    again = first if which == "same" else entry("1.1", "1", "1", content="b")
    (added,) = index.add([again])
    assert (added.outcome, added.rejected, added.quarantined) == (outcome, code, quarantined)
    taken = outcome is Outcome.STORED
    assert index.counts().instances == 1 + taken
    assert len(index.quarantined()) == quarantined
    assert Deletions(index).one(made.id).left == (not taken)
    # Earlier bytes are never lost; the same bytes are no earlier version.
    assert index.known_keys([first.object_key]) == {first.object_key}
    with index.database.read() as connection:
        history = connection.scalars(select(t.instance_history.c.reason)).all()
    assert history == (["deleted"] if taken and which == "other" else [])
    Deletions(index).restore(made.id, "x")
    assert index.counts().instances == 2


def test_an_instance_that_comes_again_for_another_study_leaves_the_deleted_one(index: Index) -> None:
    index.add([entry("1.1", "1", "9.9.9"), entry("1.1", "1", "2")])
    made = delete(index, Scope("1.1", "1.1.1", "9.9.9"))
    assert outcomes(index.add([entry("1.2", "1", "9.9.9")])) == [Outcome.STORED]
    assert index.counts() == Counts(2, 2, 2, 2000)
    assert Deletions(index).restore(made.id, "x").left == 0
    assert index.counts() == Counts(2, 2, 2, 2000)


def purge(index: Index, pk: int) -> None:
    while Deletions(index).purge_some(pk, "policy") == PAGE:
        pass


@pytest.mark.parametrize("code", ["113001", ""])
def test_what_is_purged_is_gone_for_good(index: Index, code: str) -> None:
    """No row of the study is left, and so nothing of the patient; what was wrong is still not taken."""
    index.add([entry("1.1", "1", "1", content="old", PatientName="A")])
    index.add([entry("1.1", "1", "1", content="new", PatientName="A")], duplicates="replace")
    keys = {entry("1.1", "1", "1", content=content, PatientName="A").object_key for content in ("old", "new")}
    made = delete(index, STUDY, Why(code))
    purge(index, made.id)
    found = Deletions(index).one(made.id)
    assert (found.state, found.left, found.ended_by) == (State.PURGED, 0, "policy")
    assert index.known_keys(list(keys)) == set()
    with index.database.read() as connection:
        for table in (t.study, t.series, t.instance, t.instance_content, t.instance_history):
            assert connection.execute(select(table)).all() == []
    jobs = [job for job in JobQueue(index).claim("w", limit=10) if job.kind == REMOVE_OBJECTS]
    assert [set(job.payload["keys"]) for job in jobs] == [keys]
    for refused in (lambda: Deletions(index).restore(made.id, "x"), lambda: Deletions(index).purge_some(made.id, "x")):
        with pytest.raises(Settled, match="purged"):
            refused()
    (added,) = index.add([entry("1.1", "1", "1", content="new", PatientName="A")])
    assert (added.outcome, added.rejected, added.quarantined) == ((None, code, True) if code else (Outcome.STORED, "", False))


def test_a_purge_leaves_what_others_have(index: Index) -> None:
    stock(index)
    one, two = delete(index, INSTANCE), delete(index, Scope("1.1", "1.1.1", "1.1.1.2"))
    purge(index, one.id)
    Deletions(index).restore(two.id, "x")
    assert index.counts() == Counts(2, 3, 3, 157)


def test_a_purge_of_many_goes_in_pages(index: Index) -> None:
    index.add([entry("1.1", "1", str(number)) for number in range(PAGE + 5)])
    made = delete(index, STUDY)
    assert Deletions(index).purge_some(made.id, "x") == PAGE
    assert Deletions(index).one(made.id).state is State.PURGING
    with pytest.raises(Settled, match="purging"):
        Deletions(index).restore(made.id, "x")
    assert Deletions(index).purge_some(made.id, "x") == 5
    assert Deletions(index).one(made.id).state is State.PURGED
    assert index.objects(0, 10) == []


def test_a_hold_refuses_and_says_why(index: Index) -> None:
    stock(index)
    holds = Holds(index)
    before = delete(index, INSTANCE)
    holds.add("1.1", "lawsuit 7", "anna")
    for refused in (lambda: delete(index, STUDY), lambda: Deletions(index).purge_some(before.id, "x")):
        with pytest.raises(Held, match=r"study 1\.1 .*lawsuit 7; anna"):
            refused()
    assert outcomes(index.add([entry("1.1", "2", "1", content="changed")], duplicates="replace")) == [None]
    assert outcomes(index.add([entry("1.2", "1", "1", content="changed")], duplicates="replace")) == [Outcome.REPLACED]
    with pytest.raises(Settled, match="lawsuit 7"):
        holds.add("1.1", "another", "berta")
    assert [(one.study, one.reason, one.by) for one in holds.all()] == [("1.1", "lawsuit 7", "anna")]
    Deletions(index).restore(before.id, "x")
    holds.remove("1.1", "anna")
    with pytest.raises(NotFound, match="not held"):
        holds.remove("1.1", "anna")
    delete(index, STUDY)
    assert index.counts().studies == 1


@pytest.mark.parametrize(("study", "reason", "error"), [("9.9", "x", NotFound), ("1.1", " ", BadRequest), ("1.1", "a\nb", BadRequest)])
def test_what_cannot_be_held(index: Index, study: str, reason: str, error: Any) -> None:
    stock(index)
    with pytest.raises(error):
        Holds(index).add(study, reason, "x")


def test_deletions_are_listed_by_pages(index: Index) -> None:
    index.add([entry(f"1.{number}") for number in range(5)])
    made = [delete(index, Scope(f"1.{number}")).id for number in range(5)]
    Deletions(index).restore(made[2], "x")
    pages = Deletions(index)
    first = pages.page(limit=2)
    assert [one.id for one in first] == made[:2:-1]
    assert [one.id for one in pages.page(before=first[-1].id, states=[State.DELETED])] == [made[1], made[0]]
    assert [one.id for one in pages.page(study_uid="1.1")] == [made[1]]
    assert pages.page(until=0) == []


# What somebody writes, and what is understood.
WHYS = [
    (("", ""), Why()),
    (("113001", ""), Why("113001")),
    (("113001^DCM", " motion "), Why("113001", "motion")),
    (("113039^DCM^Data Retention Policy Expired", ""), Why("113039")),
    (("sent twice", ""), Why("", "sent twice")),
    (("sent twice", "by CT1"), Why("", "sent twice: by CT1")),
]


@pytest.mark.parametrize(("written", "understood"), WHYS)
def test_reasons(written: tuple[str, str], understood: Why) -> None:
    assert why(*written) == understood


@pytest.mark.parametrize("written", ["113000", "999999^DCM", "a\nb", "x" * 1001])
def test_reasons_that_are_none(written: str) -> None:
    with pytest.raises(BadRequest, match=r"113001|one line"):
        why(written)


def test_many_at_once_keep_the_counters_exact(index: Index) -> None:
    """Senders, deletes and restores of one study at the same time."""

    def work(which: int) -> None:
        for number in range(6):
            uid = f"1.1.1.{which % 2}{number}"
            index.add([entry("1.1", "1", uid, size=10)])
            try:
                made = delete(index, Scope("1.1", "1.1.1", uid))
            except NotFound:
                continue
            if number % 2:
                Deletions(index).restore(made.id, "x")

    assert in_threads(work, 4) == []
    with index.database.read() as connection:
        alive = connection.scalars(select(t.instance.c.size).where(t.instance.c.deleted_at.is_(None))).all()
        row = connection.execute(select(t.study)).one()
    assert (row.number_of_instances, row.size) == (len(alive), sum(alive))
    assert index.counts().instances == len(alive) > 0
    feed = index.changes(0, 1000)
    assert [one.sequence for one in feed] == list(range(1, len(feed) + 1))


class Model:
    """What the archive should say, kept in the plainest way: instances in the order in which their rows were made."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.instances: dict[str, dict[str, Any]] = {}
        self.deletions: list[tuple[int, bool]] = []
        self.names: dict[str, str | None] = {}

    def alive(self, **where: Any) -> list[dict[str, Any]]:
        found = [one for one in self.instances.values() if one["deletion"] is None]
        return [one for one in found if all(one[key] == value for key, value in where.items())]

    def relearn(self) -> None:
        for study in {one["study"] for one in self.instances.values()}:
            said = [one["name"] for one in self.alive(study=study) if one["name"]]
            self.names[study] = said[0] if said else None


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "delete study", "delete series", "delete instance", "restore", "purge"]),
        st.integers(0, 1),
        st.integers(0, 1),
        st.integers(0, 2),
        st.sampled_from(["", "A^B", "C^D"]),
    ),
    max_size=14,
)
ROOTS = itertools.count()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=STEPS)
def test_whatever_happens_the_archive_says_what_a_model_says(index: Index, steps: list[Any]) -> None:
    model = Model(f"1.7.{next(ROOTS)}")
    for step in steps:
        _take(index, model, *step)
        _agree(index, model)


def _take(index: Index, model: Model, what: str, s: int, r: int, i: int, name: str) -> None:
    study = f"{model.root}.{s}"
    series, uid = f"{study}.{r}", f"{study}.{r}.{i}"
    if what == "add":
        one = {"study": study, "series": series, "uid": uid, "name": name, "size": 10 + i, "modality": ["CT", "SR"][r]}
        there = model.instances.get(uid)
        if there is not None and there["deletion"] is None:
            return
        fresh = not model.alive(study=study)
        index.add([entry(study, str(r), uid, size=10 + i, Modality=one["modality"], PatientName=name or None)])
        model.names[study] = (None if fresh else model.names.get(study)) or name or None
        model.instances[uid] = one | {"deletion": None}
    elif what.startswith("delete"):
        level = what.removeprefix("delete ")
        scope = Scope(study, None if level == "study" else series, uid if level == "instance" else None)
        where = {"study": study} | ({} if scope.series is None else {"series": series}) | ({"uid": uid} if scope.instance else {})
        victims = model.alive(**where)
        if not victims:
            with pytest.raises(NotFound):
                delete(index, scope)
            return
        made = delete(index, scope)
        for victim in victims:
            victim["deletion"] = made.id
        model.deletions.append((made.id, False))
        model.relearn()
    elif model.deletions:
        pk, ended = model.deletions[(s + 2 * r + i) % len(model.deletions)]
        if ended:
            with pytest.raises(Settled):
                Deletions(index).restore(pk, "x")
            return
        model.deletions[model.deletions.index((pk, False))] = (pk, True)
        mine = [one for one in model.instances.values() if one["deletion"] == pk]
        if what == "restore":
            Deletions(index).restore(pk, "x")
            for one in mine:
                one["deletion"] = None
            if mine:
                model.relearn()
        else:
            purge(index, pk)
            for one in mine:
                del model.instances[str(one["uid"])]


def _agree(index: Index, model: Model) -> None:
    for study in (f"{model.root}.0", f"{model.root}.1"):
        alive = model.alive(study=study)
        found = find(index, Level.STUDY, StudyInstanceUID=study)
        if not alive:
            assert found == []
            assert find(index, Level.SERIES, StudyInstanceUID=study) == []
            continue
        (one,) = found
        assert one["00201208"]["Value"] == [len(alive)]
        assert one["00201206"]["Value"] == [len({each["series"] for each in alive})]
        assert one["00080061"]["Value"] == sorted({each["modality"] for each in alive})
        name = (values([one], "PatientName")[0] or {}).get("Alphabetic")
        assert name == model.names[study]
        per_series = {
            each["0020000E"]["Value"][0]: each["00201209"]["Value"][0] for each in find(index, Level.SERIES, StudyInstanceUID=study)
        }
        assert per_series == {uid: len(model.alive(series=uid)) for uid in {each["series"] for each in alive}}
        uids = values(find(index, Level.IMAGE, StudyInstanceUID=study), "SOPInstanceUID")
        assert sorted(uids) == sorted(each["uid"] for each in alive)
        with index.database.read() as connection:
            size = connection.scalar(select(t.study.c.size).where(t.study.c.study_instance_uid == study))
        assert size == sum(each["size"] for each in alive)
