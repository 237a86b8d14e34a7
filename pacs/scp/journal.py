"""The association log's writing side: what happens is told here by whoever serves, and written in batches by one thread.

How to tell, from anywhere that has a `Provider`:

    provider.journal.dropped(address, "TLS handshake failed: the certificate of CT1 ended on 2026-01-31; renew it there")
    provider.journal.refused(address, reason, calling_ae="CT1", called_ae="LIGHTBOX")

Associations that we ask for are told by `pacs.scu.associating`, for destinations that have a journal.

A reason is a sentence that says what was wrong and what to do; it holds no patient data and nothing secret. Nothing here
waits or raises: a call takes a lock for microseconds. Refusals for the same reason are one row that counts, whichever processes
they came to, for `WINDOW_SECONDS` by the clock; and so is what comes too thick: from one address at most `KEYS_PER_ADDRESS` rows
in that time and from all `MOST_KEYS`, and of associations at most `ROWS_PER_SECOND` for long. `dropped` and `refused` say whether
theirs is the first of its kind for a while: who writes a line of the process's own log as well does so for these alone, or a flood
would fill that. With the database away the newest `MOST_PENDING` wait for it.
"""

from __future__ import annotations

import hashlib
import itertools
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import structlog

from storage.index.ae import EVERY_RIGHT, Rights
from storage.index.associations import Direction, Entry, Outcome, Proposed

_log = structlog.get_logger(__name__)
WRITE_SECONDS: Final = 0.5
# How often what goes on is written anew, with its counts.
_REFRESH_SECONDS: Final = 15.0
WINDOW_SECONDS: Final = 600.0
KEYS_PER_ADDRESS: Final = 50
MOST_KEYS: Final = 1000
ROWS_PER_SECOND: Final = 20.0
BURST: Final = 500.0
MOST_PENDING: Final = 5000
_COMPLAIN_SECONDS: Final = 60.0
_LAST_SECONDS: Final = 4.0
_TOO_MANY: Final = "more refusals than are told apart; find out what this address runs, or block it"
_TOO_THICK: Final = "associations that came too thick to be told apart"

_Key = tuple[str, ...]


