"""The only way in: C-STORE, STOW-RS and import all end here, each with its source as a value."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

from storage.commits import GroupCommit
from storage.errors import Conflict, LightboxError, Mismatch, NotFound, Rejected
from storage.index import Added, Entry, Index, Ready, ready
from storage.index.assumed import AssumedCharsets
from storage.index.originals import Originals
from storage.non_patient import partition_of
from storage.originals import Received, digest_of, drop
from storage.rejection import meaning_of
from storage.scanner import Limits, Scan, scan
from storage.types import Blobs, Content, Job, Located, Outcome, Scope, Source, Stored, Uids

# What an observer is told of every ingest: source kind, outcome or name of the error, seconds, bytes.
Observer = Callable[[str, str, float, int], None]
JobsFor = Callable[[Scan, Source], tuple[Job, ...]]
# Raises what is wrong with an instance that its sender has said something of.
Expect = Callable[[Scan], None]


def object_key(uids: Uids, sha256: str) -> str:
    """`{h(study)}/{h(series)}/{sha256}.dcm`: no UID text in a path, a series together, fixity in the name."""
    return f"{_short(uids.study)}/{_short(uids.series)}/{sha256}.dcm"


def _short(uid: str) -> str:
    return hashlib.sha256(uid.encode("ascii", "backslashreplace")).hexdigest()[:16]


def _no_jobs(_scan: Scan, _source: Source) -> tuple[Job, ...]:
    return ()


def _anything(_scan: Scan) -> None:
    return None


def _nobody(_kind: str, _outcome: str, _seconds: float, _size: int) -> None:
    return None


class Ingest:
    """`ingest(content, source)`: scan, make durable, index, and only then return.

    Thread-safe; blocking. `submit` does the same on a small pool and gives a future, so that a caller with many
    instances in hand lets them share fsyncs and transactions. The caller closes its content afterwards.
    """

    def __init__(
        self,
        index: Index,
        blobs: Blobs,
        *,
        duplicates: Literal["keep", "replace"] = "keep",
        limits: Limits | None = None,
        jobs_for: JobsFor = _no_jobs,
        observe: Observer = _nobody,
        threads: int = 8,
    ) -> None:
        self._index = index
        self._blobs = blobs
        self._duplicates: Literal["keep", "replace"] = duplicates
        self.limits = limits or Limits()
        # The character sets of nodes that do not name theirs.
        self.assumed = AssumedCharsets(index)
        self._jobs_for = jobs_for
        self._observe = observe
        self._commit: GroupCommit[Ready, Added] = GroupCommit(self._add, turn=index.turn)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="ingest")

    def __call__(
        self,
        content: Content,
        source: Source,
        *,
        expect_study: str | None = None,
        expect_sop: tuple[str, str] | None = None,
        expect: Expect = _anything,
        original: Received | None = None,
    ) -> Stored:
        """Store one instance; on return it is durable and found by every query.

        `expect_study` is the study of a STOW-RS URL (PS3.18 10.5.1), `expect_sop` the Affected SOP Class and
        Instance UID of a C-STORE command (PS3.7 9.1.1), `expect` raises for what else the sender has promised.
        `original` is what the content was made of (`storage.coercing`), and is kept with it. Raises the errors of `storage.errors`; after one of them
        the sender may send the same instance again.
        """
        begun = time.perf_counter()
        outcome = "error"
        try:
            stored = self._store(content, source, expect_study, expect_sop, expect, original)
            outcome = stored.outcome.name.lower()
            return stored
        except LightboxError as error:
            outcome = type(error).__name__
            raise
        finally:
            self._observe(source.kind, outcome, time.perf_counter() - begun, content.size)

    def submit(
        self,
        content: Content,
        source: Source,
        *,
        expect_study: str | None = None,
        expect_sop: tuple[str, str] | None = None,
        expect: Expect = _anything,
    ) -> Future[Stored]:
        """The same, in the background: the future has the result or the error."""
        return self._pool.submit(
            self, content, source, expect_study=expect_study, expect_sop=expect_sop, expect=expect
        )

    def close(self) -> None:
        """Wait for what was submitted."""
        self._pool.shutdown(wait=True)

    def _store(
        self,
        content: Content,
        source: Source,
        expect_study: str | None,
        expect_sop: tuple[str, str] | None,
        expect: Expect,
        original: Received | None,
    ) -> Stored:
        found = scan(content.view(), self.limits, self.assumed.now())
        check(found, expect_study, expect_sop)
        expect(found)
        key = object_key(found.uids, content.sha256)
        entry = Entry(
            scan=found,
            object_key=key,
            sha256=content.sha256,
            size=content.size,
            source=source,
            received_at=datetime.now(UTC),
            jobs=self._jobs_for(found, source),
            partition=partition_of(found.sop_class_uid),
            original=original.beside(key) if original is not None else None,
        )
        with self._commit.coming() as commit:
            if original is not None and entry.original is not None:
                self._blobs.put(entry.original.object_key, original.content)
            written = self._blobs.put(entry.object_key, content)
            added = commit(ready(entry))
        if not written and not self._still_there(entry):
            # The object was there before us, without a row perhaps, and a sweep of orphans took it meanwhile.
            written = self._blobs.put(entry.object_key, content)
        if added.quarantined and self._is_the_same(entry, content, deleted=bool(added.rejected)):
            added = replace(added, quarantined=False)
            if not added.rejected:
                return _stored(entry, Outcome.ALREADY, added)
        return _answer(entry, added, written)

    def _is_the_same(self, entry: Entry, content: Content, *, deleted: bool) -> bool:
        """Whether a conflict is none, since the data sets are the same; then the newcomer's object is let go.

        It is compared with what is stored, or with what is `deleted` and not yet gone.

        What comes by C-STORE has a File Meta Information of our making, what comes as a file has that of its writer
        (PS3.10 7.1): the same instance, sent by two ways, differs in nothing that anybody would miss.
        """
        uids = entry.scan.uids
        scope = Scope(uids.study, uids.series, uids.instance, partition=entry.partition)
        stored = self._index.locate_deleted(scope) if deleted else next(iter(self._index.locate(scope)), None)
        if stored is None or stored.transfer_syntax_uid != entry.scan.transfer_syntax_uid:
            return False
        view = content.view()[entry.scan.dataset_offset :]
        same = stored.size - stored.dataset_offset == len(view) and self._equal(stored, view)
        if not same and not self._was_made_of(stored, entry, content):
            return False
        self._index.release(entry)
        if not self._index.known_keys([entry.object_key]):
            self._blobs.delete(entry.object_key)
            if entry.original is not None:
                drop(self._index, self._blobs, entry.object_key)
        return True

    def _was_made_of(self, stored: Located, entry: Entry, content: Content) -> bool:
        """Whether what is stored was made of the same data set, by rules that have changed since or by another way in."""
        before = {one.digest for one in Originals(self._index).made_into(stored.object_key)}
        if not before:
            return False
        digest = entry.original.digest if entry.original is not None else digest_of(entry.scan, content.view())
        return digest in before and self._is_sound(stored)

    def _is_sound(self, stored: Located) -> bool:
        digest = hashlib.sha256()
        try:
            for piece in self._blobs.stream(stored.object_key):
                digest.update(piece)
        except NotFound:
            return False
        return digest.hexdigest() == stored.sha256

    def _equal(self, stored: Located, view: memoryview) -> bool:
        at = 0
        try:
            for piece in self._blobs.stream(stored.object_key, stored.dataset_offset):
                if view[at : at + len(piece)] != piece:
                    return False
                at += len(piece)
        except NotFound:
            return False
        return at == len(view)

    def _add(self, entries: Sequence[Ready]) -> Sequence[Added]:
        return self._index.add(entries, duplicates=self._duplicates)

    def _still_there(self, entry: Entry) -> bool:
        try:
            return len(self._blobs.read(entry.object_key, max(0, entry.size - 1), 1)) == 1
        except NotFound:
            return False


def check(found: Scan, expect_study: str | None, expect_sop: tuple[str, str] | None) -> None:
    """Raises Mismatch where a data set is not what its sender has said of it."""
    if expect_study is not None and found.uids.study != expect_study:
        raise Mismatch(
            f"the data set's Study Instance UID {found.uids.study} is not the {expect_study} of the request;"
            " send it to its own study"
        )
    if expect_sop is not None and (found.sop_class_uid, found.uids.instance) != expect_sop:
        raise Mismatch(
            f"the command names SOP Class {expect_sop[0]} and Instance {expect_sop[1]}, the data set"
            f" {found.sop_class_uid} and {found.uids.instance}; make them agree"
        )


def _answer(entry: Entry, added: Added, written: bool) -> Stored:
    if added.rejected:
        raise Rejected(_rejection(entry, added))
    if added.outcome is None:
        raise Conflict(
            f"SOP Instance UID {entry.scan.uids.instance} is already stored with other bytes; the newcomer is kept in"
            " quarantine, where an administrator can accept it"
        )
    repaired = added.outcome is Outcome.ALREADY and written
    return _stored(entry, Outcome.REPAIRED if repaired else added.outcome, added)


def _rejection(entry: Entry, added: Added) -> str:
    """Short in front: an Error Comment has 64 characters, and the UID is in the answer anyway."""
    where = "what came is kept in quarantine" if added.quarantined else "the deleted instance is still here"
    return (
        f"deleted before as {added.rejected} {meaning_of(added.rejected)}; instance {entry.scan.uids.instance} is not taken"
        f" again, {where}, and an administrator can bring it back"
    )


def _stored(entry: Entry, outcome: Outcome, added: Added) -> Stored:
    return Stored(
        outcome=outcome,
        uids=entry.scan.uids,
        sop_class_uid=entry.scan.sop_class_uid,
        transfer_syntax_uid=entry.scan.transfer_syntax_uid,
        sha256=entry.sha256,
        size=entry.size,
        flags=(*entry.scan.flags, *added.flags),
    )
