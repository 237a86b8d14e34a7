"""Workitems by tables (PS3.4 annex CC), UPS-RS through the routes (PS3.18 11), and events on real WebSockets (8.10)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import httpx
import orjson
import pytest
from sqlalchemy import select
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from dicomweb.native_xml import from_xml, to_xml
from pacs.hosts import OnlyHosts
from pacs.processing import ended_workitems
from pacs.settings import Settings
from storage import json_model, matching, procedure_steps
from storage.archive import Archive
from storage.attributes import tag_of
from storage.errors import BadRequest, Gone, NotFound, WorkitemRefused
from storage.index import Index
from storage.index.tables import workitem_subscription
from storage.procedure_steps import FILTERED, GLOBAL, RULES, Event, Refusal, Remark, State, Workitem
from storage.workitems import Search, Workitems
from tests.support import web

NOW = "20260102030405.000000+0000"
UID, TRANSACTION, OTHER = "1.2.3.4", "1.2.3.5", "1.2.3.6"


def code(value: str) -> dict[str, Any]:
    return {
        "00080100": {"vr": "SH", "Value": [value]},
        "00080102": {"vr": "SH", "Value": ["99LBX"]},
        "00080104": {"vr": "LO", "Value": [f"meaning of {value}"]},
    }


def element(keyword: str, vr: str, *values: Any) -> dict[str, Any]:
    return {tag_of(keyword): {"vr": vr, "Value": list(values)} if values else {"vr": vr}}


def scheduled(**changes: Any) -> dict[str, Any]:
    """Everything that a new workitem must have (table CC.2.5-3)."""
    made: dict[str, Any] = {}
    for rule in RULES:
        if rule.create in ("2", "empty"):
            made |= element(rule.keyword, json_model.vrs_of(tag_of(rule.keyword))[0])
    made |= element("ScheduledProcedureStepPriority", "CS", "MEDIUM")
    made |= element("ProcedureStepLabel", "LO", "Find nodules")
    made |= element("WorklistLabel", "LO", "CAD")
    made |= element("ScheduledProcedureStepStartDateTime", "DT", "20260102120000")
    made |= element("InputReadinessState", "CS", "READY")
    made |= element("ProcedureStepState", "CS", "SCHEDULED")
    made |= element("PatientID", "LO", "P1")
    made |= element("ScheduledStationNameCodeSequence", "SQ", code("STATION1"))
    for keyword, one in changes.items():
        made[tag_of(keyword)] = one
    return made


def performed() -> dict[str, Any]:
    """What the final state COMPLETED requires."""
    item = {
        **element("PerformedStationNameCodeSequence", "SQ", code("STATION1")),
        **element("PerformedProcedureStepStartDateTime", "DT", "20260102120000"),
        **element("PerformedWorkitemCodeSequence", "SQ", code("CAD")),
        **element("PerformedProcedureStepEndDateTime", "DT", "20260102121000"),
        **element("OutputInformationSequence", "SQ"),
    }
    return element("UnifiedProcedureStepPerformedProcedureSequence", "SQ", item)


def progress(percent: str) -> dict[str, Any]:
    return element("ProcedureStepProgressInformationSequence", "SQ", element("ProcedureStepProgress", "DS", percent))


def item_in(state: State) -> Workitem:
    """A workitem in a state, claimed with TRANSACTION."""
    made = procedure_steps.created(UID, scheduled(), NOW).item
    if state is State.SCHEDULED:
        return made
    claimed = procedure_steps.state_changed(made, TRANSACTION, State.IN_PROGRESS, NOW).item
    if state is State.IN_PROGRESS:
        return claimed
    ready = procedure_steps.updated(claimed, TRANSACTION, performed(), NOW).item
    return procedure_steps.state_changed(ready, TRANSACTION, state, NOW).item


# ---- creation (PS3.4 CC.2.5)


@pytest.mark.parametrize(
    ("keyword", "value", "refusal"),
    [
        # type 1: there, with a value
        *((rule.keyword, None, Refusal.MISSING_ATTRIBUTE) for rule in RULES if rule.create == "1"),
        *((rule.keyword, [], Refusal.MISSING_VALUE) for rule in RULES if rule.create == "1"),
        # only the performer fills these in
        ("TransactionUID", [TRANSACTION], Refusal.INVALID_VALUE),
        ("ProcedureStepProgressInformationSequence", [{}], Refusal.INVALID_VALUE),
        ("UnifiedProcedureStepPerformedProcedureSequence", [{"00404050": {"vr": "DT"}}], Refusal.INVALID_VALUE),
        # CC.2.5.3, C309
        *(("ProcedureStepState", [state], Refusal.NOT_SCHEDULED) for state in State if state is not State.SCHEDULED),
        # enumerated values
        ("ScheduledProcedureStepPriority", ["URGENT"], Refusal.INVALID_VALUE),
        ("InputReadinessState", ["SOON"], Refusal.INVALID_VALUE),
        ("SOPInstanceUID", [OTHER], Refusal.INVALID_VALUE),
        ("SOPClassUID", [OTHER], Refusal.INVALID_VALUE),
    ],
)
def test_what_is_not_created(keyword: str, value: Any, refusal: Refusal) -> None:
    tag = tag_of(keyword)
    dataset = scheduled()
    dataset.pop(tag, None)
    if value is not None:
        dataset[tag] = {"vr": json_model.vrs_of(tag)[0], "Value": value}
    with pytest.raises(WorkitemRefused, match=keyword) as refused:
        procedure_steps.created(UID, dataset, NOW)
    assert refused.value.reason == refusal


@pytest.mark.parametrize("keyword", [rule.keyword for rule in RULES if rule.create == "2"])
def test_what_type_2_lets_be_empty_is_added_with_a_remark(keyword: str) -> None:
    dataset = scheduled()
    del dataset[tag_of(keyword)]
    made = procedure_steps.created(UID, dataset, NOW)
    assert made.remark is Remark.CREATED_WITH_MODIFICATIONS
    assert tag_of(keyword) in made.item.dataset


def test_what_is_created() -> None:
    made = procedure_steps.created(UID, scheduled(), NOW)
    dataset = made.item.dataset
    assert made.remark is None
    assert dataset["00080016"]["Value"] == [procedure_steps.PUSH_SOP_CLASS]
    assert dataset["00080018"]["Value"] == [UID]
    assert dataset["00404010"]["Value"] == [NOW]
    assert "00081195" not in dataset
    assert list(dataset) == sorted(dataset)
    # CC.2.4.3: a state report, and who it is assigned to
    assert [told.kind for told in made.events] == [Event.STATE_REPORT, Event.ASSIGNED]


@pytest.mark.parametrize(
    "dataset",
    [
        {"0010001": {"vr": "LO"}},
        {"0010000d": {"vr": "LO"}},
        {"00100010": []},
        {"00100010": {"vr": "LO", "Value": ["x"]}},
        {"00100020": {"vr": "LO", "Value": "x"}},
        {"00100020": {"Value": ["x"]}},
        {"00404005": {"vr": "DT", "Value": ["tomorrow"]}},
        {"00404025": {"vr": "SQ", "Value": ["no item"]}},
    ],
)
def test_what_is_no_data_set(dataset: Any) -> None:
    with pytest.raises(BadRequest):
        procedure_steps.created(UID, {**scheduled(), **dataset}, NOW)


def test_sequences_nest_only_so_deep() -> None:
    inner: dict[str, Any] = {}
    for _ in range(20):
        inner = {"00404025": {"vr": "SQ", "Value": [inner]}}
    with pytest.raises(BadRequest, match="deep"):
        json_model.check(inner)


# ---- states (PS3.4 table CC.1.1-2, CC.2.1)

OUTCOMES: list[tuple[State, State, int | None]] = [
    (State.SCHEDULED, State.SCHEDULED, 0xC303),
    (State.SCHEDULED, State.IN_PROGRESS, None),
    (State.SCHEDULED, State.COMPLETED, 0xC310),
    (State.SCHEDULED, State.CANCELED, 0xC310),
    (State.IN_PROGRESS, State.SCHEDULED, 0xC303),
    (State.IN_PROGRESS, State.IN_PROGRESS, 0xC302),
    (State.IN_PROGRESS, State.COMPLETED, 0xC304),
    (State.IN_PROGRESS, State.CANCELED, None),
    (State.COMPLETED, State.SCHEDULED, 0xC303),
    (State.COMPLETED, State.IN_PROGRESS, 0xC300),
    (State.COMPLETED, State.COMPLETED, 0xB306),
    (State.COMPLETED, State.CANCELED, 0xC300),
    (State.CANCELED, State.SCHEDULED, 0xC303),
    (State.CANCELED, State.IN_PROGRESS, 0xC300),
    (State.CANCELED, State.COMPLETED, 0xC300),
    (State.CANCELED, State.CANCELED, 0xB304),
]


@pytest.mark.parametrize(("state", "asked", "code"), OUTCOMES)
def test_changes_of_state(state: State, asked: State, code: int | None) -> None:
    item = item_in(state)
    if code is not None and code >= 0xC000:
        with pytest.raises(WorkitemRefused) as refused:
            procedure_steps.state_changed(item, TRANSACTION, asked, NOW)
        assert refused.value.reason == code
        return
    changed = procedure_steps.state_changed(item, TRANSACTION, asked, NOW)
    assert changed.remark == code
    assert changed.item.state is asked
    assert changed.item.dataset["00741000"]["Value"] == [asked]
    assert [told.kind for told in changed.events] == ([Event.STATE_REPORT] if code is None else [])


@pytest.mark.parametrize("state", [State.IN_PROGRESS, State.COMPLETED, State.CANCELED])
@pytest.mark.parametrize("transaction", ["", OTHER])
@pytest.mark.parametrize("asked", [State.IN_PROGRESS, State.COMPLETED, State.CANCELED])
def test_without_the_right_transaction_uid(state: State, transaction: str, asked: State) -> None:
    with pytest.raises(WorkitemRefused) as refused:
        procedure_steps.state_changed(item_in(state), transaction, asked, NOW)
    assert (refused.value.reason, refused.value.missing) == (0xC301, not transaction)


@pytest.mark.parametrize(
    "lacking",
    [
        "PerformedStationNameCodeSequence",
        "PerformedProcedureStepStartDateTime",
        "PerformedWorkitemCodeSequence",
        "PerformedProcedureStepEndDateTime",
    ],
)
def test_completed_only_with_what_the_final_state_requires(lacking: str) -> None:
    given = deepcopy(performed())
    del given[procedure_steps.PERFORMED]["Value"][0][tag_of(lacking)]
    item = procedure_steps.updated(item_in(State.IN_PROGRESS), TRANSACTION, given, NOW).item
    with pytest.raises(WorkitemRefused, match=lacking) as refused:
        procedure_steps.state_changed(item, TRANSACTION, State.COMPLETED, NOW)
    assert refused.value.reason == 0xC304


def test_a_cancellation_says_when_and_why() -> None:
    (found,) = item_in(State.CANCELED).dataset[procedure_steps.PROGRESS]["Value"]
    assert found["00404052"]["Value"] == [NOW]
    assert found["0074100E"]["Value"][0]["00080100"]["Value"] == ["110513"]


# ---- updates (PS3.4 CC.2.6, CC.2.4.3)


@pytest.mark.parametrize(
    ("state", "transaction", "change", "reason"),
    [
        (State.SCHEDULED, TRANSACTION, {}, 0xC310),
        (State.IN_PROGRESS, "", {}, 0xC301),
        (State.IN_PROGRESS, OTHER, {}, 0xC301),
        (State.COMPLETED, TRANSACTION, {}, 0xC300),
        (State.CANCELED, TRANSACTION, {}, 0xC300),
        (State.SCHEDULED, "", performed(), 0xC310),
        (State.SCHEDULED, "", element("ProcedureStepLabel", "LO"), 0x0121),
        *(
            (State.SCHEDULED, "", {tag_of(rule.keyword): {"vr": json_model.vrs_of(tag_of(rule.keyword))[0]}}, 0x0106)
            for rule in RULES
            if not rule.change and rule.keyword != "TransactionUID"
        ),
    ],
)
def test_what_is_not_updated(state: State, transaction: str, change: Any, reason: int) -> None:
    with pytest.raises(WorkitemRefused) as refused:
        procedure_steps.updated(item_in(state), transaction, change, NOW)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("change", "events"),
    [
        (element("WorklistLabel", "LO", "other"), []),
        (element("InputReadinessState", "CS", "INCOMPLETE"), [Event.STATE_REPORT]),
        (progress("10"), [Event.PROGRESS_REPORT]),
        (element("ScheduledStationNameCodeSequence", "SQ", code("STATION2")), [Event.ASSIGNED]),
        (element("ScheduledStationNameCodeSequence", "SQ", code("STATION1")), []),
    ],
)
def test_what_an_update_is_told_as(change: Any, events: list[Event]) -> None:
    changed = procedure_steps.updated(item_in(State.IN_PROGRESS), TRANSACTION, change, NOW)
    assert [told.kind for told in changed.events] == events
    assert changed.item.dataset.items() >= change.items()


# ---- cancellation (PS3.4 CC.2.2)


@pytest.mark.parametrize(
    ("state", "heard", "outcome", "events"),
    [
        (State.SCHEDULED, False, None, [Event.STATE_REPORT, Event.STATE_REPORT]),
        (State.IN_PROGRESS, True, None, [Event.CANCEL_REQUESTED]),
        (State.IN_PROGRESS, False, 0xC312, []),
        (State.COMPLETED, True, 0xC311, []),
        (State.CANCELED, True, 0xB304, []),
    ],
)
def test_requests_for_cancellation(state: State, heard: bool, outcome: int | None, events: list[Event]) -> None:
    request = element("ReasonForCancellation", "LT", "no longer needed")
    if outcome is not None and outcome >= 0xC000:
        with pytest.raises(WorkitemRefused) as refused:
            procedure_steps.cancel_asked(item_in(state), request, "ME", NOW, heard=heard)
        assert refused.value.reason == outcome
        return
    changed = procedure_steps.cancel_asked(item_in(state), request, "ME", NOW, heard=heard)
    assert changed.remark == outcome
    assert [told.kind for told in changed.events] == events
    if state is State.SCHEDULED:
        assert changed.item.state is State.CANCELED
        assert changed.item.dataset[procedure_steps.PROGRESS]["Value"][0]["00741238"]["Value"] == ["no longer needed"]
    if events == [Event.CANCEL_REQUESTED]:
        assert changed.events[0].fields == {"00741236": {"vr": "AE", "Value": ["ME"]}, **request}


# ---- the store, on SQLite and PostgreSQL


class Clock:
    def __init__(self) -> None:
        self.now = 1_767_323_045.0

    def __call__(self) -> float:
        return self.now


def test_the_store_keeps_and_changes(index: Index) -> None:
    items = Workitems(index)
    items.create(scheduled(), UID)
    with pytest.raises(WorkitemRefused) as refused:
        items.create(scheduled(), UID)
    assert refused.value.reason == Refusal.DUPLICATE
    items.change_state(UID, TRANSACTION, State.IN_PROGRESS)
    items.update(UID, TRANSACTION, performed())
    items.change_state(UID, TRANSACTION, State.COMPLETED)
    found = items.get(UID)
    assert (found.state, found.version, found.transaction) == (State.COMPLETED, 4, TRANSACTION)
    with pytest.raises(NotFound):
        items.get(OTHER)


def test_only_one_of_many_claims_a_workitem(index: Index) -> None:
    items = Workitems(index)
    items.create(scheduled(), UID)
    outcomes: list[int] = []
    refusals: list[int] = []

    def claim(which: int) -> None:
        try:
            items.change_state(UID, f"1.2.9.{which}", State.IN_PROGRESS)
            outcomes.append(which)
        except WorkitemRefused as refused:
            refusals.append(refused.reason)

    threads = [threading.Thread(target=claim, args=(which,)) for which in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 1
    assert refusals == [Refusal.WRONG_TRANSACTION] * 7
    assert items.get(UID).transaction == f"1.2.9.{outcomes[0]}"


def told(items: Workitems, ae_title: str, after: int = 0) -> list[tuple[str, int]]:
    return [(event.uid, event.kind) for event in items.events(ae_title, after)]


def test_subscriptions(index: Index) -> None:
    """Table CC.2.3-2: to one, to all that are and come, to those that match; ended, and suspended."""
    items = Workitems(index)
    items.create(scheduled(), UID)
    items.subscribe(UID, "ONE", locked=False)
    items.subscribe(GLOBAL, "ALL", locked=False)
    items.subscribe(FILTERED, "SOME", locked=False, filters=[(("00741202",), "LO", ("CT*",))])
    items.subscribe(GLOBAL, "LOCKED", locked=True)
    assert told(items, "ONE") == told(items, "LOCKED") == [(UID, Event.STATE_REPORT)]
    # Who subscribes to all without a lock is not told of what there is.
    assert told(items, "ALL") == told(items, "SOME") == []
    items.unsubscribe(GLOBAL, "LOCKED")

    items.create(scheduled(WorklistLabel={"vr": "LO", "Value": ["CTCAD"]}), OTHER)
    new = [(OTHER, Event.STATE_REPORT), (OTHER, Event.ASSIGNED)]
    assert told(items, "ALL") == told(items, "SOME") == new
    assert len(told(items, "ONE")) == 1

    items.suspend("ALL")
    items.create(scheduled(), "1.2.3.7")
    assert len(told(items, "ALL")) == 2
    items.change_state(UID, TRANSACTION, State.IN_PROGRESS)
    assert told(items, "ALL")[2:] == told(items, "ONE")[1:] == [(UID, Event.STATE_REPORT)]
    items.unsubscribe(UID, "ONE")
    items.unsubscribe(GLOBAL, "ALL")
    items.update(UID, TRANSACTION, progress("50"))
    assert len(told(items, "ALL")) == 3
    assert len(told(items, "ONE")) == 2
    sequences = [event.sequence for name in ("ONE", "ALL", "SOME", "LOCKED") for event in items.events(name, 0)]
    assert sorted(sequences) == list(range(1, items.latest() + 1))


@pytest.mark.parametrize(
    ("before", "uid", "locked", "after", "events"),
    [
        (None, GLOBAL, True, True, 1),
        (None, GLOBAL, False, False, 0),
        (True, GLOBAL, True, True, 0),
        (True, GLOBAL, False, True, 0),
        (False, GLOBAL, True, False, 0),
        (False, GLOBAL, False, False, 0),
        (None, UID, True, True, 1),
        (True, UID, False, False, 1),
        (False, UID, True, True, 1),
        (True, UID, True, True, 1),
    ],
)
def test_subscribing_again(index: Index, before: bool | None, uid: str, locked: bool, after: bool, events: int) -> None:
    """Table CC.2.3-2, a row for each state before: what is said of one workitem counts before what is said of all."""
    items = Workitems(index)
    items.create(scheduled(), UID)
    if before is not None:
        items.subscribe(UID, "ME", locked=before)
    newest = items.latest()
    items.subscribe(uid, "ME", locked=locked)
    assert len(told(items, "ME", newest)) == events
    with index.database.read() as connection:
        held = connection.scalar(select(workitem_subscription.c.locked).where(workitem_subscription.c.uid == UID))
    assert held is after


def test_what_has_ended_is_removed_after_a_time_unless_locked(index: Index) -> None:
    clock = Clock()
    items = Workitems(index, clock=clock)
    for uid in (UID, OTHER, "1.2.3.7"):
        items.create(scheduled(), uid)
    items.subscribe(OTHER, "KEEPER", locked=True)
    for uid in (UID, OTHER):
        items.request_cancel(uid, {}, "ME")
    clock.now += 100
    assert items.tidy(ended_seconds=200, event_seconds=200) == 0
    clock.now += 200
    assert items.tidy(ended_seconds=200, event_seconds=200) == 1
    assert items.events("KEEPER", 0) == []
    with pytest.raises(Gone):
        items.get(UID)
    with pytest.raises(Gone):
        items.change_state(UID, TRANSACTION, "IN PROGRESS")
    with pytest.raises(WorkitemRefused, match="removed"):
        items.create(scheduled(), UID)
    items.unsubscribe(OTHER, "KEEPER")
    assert items.tidy(ended_seconds=200, event_seconds=200) == 1
    assert items.get("1.2.3.7").state is State.SCHEDULED
    # Long after nobody knows that it was there.
    clock.now += 3 * 365 * 86_400
    items.tidy(ended_seconds=200, event_seconds=200)
    assert items.create(scheduled(), UID).item.uid == UID


def test_search_is_by_the_one_matching_engine(index: Index) -> None:
    items = Workitems(index)
    for number in range(5):
        items.create(scheduled(PatientID={"vr": "LO", "Value": [f"P{number}"]}), f"1.2.3.{number}")
    path = (tag_of("ScheduledStationNameCodeSequence"), tag_of("CodeValue"))
    for conditions, count in [
        ((), 5),
        ((((tag_of("PatientID"),), matching.parse((tag_of("PatientID"),), "LO", "P[")),), 0),
        ((((tag_of("PatientID"),), matching.parse((tag_of("PatientID"),), "LO", "P?")),), 5),
        (((path, matching.parse(path, "SH", "STATION1")),), 5),
        (((path, matching.parse(path, "SH", "STATION2")),), 0),
    ]:
        assert len(items.find(Search(conditions))) == count
    assert [one["00100020"]["Value"] for one in items.read(items.find(Search(limit=2, offset=1)))] == [["P1"], ["P2"]]


# ---- UPS-RS (PS3.18 11)


@pytest.fixture
def pacs(archive: Archive) -> TestClient:
    return web.client(archive)


def send(pacs: TestClient, path: str, dataset: Any, method: str = "POST") -> Any:
    return pacs.request(method, path, content=orjson.dumps([dataset]), headers={"Content-Type": "application/dicom+json"})


def state(pacs: TestClient, wanted: str, transaction: str | None = TRANSACTION, uid: str = UID) -> Any:
    given = element("ProcedureStepState", "CS", wanted)
    given |= element("TransactionUID", "UI", transaction) if transaction else {}
    return send(pacs, f"workitems/{uid}/state", given, "PUT")


@pytest.mark.parametrize("query", [f"?{UID}", f"?workitem={UID}", f"?AffectedSOPInstanceUID={UID}"])
def test_create_with_its_uid_in_the_query(pacs: TestClient, query: str) -> None:
    answer = send(pacs, f"workitems{query}", scheduled())
    assert (answer.status_code, "warning" in answer.headers) == (201, False)
    assert answer.headers["location"] == f"http://pacs.test/dicom-web/workitems/{UID}"
    again = send(pacs, f"workitems{query}", scheduled())
    assert (again.status_code, again.json()["reference"]) == (409, "PS3.18 11.4")


def test_create_without_a_uid_and_with_modifications(pacs: TestClient) -> None:
    dataset = scheduled()
    del dataset[tag_of("PatientSex")]
    answer = send(pacs, "workitems", dataset)
    assert answer.status_code == 201
    assert answer.headers["warning"] == "299 http://pacs.test/dicom-web: The Workitem was created with modifications."
    found = pacs.get(answer.headers["location"]).json()
    assert found[0]["00080018"]["Value"] == [answer.headers["location"].rpartition("/")[2]]


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"[]", "application/dicom+json", 400),
        (b"[1]", "application/dicom+json", 400),
        (b"{", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"<a/>", "application/dicom+xml", 400),
        (b"", "application/dicom+json", 400),
        (b"x", "text/plain", 415),
        (b"x", "", 415),
        (b" " * (5 << 20), "application/dicom+json", 413),
    ],
)
def test_bodies_that_are_none(pacs: TestClient, content: bytes, kind: str, status: int) -> None:
    answer = pacs.post("workitems", content=content, headers={"Content-Type": kind})
    assert answer.status_code == status
    assert set(answer.json()) == {"status", "error", "reference", "todo"}


@pytest.mark.parametrize("tag", ["00741000", "00081195", "00080018", "00091001"])
@pytest.mark.parametrize("odd", ["x", {"vr": "UI", "Value": 7}, {"Value": ["x"]}, {"vr": "PN", "Value": ["A^B"]}])
def test_elements_of_another_shape_are_refused_everywhere(pacs: TestClient, tag: str, odd: Any) -> None:
    send(pacs, f"workitems?{UID}", scheduled())
    for method, path in (("POST", "workitems"), ("POST", f"workitems/{UID}"), ("PUT", f"workitems/{UID}/state"), ("POST", f"workitems/{UID}/cancelrequest")):
        assert send(pacs, path, {tag: odd}, method).status_code == 400, (method, path)


def test_xml_both_ways(pacs: TestClient) -> None:
    created = pacs.post(f"workitems?{UID}", content=to_xml(scheduled()), headers={"Content-Type": "application/dicom+xml"})
    assert created.status_code == 201
    found = pacs.get(f"workitems/{UID}", headers={"Accept": "application/dicom+xml"})
    assert found.headers["content-type"] == "application/dicom+xml"
    assert from_xml(found.content)["00741204"]["Value"] == ["Find nodules"]
    searched = pacs.get("workitems", headers={"Accept": 'multipart/related; type="application/dicom+xml"'})
    (part,) = web.parts(searched)
    assert from_xml(part.content)["00080018"]["Value"] == [UID]


def test_a_whole_life_with_every_warning(pacs: TestClient) -> None:
    """PS3.18 11.6.3.2, 11.7.3.2, 11.8.3.2."""

    def warned(answer: Any) -> tuple[int, str]:
        return answer.status_code, answer.headers.get("warning", "").removeprefix("299 http://pacs.test/dicom-web: ")

    inconsistent = "The submitted request is inconsistent with the state of the UPS Instance."
    label = element("WorklistLabel", "LO", "other")
    path = f"workitems/{UID}"
    assert send(pacs, path, label).status_code == 404
    send(pacs, f"workitems?{UID}", scheduled())
    unclaimed = "The target URI did not reference a claimed Workitem."
    assert warned(send(pacs, f"{path}?transaction-uid={TRANSACTION}", label)) == (409, unclaimed)
    assert warned(send(pacs, path, label)) == (200, "")
    assert warned(state(pacs, "COMPLETED")) == (409, inconsistent)
    assert warned(state(pacs, "IN PROGRESS", None)) == (400, "The Transaction UID is missing.")
    assert warned(state(pacs, "IN PROGRESS")) == (200, "")
    assert warned(state(pacs, "IN PROGRESS")) == (409, inconsistent)
    assert warned(state(pacs, "SCHEDULED")) == (409, inconsistent)
    assert warned(state(pacs, "FINISHED")) == (400, "")
    assert warned(send(pacs, path, label)) == (400, "The Transaction UID is missing.")
    assert warned(send(pacs, f"{path}?{OTHER}", label)) == (409, "The Transaction UID is incorrect.")
    assert warned(state(pacs, "COMPLETED", OTHER)) == (409, "The Transaction UID is incorrect.")
    assert warned(state(pacs, "COMPLETED")) == (409, inconsistent)
    assert warned(pacs.post(f"{path}/cancelrequest")) == (409, "The performer cannot be contacted.")
    assert warned(send(pacs, f"{path}?transaction-uid={TRANSACTION}", performed())) == (200, "")
    assert warned(state(pacs, "COMPLETED")) == (200, "")
    assert warned(state(pacs, "COMPLETED")) == (200, "The UPS is already in the requested state of COMPLETED.")
    assert warned(state(pacs, "CANCELED")) == (409, inconsistent)
    assert warned(pacs.post(f"{path}/cancelrequest/ME")) == (409, "The UPS is already COMPLETED.")
    no_longer = "The submitted request is inconsistent with the current state of the Workitem."
    assert warned(send(pacs, f"{path}?{TRANSACTION}", label)) == (409, no_longer)
    assert TRANSACTION not in pacs.get(path).text
    assert TRANSACTION not in pacs.get("workitems?includefield=all").text

    send(pacs, f"workitems?{OTHER}", scheduled())
    reason = element("ReasonForCancellation", "LT", "patient left")
    assert warned(send(pacs, f"workitems/{OTHER}/cancelrequest/ME", reason)) == (202, "")
    canceled = "The UPS is already in the requested state of CANCELED."
    assert warned(pacs.post(f"workitems/{OTHER}/cancelrequest")) == (202, canceled)


@pytest.mark.parametrize(
    ("query", "uids"),
    [
        ("", [UID, OTHER]),
        (f"?SOPInstanceUID={UID}", [UID]),
        ("?ProcedureStepState=SCHEDULED", [UID]),
        ("?00741000=CANCELED", [OTHER]),
        ("?PatientID=P1&limit=1", [UID]),
        ("?offset=1", [OTHER]),
        ("?ScheduledStationNameCodeSequence.CodeValue=STATION1", [UID]),
        ("?ScheduledStationNameCodeSequence.CodeValue=STATION9", [OTHER]),
        ("?ScheduledProcedureStepStartDateTime=20260102-20260102", [UID, OTHER]),
        ("?ScheduledProcedureStepStartDateTime=20260103-", []),
        ("?PatientName=doe&fuzzymatching=true", [OTHER]),
    ],
)
def test_search(pacs: TestClient, query: str, uids: list[str]) -> None:
    send(pacs, f"workitems?{UID}", scheduled())
    other = scheduled(
        ScheduledStationNameCodeSequence={"vr": "SQ", "Value": [code("STATION9")]},
        PatientName={"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane"}]},
    )
    send(pacs, f"workitems?{OTHER}", other)
    pacs.post(f"workitems/{OTHER}/cancelrequest")
    answer = pacs.get(f"workitems{query}")
    assert [one["00080018"]["Value"][0] for one in answer.json()] == uids
    assert ("warning" in answer.headers) == ("limit" in query)


@pytest.mark.parametrize("query", ["orderby=PatientID", "totalcount=true", "limit=x", "NoSuchKey=1", "fuzzymatching=2"])
def test_searches_that_are_not_understood(pacs: TestClient, query: str) -> None:
    assert pacs.get(f"workitems?{query}").status_code == 400


def test_includefield(pacs: TestClient) -> None:
    send(pacs, f"workitems?{UID}", scheduled(StudyDescription={"vr": "LO", "Value": ["x"]}))
    assert "00081030" in pacs.get("workitems?StudyDescription=x").json()[0]
    assert procedure_steps.PERFORMED not in pacs.get("workitems").json()[0]
    assert procedure_steps.PERFORMED in pacs.get(f"workitems?includefield={procedure_steps.PERFORMED}").json()[0]
    assert procedure_steps.PERFORMED in pacs.get("workitems?includefield=all").json()[0]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", f"workitems/{UID}/subscribers/ME", 201),
        ("POST", f"workitems/{UID}/subscribers/ME?deletionlock=true", 201),
        ("POST", f"workitems/{UID}/subscribers/ME?deletionlock=1", 400),
        ("POST", f"workitems/{UID}/subscribers/ME?PatientID=1", 400),
        ("POST", f"workitems/{OTHER}/subscribers/ME", 404),
        ("POST", f"workitems/{UID}/subscribers/THISISTOOLONGFORANAE", 400),
        ("POST", f"workitems/{GLOBAL}/subscribers/ME", 201),
        ("POST", f"workitems/{GLOBAL}/subscribers/ME?filter=WorklistLabel=CAD,00404041=READY", 201),
        ("POST", f"workitems/{FILTERED}/subscribers/ME?WorklistLabel=CAD", 201),
        ("POST", f"workitems/{FILTERED}/subscribers/ME", 400),
        ("POST", f"workitems/{FILTERED}/subscribers/ME?NoSuchThing=1", 400),
        ("DELETE", f"workitems/{UID}/subscribers/ME", 200),
        ("DELETE", f"workitems/{OTHER}/subscribers/ME", 404),
        ("DELETE", f"workitems/{GLOBAL}/subscribers/ME", 200),
        ("POST", f"workitems/{GLOBAL}/subscribers/ME/suspend", 200),
        ("POST", f"workitems/{FILTERED}/subscribers/ME/suspend", 200),
        ("POST", f"workitems/{UID}/subscribers/ME/suspend", 400),
        ("GET", "workitems/nothing", 400),
        ("PUT", f"workitems/{UID}", 405),
    ],
)
def test_subscription_requests(pacs: TestClient, method: str, path: str, status: int) -> None:
    """PS3.18 11.10 to 11.12."""
    send(pacs, f"workitems?{UID}", scheduled())
    answer = pacs.request(method, path)
    assert answer.status_code == status
    if status == 201:
        assert answer.headers["content-location"] == "ws://pacs.test/dicom-web/subscribers/ME"


# ---- events (PS3.18 8.10, 11.13), on a real server


@pytest.fixture
def served(archive: Archive) -> Iterator[str]:
    with web.serving(archive) as url:
        yield url


def post(url: str, dataset: Any) -> httpx.Response:
    return httpx.post(url, content=orjson.dumps([dataset]), headers={"Content-Type": "application/dicom+json"})


def test_events_on_a_websocket(served: str, archive: Archive) -> None:
    """What happened before the channel was opened comes first, what another process does comes too, nothing twice."""
    spaced = httpx.post(f"{served}/workitems/{GLOBAL}/subscribers/MY%20AE").headers["content-location"]
    assert spaced.endswith("/subscribers/MY%20AE")
    answer = httpx.post(f"{served}/workitems/{GLOBAL}/subscribers/WATCHER")
    channel = answer.headers["content-location"]
    assert post(f"{served}/workitems?{UID}", scheduled()).status_code == 201
    with connect(channel) as socket:
        first = orjson.loads(socket.recv(10))
        assert first["00001000"]["Value"] == [UID]
        assert first["00001002"]["Value"] == [Event.STATE_REPORT]
        assert first["00741000"]["Value"] == ["SCHEDULED"]
        assert first["00404041"]["Value"] == ["READY"]
        assert first["00000002"]["Value"] == [procedure_steps.EVENT_SOP_CLASS]
        assert orjson.loads(socket.recv(10))["00001002"]["Value"] == [Event.ASSIGNED]
        # Another process is another store over the same database.
        others = Workitems(archive.index)
        others.change_state(UID, TRANSACTION, State.IN_PROGRESS)
        assert orjson.loads(socket.recv(10))["00741000"]["Value"] == ["IN PROGRESS"]
        others.update(UID, TRANSACTION, progress("40"))
        told = orjson.loads(socket.recv(10))
        assert told["00741002"]["Value"][0]["00741004"]["Value"] == ["40"]
        asked = httpx.post(f"{served}/workitems/{UID}/cancelrequest/BOSS")
        assert asked.status_code == 202
        told = orjson.loads(socket.recv(10))
        assert (told["00001002"]["Value"], told["00741236"]["Value"]) == ([Event.CANCEL_REQUESTED], ["BOSS"])
    others.change_state(UID, TRANSACTION, State.CANCELED)
    with connect(channel) as socket:
        told = orjson.loads(socket.recv(10))
        if told["00001002"]["Value"] == [Event.CANCEL_REQUESTED]:
            # The channel was closed before it was noted how far it had come: better twice than not at all.
            told = orjson.loads(socket.recv(10))
        assert told["00741000"]["Value"] == ["CANCELED"]
        with pytest.raises(TimeoutError):
            socket.recv(0.5)


@pytest.mark.parametrize(
    ("origin", "allowed"), [(None, True), ("own", True), ("http://evil.test", False), ("null", False)]
)
def test_only_our_own_pages_open_channels(served: str, origin: str | None, allowed: bool) -> None:
    own = served.removesuffix("/dicom-web")
    channel = f"{served.replace('http', 'ws', 1)}/subscribers/ME"
    given: Any = own if origin == "own" else origin
    if allowed:
        with connect(channel, origin=given):
            return
    with pytest.raises(InvalidStatus) as refused:
        connect(channel, origin=given)
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize(("host", "allowed"), [("127.0.0.1", True), ("localhost:8080", True), ("evil.test", False)])
def test_a_page_that_calls_itself_by_our_address_opens_no_channel(archive: Archive, host: str, allowed: bool) -> None:
    """DNS rebinding: Host and Origin agree there, but the name is none of this machine's."""
    pacs = TestClient(OnlyHosts(web.application(archive)))
    headers = {"Host": host, "Origin": f"http://{host}"}
    if allowed:
        with pacs.websocket_connect("/dicom-web/subscribers/ME", headers=headers):
            return
    with pytest.raises(WebSocketDisconnect), pacs.websocket_connect("/dicom-web/subscribers/ME", headers=headers):
        pass


def test_the_worker_removes_what_has_ended(archive: Archive) -> None:
    long_ago = Clock()
    long_ago.now = 1.0
    for uid, store in [(UID, Workitems(archive.index, clock=long_ago)), (OTHER, Workitems(archive.index))]:
        store.create(scheduled(), uid)
        store.request_cancel(uid, {}, "ME")
    ended_workitems.remove(archive, Settings())
    assert Workitems(archive.index).get(OTHER).state is State.CANCELED
    client = web.client(archive)
    for method, path in (("GET", ""), ("PUT", "/state"), ("POST", ""), ("POST", "/cancelrequest"), ("POST", "/subscribers/ME"), ("DELETE", "/subscribers/ME")):
        if method in ("GET", "DELETE"):
            answer = client.request(method, f"workitems/{UID}{path}")
        else:
            answer = send(client, f"workitems/{UID}{path}", element("ProcedureStepState", "CS", "IN PROGRESS") if path == "/state" else {}, method)
        assert (answer.status_code, "removed" in answer.json()["error"]) == (410, True), (method, path)
    assert client.get("workitems/1.2.3.99").status_code == 404