class Journal:
    """Takes what happened and hands it to `write` (`storage.index.associations.write`) in its own thread. Thread-safe."""

    def __init__(
        self,
        write: Callable[[Sequence[Entry]], None],
        *,
        write_seconds: float = WRITE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._write = write
        self._seconds = write_seconds
        self._clock = clock
        self._wall = wall
        self._lock = threading.Lock()
        self._pending: dict[str, Entry] = {}
        self._open: dict[str, Entry] = {}
        # What is one row until the window is over.
        self._window = 0
        self._groups: dict[_Key, Entry] = {}
        self._per_address: Counter[str] = Counter()
        self._tokens, self._filled = BURST, clock()
        self._refreshed = clock()
        self._lost = 0
        self._complained = float("-inf")
        self._prefix = secrets.token_hex(6)
        self._numbers = itertools.count()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dimse-journal", daemon=True)

    # What happened

    def dropped(
        self,
        address: str,
        reason: str,
        *,
        how: str = "",
        calling_ae: str = "",
        called_ae: str = "",
        direction: Direction = Direction.IN,
    ) -> bool:
        """A connection came to no association: closed, too slow, no DICOM, a TLS handshake that failed; or to no connection."""
        entry = Entry(self._id(), Outcome.DROPPED, address, calling_ae, called_ae, reason, how, direction=direction)
        return self._grouped(entry)

    def refused(
        self,
        address: str,
        reason: str,
        *,
        calling_ae: str = "",
        called_ae: str = "",
        contexts: tuple[Proposed, ...] = (),
        asks: bool = False,
        rights: Rights = EVERY_RIGHT,
        direction: Direction = Direction.IN,
        certificate: str = "",
    ) -> bool:
        """A request for an association was rejected. `asks`: an administrator may let it in, with `rights`; `certificate` is
        the fingerprint of what it has shown."""
        entry = Entry(self._id(), Outcome.REFUSED, address, calling_ae, called_ae, reason, contexts=contexts)
        entry.asks, entry.rights, entry.direction = asks, rights, direction
        entry.certificate = certificate
        return self._grouped(entry)

    def accepted(
        self,
        address: str,
        reason: str,
        *,
        calling_ae: str,
        called_ae: str,
        contexts: tuple[Proposed, ...],
        direction: Direction = Direction.IN,
    ) -> Entry:
        """An association begins; `reason` says what of it was not accepted, and why. To be given to `ended`.

        Whoever serves it keeps `operations`, `received` and `sent` of the entry up to date as it likes.
        """
        entry = Entry(self._id(), Outcome.ACCEPTED, address, calling_ae, called_ae, reason, contexts=contexts)
        entry.direction = direction
        with self._lock:
            if self._has_room():
                self._open[entry.id] = self._pending[entry.id] = entry
        return entry

    def ended(self, entry: Entry, how: str, reason: str = "") -> None:
        """An accepted association is over."""
        entry.seconds = max(0.0, time.time() - entry.at)
        entry.how, entry.last_at = how, time.time()
        entry.reason = "; ".join(part for part in (entry.reason, reason) if part)
        with self._lock:
            if self._open.pop(entry.id, None):
                self._pending[entry.id] = entry
                return
        entry.contexts = ()
        entry.reason = _TOO_THICK
        self._grouped(entry)

    def _id(self) -> str:
        return f"{self._prefix}-{next(self._numbers)}"

    def _has_room(self) -> bool:
        now = self._clock()
        self._tokens = min(BURST, self._tokens + (now - self._filled) * ROWS_PER_SECOND)
        self._filled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    # What is counted together

    def _grouped(self, entry: Entry) -> bool:
        """Whether it is the first of its group."""
        entry.last_at = self._wall()
        with self._lock:
            self._expire()
            key = self._key(entry)
            whole = self._groups.get(key)
            if whole is not None:
                _add(whole, entry)
                self._pending[whole.id] = whole
                return False
            if entry.outcome is not Outcome.ACCEPTED:
                # The same in every process; what is counted of an association is each one's own.
                entry.id = _shared_id(self._window, key)
            self._groups[key] = entry
            self._per_address[entry.address] += 1
            earlier = self._pending.get(entry.id)
            if earlier is not None:
                # Of this window too, where the clock was set back.
                _add(entry, earlier)
            self._pending[entry.id] = entry
            return True

    def _key(self, entry: Entry) -> _Key:
        """What makes it a row of its own; where there are too many, it loses what tells it apart."""
        told = (
            entry.direction, entry.outcome, entry.address, entry.calling_ae, entry.called_ae, entry.how, entry.reason, entry.certificate
        )  # fmt: skip
        if told in self._groups or self._distinct(entry.address):
            return told
        entry.calling_ae = entry.called_ae = entry.how = ""
        entry.contexts, entry.asks, entry.reason = (), False, _TOO_MANY
        if entry.outcome is Outcome.ACCEPTED:
            entry.reason = _TOO_THICK
        if (entry.direction, entry.outcome, entry.address) not in self._groups and len(self._groups) >= 2 * MOST_KEYS:
            entry.address = ""
        return (entry.direction, entry.outcome, entry.address)

    def _distinct(self, address: str) -> bool:
        return self._per_address[address] < KEYS_PER_ADDRESS and len(self._groups) < MOST_KEYS

    def _expire(self) -> None:
        window = int(self._wall() // WINDOW_SECONDS)
        if window != self._window:
            self._window = window
            self._groups.clear()
            self._per_address.clear()

    # Writing

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, once, and write no more."""
        self._over.set()
        if self._thread.is_alive():
            # A database that does not answer holds up no stop.
            self._thread.join(_LAST_SECONDS)

    def _run(self) -> None:
        while not self._over.wait(self._seconds):
            self.flush()
        self.flush()

    def flush(self) -> None:
        """Write what waits; what cannot be written waits on."""
        batch = self._taken()
        if not batch:
            return
        try:
            self._write([copy for copy, _ in batch])
        except Exception as error:  # noqa: BLE001 - logged; no association may suffer from its log
            self._put_back(batch)
            self._complain(error)

    def _taken(self) -> list[tuple[Entry, Entry]]:
        """Copies of what waits, each with the entry that it is of."""
        with self._lock:
            if self._open and self._clock() - self._refreshed >= _REFRESH_SECONDS:
                self._refreshed = self._clock()
                self._pending.update(self._open)
            live, self._pending = list(self._pending.values()), {}
            batch = [(replace(one, operations=dict(one.operations)), one) for one in live]
            for one in live:
                one.untold = 0
        return batch

    def _put_back(self, batch: list[tuple[Entry, Entry]]) -> None:
        with self._lock:
            for copy, one in batch:
                one.untold += copy.untold
            older = {one.id: one for _, one in batch}
            self._pending = older | self._pending
            while len(self._pending) > MOST_PENDING:
                del self._pending[next(iter(self._pending))]
                self._lost += 1

    def _complain(self, error: Exception) -> None:
        if self._clock() - self._complained >= _COMPLAIN_SECONDS:
            self._complained = self._clock()
            _log.warning("journal.waiting", reason=type(error).__name__, waiting=len(self._pending), lost=self._lost)


def _shared_id(window: int, key: _Key) -> str:
    return hashlib.blake2b(repr((window, *key)).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _add(whole: Entry, more: Entry) -> None:
    """Count `more` with what is one row already."""
    whole.untold += more.untold
    whole.last_at = more.last_at
    whole.received += more.received
    whole.sent += more.sent
    for name, number in more.operations.items():
        whole.operations[name] = whole.operations.get(name, 0) + number
