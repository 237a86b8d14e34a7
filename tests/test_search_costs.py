"""What a search costs, counted and not timed: statements, steps of SQLite's machine, bytecodes, system calls for answers.

Each number is what is needed today with a little room. Who needs more says why and raises it; who needs less lowers it.
None of them may grow with the number of answers, or of studies that are no answers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as STUDY_ROOT  # type: ignore[attr-defined]
from sqlalchemy import event, text

from dicomweb.exchange import Call
from dicomweb.qido import Search
from pacs.scp.transport import Transport
from storage.archive import Archive
from storage.index import Index, open_index
from storage.types import Level, Query
from tests.support.counting import bytecodes, statements, steps_of_sqlite
from tests.support.dimse_server import serving
from tests.support.entries import entry
from tests.support.indexes import conditions

# The state of the archive, the keys of a page, and its rows.
STATEMENTS = 3
# SQLite is asked first whether what is looked for is common: how many studies there are, and how many would be found.
LOOK = 2
# The form, one that has the same shape, and what SQLite is asked beforehand.
FORMS = [
    pytest.param("PatientID=P000001", "PatientID=P000002", 0, id="PatientID"),
    pytest.param("StudyInstanceUID=1.2.1", "StudyInstanceUID=1.2.2", 0, id="StudyInstanceUID"),
    pytest.param("AccessionNumber=A1", "AccessionNumber=A2", 0, id="AccessionNumber"),
    pytest.param("StudyDate=20240101-20240107", "StudyDate=20240102-20240108", 0, id="a week"),
    pytest.param("PatientName=DOE*&limit=50", "PatientName=ROE*&limit=50", 3 * LOOK, id="prefix"),
    pytest.param("PatientName=*JANE*&limit=50", "PatientName=*JOHN*&limit=50", LOOK, id="substring"),
    pytest.param("ModalitiesInStudy=CT&limit=50", "ModalitiesInStudy=MR&limit=50", LOOK, id="modality"),
    pytest.param("limit=50", "limit=50", 0, id="first page"),
    pytest.param("limit=5&offset=20", "limit=5&offset=10", 0, id="a page"),
    pytest.param("limit=50&orderby=PatientName", "limit=50&orderby=PatientName", 0, id="sorted"),
]


def _fill(index: Index, studies: range) -> None:
    index.add([
        entry(
            f"1.2.{n}", f"1.2.{n}.1", f"1.2.{n}.1.1", PatientID=f"P{n:06d}", AccessionNumber=f"A{n}",
            PatientName=f"{('Doe', 'Roe')[n % 2]}^{('Jane', 'John')[n // 2 % 2]}", StudyDate=f"202401{n % 28 + 1:02d}",
            Modality=("CT", "MR")[n % 2],
        )
        for n in studies
    ])  # fmt: skip


def _ask(index: Index, query: str) -> bytes:
    call = Call("GET", {}, tuple(parse_qsl(query)), {"accept": "application/dicom+json"})
    return b"".join(piece for piece in Search(index, Level.STUDY)(call).body if isinstance(piece, bytes))


@pytest.mark.parametrize(("query", "alike", "looks"), FORMS)
def test_sql_of_a_search(query: str, alike: str, looks: int, index: Index) -> None:
    _fill(index, range(40))
    index.searchables.known()
    for _ in range(2):
        with statements(index) as said:
            assert len(_ask(index, query)) > 100
        assert len(said) <= STATEMENTS + (looks if index.database.sqlite else 0), "\n".join(one[:200] for one in said)
        query = alike


@pytest.mark.parametrize("studies", [8, 80])
def test_sql_of_a_search_whatever_is_found(studies: int, index: Index) -> None:
    _fill(index, range(studies))
    index.searchables.known()
    with statements(index) as said:
        assert _ask(index, "StudyDate=20240101-").count(b'"00081190"') == studies
    assert len(said) <= STATEMENTS


@pytest.mark.parametrize(("query", "alike", "_looks"), [one for one in FORMS if one.id not in ("a week", "substring", "prefix", "modality", "sorted")])
def test_steps_of_sqlite_do_not_grow_with_the_archive(query: str, alike: str, _looks: int, tmp_path: Path) -> None:
    index = open_index(f"sqlite:///{tmp_path / 'index.db'}")
    try:
        steps = []
        for studies in (range(200), range(200, 1200)):
            _fill(index, studies)
            _ask(index, alike)
            steps.append(steps_of_sqlite(index, lambda: _ask(index, query)))
    finally:
        index.close()
    print(steps)
    assert 0 < steps[1] <= 1.1 * steps[0] + 20


def test_instructions_of_an_exact_search(tmp_path: Path) -> None:
    """Of a shape that was asked for before: nothing is planned, built or compiled."""
    index = open_index(f"sqlite:///{tmp_path / 'index.db'}")
    try:
        _fill(index, range(40))
        _ask(index, "PatientID=P000001")
        exact = bytecodes(lambda: _ask(index, "PatientID=P000002"))
        ten = bytecodes(lambda: _ask(index, "limit=10"))
        twenty = bytecodes(lambda: _ask(index, "limit=20"))
    finally:
        index.close()
    each = (twenty - ten) / 10
    print(f"{exact} bytecodes, {each:.0f} for each answer")
    assert exact < EXACT
    assert each < EACH


EXACT = 14_000
EACH = 1_600


@pytest.mark.parametrize("studies", [20, 190])
def test_costs_of_a_c_find(studies: int, archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many answers there are, they are a few statements, and go out many at a time."""
    _fill(archive.index, range(studies))
    archive.index.searchables.known()
    sent: list[int] = []
    send = Transport.send

    def counted(self: Transport, data: bytes) -> None:
        sent.append(len(data))
        send(self, data)

    monkeypatch.setattr(Transport, "send", counted)
    query = Dataset()
    query.QueryRetrieveLevel, query.StudyDate, query.PatientName, query.StudyInstanceUID = "STUDY", "20240101-", "", ""
    entity: Any = AE(ae_title="COUNTING")
    entity.add_requested_context(STUDY_ROOT)
    with serving(archive) as server:
        association = entity.associate("127.0.0.1", server.port, ae_title="LIGHTBOX")
        try:
            sent.clear()
            with statements(archive.index) as said:
                answers = [status.Status for status, _ in association.send_c_find(query, STUDY_ROOT)]
        finally:
            association.release()
    assert answers == [0xFF00] * studies + [0]
    searching = [one for one in said if " study" in one]
    assert len(searching) <= 2, "\n".join(one[:200] for one in said)
    # The first at once, those that came meanwhile together, and the last word; the release is answered apart.
    assert len(sent) <= 6


