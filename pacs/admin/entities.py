"""`/api/aes`: the DICOM nodes that this archive knows, as `pacs ae` has them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from pacs import diagnosis
from pacs.admin.api import Asked, Operation
from storage.index import Index
from storage.index.ae import AeTitle, add_ae_title, ae_title_of, ae_titles, remove_ae_title
from storage.problems import WebRefusal

_NODE = "/api/aes/{title}"
# No control characters, which no name has and PostgreSQL does not keep (NUL).
_PRINTABLE = r"^[^\x00-\x1f\x7f]*$"
_HOST = r"^[^\s\x00-\x1f\x7f]+$"


class Place(BaseModel):
    """Where a node listens, and what it is."""

    model_config = ConfigDict(extra="forbid", strict=True)

    host: Annotated[str, Field(min_length=1, max_length=253, pattern=_HOST)]
    port: Annotated[int, Field(ge=1, le=65535)]
    description: Annotated[str, Field(max_length=1000, pattern=_PRINTABLE)] = ""


class Node(BaseModel):
    """A DICOM node by its AE title."""

    title: str
    host: str
    port: int
    description: str


class Step(BaseModel):
    """One step of a C-ECHO, and how far it came."""

    name: str
    ok: bool
    text: str
    milliseconds: float


def operations(index: Index, calling: str) -> tuple[Operation, ...]:
    """The operations on nodes. C-ECHO is asked under the AE title `calling`."""

    def every(_asked: Asked) -> list[Node]:
        return [Node(**asdict(one)) for one in ae_titles(index)]

    def one(asked: Asked) -> Node:
        return Node(**asdict(_known(index, asked.path["title"])))

    def put(asked: Asked) -> Node:
        add_ae_title(index, AeTitle(asked.path["title"], **asked.body.model_dump()))
        return one(asked)

    def remove(asked: Asked) -> None:
        if not remove_ae_title(index, _known(index, asked.path["title"]).title):
            raise _unknown()

    def echo(asked: Asked) -> list[Step]:
        node = _known(index, asked.path["title"])
        steps = diagnosis.echo(node.title, node.host, node.port, calling=calling)
        return [Step(**asdict(step)) for step in steps]

    return (
        Operation("GET", "/api/aes", every, "The nodes that this archive knows.", gives=list[Node]),
        Operation("GET", _NODE, one, "One node.", gives=Node),
        Operation("PUT", _NODE, put, "Add a node, or change the one of this title.", takes=Place, gives=Node),
        Operation("DELETE", _NODE, remove, "Remove a node."),
        Operation("POST", f"{_NODE}/echo", echo, "Ask a node for a C-ECHO: every step and how far it came.", gives=list[Step]),
    )


def _known(index: Index, title: str) -> AeTitle:
    found = ae_title_of(index, title) if title.isprintable() else None
    if found is None:
        raise _unknown()
    return found


def _unknown() -> WebRefusal:
    return WebRefusal(404, "there is no node of this AE title", "GET /api/aes lists those there are; PUT adds one")
