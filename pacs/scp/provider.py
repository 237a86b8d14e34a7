"""What every service is handed: the archive, the limits, who may do what, who counts, and the associations that are open."""

from __future__ import annotations

import threading
from functools import partial

from pacs.ae_titles import Registry
from pacs.scp.identity import Required, Strangers, Users, Verifier
from pacs.scp.journal import Journal
from pacs.scp.settings import Alone, DimseSettings, Load, Nobody, Observer
from pacs.scp.transport import Stopping, Transport
from storage.archive import Archive
from storage.index import associations
from storage.index.ae import UnknownCallers, rights_of


class Provider:
    """Shared by all associations of one server. Thread-safe."""

    def __init__(
        self,
        archive: Archive,
        settings: DimseSettings,
        observer: Observer | None = None,
        load: Load | None = None,
        users: Users | None = None,
    ) -> None:
        self.archive = archive
        self.settings = settings
        self.observer: Observer = observer or Nobody()
        self.load: Load = load or Alone()
        self.registry = Registry(
            archive.index,
            settings.ae_title,
            unknown_callers=UnknownCallers(settings.unknown_callers),
            unknown_rights=rights_of(settings.unknown_caller_rights),
            any_called_ae=settings.any_called_ae,
        )
        # Written to by whoever learns of an association or a connection: see `pacs.scp.journal`.
        self.journal = Journal(partial(associations.write, archive.index))
        self.verifier = Verifier(users or Strangers(), Required(settings.user_identity))
        self.stopping = Stopping()
        self._open: set[Transport] = set()
        self._places = settings.max_associations
        self._changed = threading.Condition()

    def take_place(self) -> bool:
        """Reserve a place for one more association; False when all are taken. Given back with `closed`."""
        with self._changed:
            if not self._places:
                return False
            self._places -= 1
        self.load.add(1)
        return True

    def opened(self, transport: Transport) -> None:
        """An association is being served on `transport`, in a place that was taken."""
        with self._changed:
            self._open.add(transport)

    def closed(self, transport: Transport | None) -> None:
        """It is over; None where it came to nothing."""
        self.load.add(-1)
        with self._changed:
            if transport:
                self._open.discard(transport)
            self._places += 1
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait until no place is taken; whether that came to pass."""
        everything = self.settings.max_associations
        with self._changed:
            return self._changed.wait_for(lambda: self._places == everything, timeout=max(0.0, seconds))

    def cut(self) -> None:
        """Cut every connection that is still open."""
        with self._changed:
            for transport in self._open:
                transport.cut()

    @property
    def associations(self) -> int:
        """How many places are taken now."""
        with self._changed:
            return self.settings.max_associations - self._places
