"""One archive: an index, an object store and the only way in, as a value that every protocol is handed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from storage.index import Index
from storage.ingest import Ingest
from storage.spool import Spool
from storage.types import Blobs


@dataclass(frozen=True, slots=True)
class Archive:
    """What DIMSE and DICOMweb share. Made once per process by the composition root."""

    index: Index
    blobs: Blobs
    ingest: Ingest
    spool_folder: Path
    max_object_bytes: int

    def spool(self) -> Spool:
        """An empty spool that will refuse more than `max_object_bytes`."""
        return Spool(self.spool_folder, limit=self.max_object_bytes)
