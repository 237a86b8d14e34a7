"""Deleted instances and the bytes: purging in order, whatever is cut short; verify, orphans, and an index rebuilt from objects."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pacs import processing
from pacs.processing import Work
from pacs.settings import Settings
from storage import deletion, records, upkeep
from storage.archive import Archive
from storage.blobs import MemoryBlobs
from storage.errors import Rejected, StoreUnavailable
from storage.index import open_index
from storage.index.deleted_rows import Deletion, State
from storage.index.deletions import Deletions
from storage.index.holds import Holds
from storage.ingest import Ingest
from storage.jobs import JobQueue
from storage.rejection import Why
from storage.types import Content, Outcome, Scope
from storage.upkeep import Fault
from tests.support import made
from tests.support.archive import ingest
from tests.test_deletions import everything

SCOPES = [Scope("1.2.3"), Scope("1.2.3", "1.2.3.4"), Scope("1.2.3", "1.2.3.4", "1.2.3.4.1")]


def work_off(archive: Archive, *, later: bool = False) -> None:
    """Run every job that is due, as a worker does; `later`: when the leases of whoever died have ended."""
    kinds = processing.kinds(Work(archive, Settings()))
    queue = JobQueue(archive.index, clock=lambda: datetime.now(UTC).timestamp() + (3600 if later else 0))
    while claimed := queue.claim("test", limit=10):
        for job in claimed:
            kinds[job.kind](job)
            assert queue.done(job)


def files(archive: Archive) -> set[str]:
    return {blob.key for blob in archive.blobs.list()}


def instances(archive: Archive) -> set[str]:
    return {key for key in files(archive) if not records.is_record(key)}


@pytest.fixture
def stored(archive: Archive) -> Archive:
    """Study 1.2.3 with two instances in 1.2.3.4 and one in 1.2.3.5, and study 1.9 with one."""
    for number in (1, 2):
        ingest(archive, made.instance(number))
    ingest(archive, made.instance(1, series="1.2.3.5"))
    ingest(archive, made.instance(1, study="1.9", series="1.9.1"))
    return archive


def delete(archive: Archive, scope: Scope, code: str = "") -> Deletion:
    return Deletions(archive.index).delete(scope, Why(code), "x")


def rebuilt(archive: Archive, tmp_path: Path, empty: Path | None = None) -> Iterator[Archive]:
    if empty is not None:
        shutil.copy(empty, tmp_path / "rebuilt.sqlite")
    index = open_index(f"sqlite:///{tmp_path / 'rebuilt.sqlite'}")
    other = replace(archive, index=index, ingest=Ingest(index, archive.blobs))
    assert list(upkeep.rebuild(other)) == []
    yield other
    other.ingest.close()
    index.close()


@pytest.mark.parametrize("scope", SCOPES)
def test_a_purge_takes_rows_then_bytes_and_leaves_nothing(stored: Archive, scope: Scope) -> None:
    before = instances(stored)
    made_ = delete(stored, scope)
    work_off(stored)
    assert instances(stored) == before, "what is deleted keeps its bytes"
    assert [key for key in files(stored) if records.is_record(key)] == [f"deletions/{made_.name}.json"]
    assert list(upkeep.verify(stored)) == list(upkeep.orphans(stored, grace=timedelta(0))) == []
    assert deletion.purge(stored, made_.id, "x").state is State.PURGED
    assert instances(stored) == before, "first the rows"
    work_off(stored)
    assert len(instances(stored)) == 4 - made_.instances
    assert files(stored) == instances(stored), "nothing is left to be remembered"
    assert list(upkeep.verify(stored)) == list(upkeep.orphans(stored, grace=timedelta(0))) == []


def test_what_was_wrong_is_remembered_when_it_is_purged(stored: Archive) -> None:
    delete(stored, SCOPES[2], "113001")
    deletion.purge(stored, 1, "x")
    work_off(stored)
    assert len(instances(stored)) == 3
    assert len(files(stored)) == 4
    with pytest.raises(Rejected, match=r"113001 .*1\.2\.3\.4\.1.*kept in quarantine"):
        ingest(stored, made.instance(1))
    assert len(instances(stored)) == 4, "never lost: it is in quarantine"
    assert stored.index.quarantined()[0].uids.instance == "1.2.3.4.1"


def test_bytes_that_another_row_has_stay(stored: Archive) -> None:
    """Purged, sent again before the bytes have gone: they are the new instance's."""
    delete(stored, SCOPES[0])
    deletion.purge(stored, 1, "x")
    assert ingest(stored, made.instance(1)).outcome is Outcome.STORED
    work_off(stored)
    assert len(instances(stored)) == 2
    assert list(upkeep.verify(stored)) == []


