"""Keys of workitems: whatever matches lies within the spans that a condition has, and searches read little else."""

from __future__ import annotations

from typing import Any

import pytest
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from storage import matching
from storage.attributes import tag_of
from storage.errors import BadRequest
from storage.index import Index
from storage.index.migrations.versions import v0013_workitem_keys
from storage.json_model import vrs_of
from storage.matching import Conditions
from storage.workitem_keys import KEYED, keys_of, spans_of
from storage.workitems import Search, Workitems
from tests.test_ups import TRANSACTION, code, element, scheduled

LABEL, NAME = (tag_of("WorklistLabel"),), (tag_of("PatientName"),)
START = (tag_of("ScheduledProcedureStepStartDateTime"),)
STATION = (tag_of("ScheduledStationNameCodeSequence"), tag_of("CodeValue"))
STATE = (tag_of("ProcedureStepState"),)


def asked(path: tuple[str, ...], value: str) -> Conditions:
    return matching.combined(((path, matching.parse(path, vrs_of(path[-1])[0], value)),))


@pytest.mark.parametrize(
    ("path", "value", "narrows"),
    [
        (LABEL, "CAD", True),
        (LABEL, "CA*", True),
        (LABEL, "C?D", True),
        (LABEL, "*AD", False),
        (LABEL, "", False),
        (LABEL, '""', False),
        (NAME, "DOE^JANE", True),
        (NAME, "doe*", True),
        (NAME, "*doe*", False),
        (START, "20260102-20260103", True),
        (START, "20260102-", True),
        (START, "-20260102120000", True),
        (STATION, "STATION1", True),
        ((tag_of("CommentsOnTheScheduledProcedureStep"),), "x", False),
    ],
)
def test_what_narrows(path: tuple[str, ...], value: str, narrows: bool) -> None:
    [(_, condition)] = asked(path, value)
    assert (spans_of(path, condition) is not None) is narrows


def test_looser_matching_narrows_no_text() -> None:
    for path, value in ((LABEL, "CAD"), (NAME, "DOE")):
        [(_, condition)] = asked(path, value)
        assert spans_of(path, condition, fuzzy=True) is None


TEXT = st.text("aAbB^= é漢", max_size=5)
DAYS = st.sampled_from(["2026", "202601", "20260102", "20260102120000", "20260102120000.5", "20260102120000+0100", "2026010212", "20251231235959", "2025-0500"])
VALUES: dict[str, Any] = {
    "DT": DAYS,
    "PN": st.fixed_dictionaries({}, optional={"Alphabetic": TEXT, "Ideographic": TEXT}),
}
ASKED: dict[str, Any] = {"DT": st.builds(lambda a, how, b: f"{a}{how}{b}", DAYS, st.sampled_from(["-", ""]), st.just("")) | DAYS.map(lambda d: f"-{d}")}


@given(st.data())
def test_whatever_matches_has_a_key_in_a_span(data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(KEYED)))
    vr = vrs_of(path[-1])[0]
    values = data.draw(st.lists(st.none() | VALUES.get(vr, TEXT), max_size=2))
    item: dict[str, Any] = {path[-1]: {"vr": vr, "Value": values}}
    dataset = item if len(path) == 1 else {path[0]: {"vr": "SQ", "Value": [{}, item]}}
    question = data.draw(ASKED.get(vr, st.text("aAbB^=* ?\\é漢\"", max_size=6)))
    try:
        conditions = asked(path, question)
    except BadRequest:
        return
    fuzzy = data.draw(st.booleans())
    for _, condition in conditions:
        spans = spans_of(path, condition, fuzzy=fuzzy)
        if spans is not None and matching.matches_dataset(conditions, dataset, fuzzy=fuzzy):
            keys = [key for name, key in keys_of(dataset) if name == KEYED[path]]
            assert any(span.low <= key <= span.high for key in keys for span in spans)


def many(items: Workitems, count: int) -> None:
    for number in range(count):
        items.create(
            scheduled(
                PatientID={"vr": "LO", "Value": [f"P{number}"]},
                PatientName={"vr": "PN", "Value": [{"Alphabetic": f"DOE{number % 7}^JANE"}]},
                WorklistLabel={"vr": "LO", "Value": [f"L{number % 5}"]},
                ScheduledProcedureStepStartDateTime={"vr": "DT", "Value": [f"202601{number % 28 + 1:02}1200"]},
                ScheduledStationNameCodeSequence={"vr": "SQ", "Value": [code(f"S{number % 3}"), code(f"T{number % 2}")]},
            ),
            f"1.2.3.{number}",
        )


def test_searches_read_what_may_match_and_find_what_does(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    items = Workitems(index)
    many(items, 60)
    claimed = "1.2.3.7"
    items.change_state(claimed, TRANSACTION, "IN PROGRESS")
    items.update(claimed, TRANSACTION, element("WorklistLabel", "LO", "CHANGED"))
    read: list[str] = []
    match = matching.matches_dataset

    def counted(conditions: Any, dataset: Any, **how: Any) -> bool:
        read.append(dataset["00080018"]["Value"][0])
        return match(conditions, dataset, **how)

    monkeypatch.setattr(matching, "matches_dataset", counted)
    for conditions, found, most in (
        (asked(STATE, "IN PROGRESS"), 1, 1),
        (asked(STATE, "IN PROGRESS\\CANCELED"), 1, 1),
        (asked(LABEL, "CHANGED"), 1, 1),
        (asked(LABEL, "L2"), 11, 11),
        (asked(LABEL, "L?"), 59, 59),
        (asked((tag_of("PatientID"),), "P5"), 1, 1),
        (asked(NAME, "doe3*"), 9, 9),
        (asked(START, "20260110-20260111"), 4, 4),
        (asked(STATION, "S1"), 20, 20),
        (asked(STATION, "S1") + asked(LABEL, "L4"), 4, 4),
        (asked(STATE, "IN*"), 1, 60),
    ):
        read.clear()
        assert (len(items.find(Search(conditions))), len(read)) == (found, most)


def test_keys_are_made_for_workitems_of_older_releases(index: Index) -> None:
    many(Workitems(index), 3)
    with index.database.write() as connection:
        before = connection.execute(text("SELECT name, value, workitem_pk FROM workitem_key ORDER BY 1, 2, 3")).all()
        for statement in ("DROP TABLE workitem_key", "DROP TABLE workitem_gone"):
            connection.execute(text(statement))
        # This migration alone: those that came after it have made what they make.
        with Operations.context(MigrationContext.configure(connection)):
            v0013_workitem_keys.upgrade()
    with index.database.read() as connection:
        after = connection.execute(text("SELECT name, value, workitem_pk FROM workitem_key ORDER BY 1, 2, 3")).all()
    assert before
    assert after == before
