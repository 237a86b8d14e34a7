"""What every service is handed: the archive, the limits, who may do what, who counts, and the associations that are open."""

from __future__ import annotations

from functools import partial

from pacs.ae_titles import Registry
from pacs.scp.identity import Required, Strangers, Users, Verifier
from pacs.scp.journal import Journal
from pacs.scp.places import Places
from pacs.scp.settings import Alone, DimseSettings, Load, Nobody, Observer
from pacs.scp.transport import Stopping
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
        self.places = Places(settings.max_associations, load or Alone(), rested_seconds=settings.rested_seconds)