# Days of the policy, days since the deletion, whether it is purged.
POLICIES = [(None, 10_000, False), (30.0, 29, False), (30.0, 31, True), (0.5, 1, True)]


@pytest.mark.parametrize(("days", "age", "purged"), POLICIES)
def test_policy(stored: Archive, monkeypatch: pytest.MonkeyPatch, days: float | None, age: int, purged: bool) -> None:
    delete(stored, SCOPES[0])
    delete(stored, Scope("1.9"))
    Holds(stored.index).add("1.9", "lawsuit", "x")

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(UTC) + timedelta(days=age)

    monkeypatch.setattr("pacs.processing.deletions.datetime", Later)
    for _name, _seconds, run in processing.PERIODIC:
        run(Work(stored, Settings(purge_days=days)))
    work_off(stored)
    assert Deletions(stored.index).one(1).state is (State.PURGED if purged else State.DELETED)
    assert Deletions(stored.index).one(2).state is State.DELETED, "held"
    assert len(instances(stored)) == (1 if purged else 4)


def test_two_workers_may_purge_at_once(stored: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other has purged, or taken back, what this one has just read."""
    delete(stored, SCOPES[2])
    delete(stored, Scope("1.2.3", "1.2.3.5"))
    delete(stored, Scope("1.9"))
    found = Deletions(stored.index).page()
    Deletions(stored.index).restore(2, "x")
    deletion.purge(stored, 3, "x")
    monkeypatch.setattr(Deletions, "page", lambda *_args, states, **_named: found if State.DELETED in states else [])
    assert deletion.purge_due(stored, datetime.now(UTC), "x") == 1
    assert [Deletions(stored.index).one(pk).state for pk in (1, 2, 3)] == [State.PURGED, State.RESTORED, State.PURGED]


class Cut(Exception):
    """The process ends here."""


def test_wherever_a_purge_is_cut_short_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_index_file: Path
) -> None:
    """Each transaction and each change of the object store in turn is the last that happens; then the worker comes again."""
    monkeypatch.setattr("storage.index.purging.PAGE", 2)
    monkeypatch.setattr("storage.deletion.PAGE", 2)
    for cut in itertools.count():
        blobs = Cutting()
        shutil.copy(empty_index_file, tmp_path / f"{cut}.sqlite")
        index = open_index(f"sqlite:///{tmp_path / str(cut)}.sqlite")
        archive = Archive(index, blobs, Ingest(index, blobs), tmp_path / "spool", 1 << 20)
        for number in range(5):
            ingest(archive, made.instance(number))
        delete(archive, SCOPES[0], "113001")
        work_off(archive)
        over = _purged(archive, blobs, cut, monkeypatch)
        # At no time is a row without its bytes, and nothing comes back, whether the index is left or not.
        assert [one for one in upkeep.verify(archive) if one.fault is not Fault.ORPHAN] == []
        assert index.counts().instances == 0
        folder = tmp_path / f"{cut}-other"
        folder.mkdir()
        for other in rebuilt(archive, folder, empty_index_file):
            assert other.index.counts().instances == 0
        deletion.purge_due(archive, None, "x")
        work_off(archive, later=True)
        state = Deletions(index).one(1).state
        assert state is (State.PURGED if cut else State.DELETED), "what was begun is finished"
        assert len(instances(archive)) == (0 if cut else 5)
        archive.ingest.close()
        index.close()
        if over:
            assert cut > 8
            return


def _purged(archive: Archive, blobs: Cutting, cut: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Purge and remove the bytes until `cut` steps are done; whether that was all."""
    before = count_down(iter(range(cut)))
    whole = Deletions.purge_some

    def purge_some(self: Deletions, pk: int, by: str) -> int:
        before()
        return whole(self, pk, by)

    blobs.before = before
    with monkeypatch.context() as patched:
        patched.setattr(Deletions, "purge_some", purge_some)
        try:
            deletion.purge(archive, 1, "x")
            work_off(archive)
        except Cut:
            return False
        finally:
            blobs.before = None
    return True


def count_down(left: Iterator[int]) -> Callable[[], None]:
    def before() -> None:
        if next(left, None) is None:
            raise Cut

    return before


class Cutting(MemoryBlobs):
    """A store that a test ends in the middle."""

    before: Callable[[], None] | None = None

    def put(self, key: str, content: Content, *, replace: bool = False) -> bool:
        if self.before:
            self.before()
        return super().put(key, content, replace=replace)

    def delete(self, key: str) -> None:
        if self.before:
            self.before()
        super().delete(key)


@pytest.mark.parametrize("code", ["", "113001"])
@pytest.mark.parametrize("scope", SCOPES)
def test_a_rebuilt_index_knows_what_is_deleted(stored: Archive, tmp_path: Path, scope: Scope, code: str) -> None:
    made_ = delete(stored, scope, code)
    Holds(stored.index).add("1.9", "lawsuit", "anna")
    work_off(stored)
    for other in rebuilt(stored, tmp_path):
        assert everything(other.index) == everything(stored.index)
        (found,) = Deletions(other.index).page()
        assert (found.name, found.scope, found.why, found.left) == (made_.name, scope, Why(code), made_.instances)
        assert [(one.study, one.reason, one.by) for one in Holds(other.index).all()] == [("1.9", "lawsuit", "anna")]
        # A second time changes nothing, here or there.
        assert list(upkeep.rebuild(other)) == list(upkeep.rebuild(stored)) == []
        assert everything(other.index) == everything(stored.index)
        Deletions(other.index).restore(found.id, "x")
        Deletions(stored.index).restore(made_.id, "x")
        assert everything(other.index) == everything(stored.index)


def test_a_rebuilt_index_does_not_take_what_is_gone_for_good(stored: Archive, tmp_path: Path) -> None:
    delete(stored, SCOPES[2], "113037")
    work_off(stored)
    deletion.purge(stored, 1, "x")
    # The bytes are still there: no job has run.
    assert list(upkeep.rebuild(stored)) == []
    assert stored.index.counts().instances == 3
    work_off(stored)
    for other in rebuilt(stored, tmp_path):
        assert other.index.counts().instances == 3
        with pytest.raises(Rejected, match="113037"):
            ingest(other, made.instance(1))


def test_what_was_restored_is_alive_in_a_rebuilt_index(stored: Archive, tmp_path: Path) -> None:
    for undo in (lambda: Deletions(stored.index).restore(1, "x"), lambda: ingest(stored, made.instance(1))):
        delete(stored, SCOPES[2])
        work_off(stored)
        undo()
        work_off(stored)
    assert files(stored) == instances(stored)
    for other in rebuilt(stored, tmp_path):
        assert other.index.counts().instances == 4


def test_a_record_that_cannot_be_written_is_written_later(stored: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    delete(stored, SCOPES[0])
    with monkeypatch.context() as broken:
        def put(*_args: Any, **_named: Any) -> bool:
            raise StoreUnavailable("away")

        broken.setattr(type(stored.blobs), "put", put)
        with pytest.raises(StoreUnavailable):
            work_off(stored)
    work_off(stored, later=True)
    assert len(files(stored)) == 5
