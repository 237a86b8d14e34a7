"""Where objects are kept: files, S3 or memory, behind the one port `storage.types.Blobs`."""

from __future__ import annotations
