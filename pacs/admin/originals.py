"""`/api/instances/{instance}/originals`: what an instance was made of by the rules of an AE title, as it was received."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import StreamingResponse

from pacs.admin.api import Asked, Operation
from storage import originals
from storage.archive import Archive
from storage.index.entries import Original
from storage.index.originals import Originals

_ALL: Final = "/api/instances/{instance}/originals"
_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Received(BaseModel):
    """An instance as it was received; `instance` is the SOP Instance UID that it came with."""

    instance: str
    sha256: str
    size: int
    coerced_at: datetime


class Which(BaseModel):
    """Which original, where there are several; the first where nothing is said."""

    model_config = ConfigDict(extra="forbid")

    sha256: Annotated[str, Field(pattern="^([0-9a-f]{64})?$", description="Digest of the one that is wanted.")] = ""


def operations(archive: Archive) -> tuple[Operation, ...]:
    """The operations on originals."""

    def every(asked: Asked) -> list[Received]:
        return [received(one) for one in Originals(archive.index).of_instance(asked.path["instance"])]

    def content(asked: Asked) -> StreamingResponse:
        found, pieces = originals.stream(archive.index, archive.blobs, asked.path["instance"], asked.query.sha256)
        headers = {"Content-Disposition": 'attachment; filename="original.dcm"', "Content-Length": str(found.size)}
        return StreamingResponse(pieces, headers={**_HEADERS, **headers}, media_type="application/dicom")

    return (
        Operation("GET", _ALL, every, "What an instance was made of by rules: none where it is as it came.", gives=list[Received]),
        Operation(
            "GET", "/api/instances/{instance}/original", content, "An instance as it was received.",
            asks=Which, gives=str, media_type="application/dicom",
        ),
    )  # fmt: skip


def received(one: Original) -> Received:
    """An original as the API says it."""
    return Received(instance=one.sop_instance_uid, sha256=one.sha256, size=one.size, coerced_at=one.coerced_at)