def _explained(index: Index, query: Query) -> list[str]:
    """How PostgreSQL finds the keys of a page, when it has seen what there is and the way matters to it."""
    said: list[tuple[str, Any]] = []

    def executed(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_more: Any) -> None:
        said.append((statement, parameters))

    event.listen(index.database.engine, "before_cursor_execute", executed)
    assert len(list(index.find(query))) == query.limit
    event.remove(index.database.engine, "before_cursor_execute", executed)
    (keys,) = (one for one in said if "OFFSET" in one[0])
    autocommit = index.database.engine.execution_options(isolation_level="AUTOCOMMIT")
    with autocommit.connect() as connection:
        # What the server does by itself after a while: it knows which pages everybody sees whole.
        connection.execute(text("VACUUM ANALYZE study, series"))
    with index.database.read() as connection:
        # With some hundred studies it hardly matters which way.
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        connection.execute(text("SET LOCAL enable_bitmapscan = off"))
        plan = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, TIMING OFF) {keys[0]}", keys[1])
        return [str(line) for line in plan.scalars()]


@pytest.mark.postgres
@pytest.mark.parametrize("asked", [{}, {"StudyDate": "20240101-20240127"}])
def test_a_page_far_behind_is_found_in_the_index_alone(asked: dict[str, str], index: Index) -> None:
    """No row of a study is read for the keys of a page, and of the index not even the entries of the days before."""
    if index.database.sqlite:
        pytest.skip("every index of SQLite has the keys of its rows")
    _fill(index, range(600))
    plan = _explained(index, Query(Level.STUDY, conditions(asked), offset=555, limit=10))
    (scan,) = (line for line in plan if "using ix_study_order" in line)
    assert "Index Only Scan Backward" in scan, plan
    # Of the day itself there are 21 or 22.
    assert float(scan.partition("actual rows=")[2].split()[0]) < 35, plan


@pytest.mark.postgres
def test_a_rare_modality_leads_to_its_studies(index: Index) -> None:
    """Its entries in the index of modalities are found, and nothing else of that index is passed."""
    if index.database.sqlite:
        pytest.skip("of SQLite's plans tests/test_index_find.py tells")
    _fill(index, range(600))
    index.add([entry(f"1.3.{n}", StudyDate="20200101", Modality="SEG") for n in range(2)])
    plan = _explained(index, Query(Level.STUDY, conditions({"ModalitiesInStudy": "SEG"}), limit=2))
    at = next(number for number, line in enumerate(plan) if "using ix_series_modality" in line)
    assert all(f"({column} = " in plan[at + 1] for column in ("partition", "modality")), plan
