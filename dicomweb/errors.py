"""Error bodies, in the shape that DICOMweb shares with the administration API."""

from __future__ import annotations

from storage.problems import TODO, WebRefusal, body_of, headers_of, note, status_of

__all__ = ["TODO", "WebRefusal", "body_of", "headers_of", "note", "status_of"]
