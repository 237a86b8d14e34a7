"""Import of what lies in folders and zip archives: through the one ingest, several at a time, with a tally at the end."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import structlog

from pacs.candidates import Candidate, Unreadable, candidates, is_directory, looks_like_dicom
from pacs.logs import described
from storage.archive import Archive
from storage.errors import LightboxError, NotDicom, Unavailable
from storage.spool import Spool
from storage.types import Outcome, Source, Stored

_log = structlog.get_logger(__name__)
# Instances in flight: each holds at most 1 MiB of memory, and what waits together is committed together.
_WINDOW = 16
# Pauses before trying again when the store or the database is away; after the last the import gives up.
_PAUSES = (1.0, 2.0, 5.0)
# Names kept of each reason; the count goes on.
_NAMES = 1000


class Unforeseen(LightboxError):
    """Something went wrong that should not have; please report it."""


class Watcher(Protocol):
    """Who is told how an import goes."""

    def __call__(self, tally: Tally) -> None: ...


@dataclass(slots=True)
class Reason:
    """Why some files were not stored: what it means, how many, and (name, text) of the first thousand."""

    meaning: str
    count: int = 0
    files: list[tuple[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class Tally:
    """What an import has come to so far."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    # Files that hold no instance: other formats, DICOMDIRs.
    skipped: int = 0
    refused: dict[str, Reason] = field(default_factory=dict)
    flags: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    seconds: float = 0.0
    # Why the import ended before its end, if it did.
    ended: str = ""

    @property
    def seen(self) -> int:
        """Files and members of archives that were looked at."""
        return self.outcomes.total() + self.skipped + self.not_stored

    @property
    def not_stored(self) -> int:
        """Instances that are not in the archive for one reason or another."""
        return sum(reason.count for reason in self.refused.values())

    @property
    def clean(self) -> bool:
        """Whether everything that could be stored is, and there was anything."""
        return not self.ended and not self.not_stored and self.outcomes.total() > 0

    def stored(self, answer: Stored) -> None:
        """One instance is in the archive."""
        self.outcomes[answer.outcome] += 1
        self.bytes += answer.size
        self.flags.update({flag.code for flag in answer.flags})

    def refuse(self, name: str, error: LightboxError) -> None:
        """One instance is not."""
        kind = type(error)
        meaning = (kind.__doc__ or "").partition("\n")[0].partition(";")[0].rstrip(".")
        reason = self.refused.setdefault(kind.__name__, Reason(meaning))
        reason.count += 1
        if len(reason.files) < _NAMES:
            reason.files.append((name, str(error)))

    def as_json(self) -> dict[str, object]:
        """For `--json`: counts by outcome, reasons with their files, flags."""
        return {
            **{outcome.name.lower(): self.outcomes[outcome] for outcome in Outcome},
            "skipped": self.skipped,
            "refused": self.not_stored,
            "reasons": {
                name: {
                    "meaning": reason.meaning,
                    "count": reason.count,
                    "files": [{"file": file, "reason": text} for file, text in reason.files],
                }
                for name, reason in sorted(self.refused.items())
            },
            "flags": dict(sorted(self.flags.items())),
            "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
            "ended": self.ended,
        }


def import_paths(
    archive: Archive,
    paths: Iterable[Path],
    *,
    without: Iterable[Path] = (),
    user: str = "",
    watch: Watcher = lambda tally: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Tally:
    """Store every instance found under `paths`; one file that cannot be is no reason to stop.

    An interrupt ends it in order: what is in flight is finished and counted. When the archive is away and stays
    away, `Tally.ended` says so; importing the same again continues, since what is there already is harmless.
    """
    run = _Run(archive, user, watch, sleep)
    begun = time.monotonic()
    try:
        for found in candidates(paths, without=without):
            run.take(found)
        run.finish()
    except KeyboardInterrupt:
        run.tally.ended = "interrupted"
        run.abandon()
    except Unavailable as error:
        run.tally.ended = str(error)
        run.abandon()
    run.tally.seconds = time.monotonic() - begun
    return run.tally


@dataclass(slots=True)
class _Flight:
    candidate: Candidate
    spool: Spool
    source: Source
    answer: Future[Stored]


class _Run:
    """One import under way: reads in one thread, up to `_WINDOW` instances being stored behind it."""

    def __init__(self, archive: Archive, user: str, watch: Watcher, sleep: Callable[[float], None]) -> None:
        self.tally = Tally()
        self._archive = archive
        self._user = user
        self._watch = watch
        self._sleep = sleep
        self._flying: deque[_Flight] = deque()

    def take(self, found: Candidate | Unreadable) -> None:
        """Look at one file and, if it may be an instance, send it on its way."""
        while len(self._flying) >= _WINDOW:
            self._land()
        if isinstance(found, Unreadable):
            name, _, text = str(found).rpartition(": ")
            self._refuse(name, Unreadable(text))
            return
        spool = self._archive.spool()
        try:
            wanted = _fill(spool, found)
        except Unavailable:
            spool.close()
            raise
        except LightboxError as error:
            spool.close()
            self._refuse(found.name, error)
            return
        if not wanted:
            spool.close()
            self._skip()
            return
        source = Source(kind="import", user=self._user, file=found.name)
        self._flying.append(_Flight(found, spool, source, self._archive.ingest.submit(spool, source)))

    def finish(self) -> None:
        """Wait for everything in flight."""
        while self._flying:
            self._land()

    def abandon(self) -> None:
        """Wait for everything in flight, without trying again."""
        while self._flying:
            self._settle(self._flying[0].answer.result)

    def _land(self) -> None:
        flight = self._flying[0]
        error = self._settle(lambda: self._patiently(flight))
        if isinstance(error, Unavailable):
            raise error

    def _settle(self, result: Callable[[], Stored]) -> LightboxError | None:
        """Count how the first in flight ended. It stays in flight when an interrupt comes while waiting for it."""
        first = self._flying[0]
        error: LightboxError | None = None
        try:
            self.tally.stored(result())
        except LightboxError as known:
            error = known
        except Exception as unknown:  # noqa: BLE001 - a fault of ours is no reason to leave the other files out
            _log.exception("import.failed")
            error = Unforeseen(f"{described(unknown)}; the log has more")
        if isinstance(error, NotDicom) and not first.candidate.called_dicom:
            self.tally.skipped += 1
        elif error is not None:
            self.tally.refuse(first.candidate.name, error)
        self._flying.popleft().spool.close()
        self._watch(self.tally)
        return error

    def _patiently(self, flight: _Flight) -> Stored:
        for pause in _PAUSES:
            try:
                return flight.answer.result()
            except Unavailable:
                self._sleep(pause)
                flight.answer = self._archive.ingest.submit(flight.spool, flight.source)
        return flight.answer.result()

    def _refuse(self, name: str, error: LightboxError) -> None:
        self.tally.refuse(name, error)
        self._watch(self.tally)

    def _skip(self) -> None:
        self.tally.skipped += 1
        self._watch(self.tally)


def _fill(spool: Spool, candidate: Candidate) -> bool:
    """Read it whole, unless its beginning says that it is no instance."""
    pieces: Iterator[bytes] = candidate.pieces()
    head = next(pieces, b"")
    if is_directory(head) or not (candidate.called_dicom or looks_like_dicom(head)):
        return False
    spool.write(head)
    for piece in pieces:
        spool.write(piece)
    return True
