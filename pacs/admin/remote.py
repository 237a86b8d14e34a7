"""`/api/aes/{title}/find`: what another archive has, by C-FIND; what is chosen of it is fetched by `/api/transfers`."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from pacs.admin.api import Operation
from pacs.admin.entities import PRINTABLE
from pacs.scp.identifiers import text_values
from pacs.scp.journal import Journal
from pacs.scp.transport import Ended
from pacs.scu import querying
from pacs.scu.asking import RETURNED, keys_of
from pacs.scu.associating import NotReached
from pacs.scu.nodes import destination_of
from pacs.tls import Credentials
from storage.attributes import name_of
from storage.errors import LightboxError, NotFound
from storage.index import Index
from storage.problems import WebRefusal
from storage.types import Level

# Somebody waits at a page for it.
_ANSWER_SECONDS: Final = 15.0

Text = Annotated[str, Field(max_length=1000, pattern=PRINTABLE)]


class Question(BaseModel):
    """What is asked: keys by keyword, with the wildcards, ranges and lists of PS3.4 C.2.2.2; empty ones are only returned."""

    model_config = ConfigDict(extra="forbid", strict=True)

    level: Annotated[Level, Field(strict=False)] = Level.STUDY
    keys: Annotated[dict[Annotated[str, Field(min_length=1, max_length=64, pattern=PRINTABLE)], Text], Field(max_length=50)] = {}
    limit: Annotated[int, Field(ge=1, le=1000, description="Answers at most; the rest is cancelled.")] = 100


class Answers(BaseModel):
    """What it has, by keyword: values as text, several in a list."""

    matches: list[dict[str, str | list[str]]]
    more: Annotated[bool, Field(description="Whether there may be more than the limit.")]


class Remote:
    """Asks other archives. `calling` is what this one calls itself, `credentials` who it is over TLS; `journal` is told."""

    def __init__(self, index: Index, calling: str, credentials: Credentials, journal: Journal | None = None) -> None:
        self._index = index
        self._calling = calling
        self._credentials = credentials
        self._journal = journal

    def ask(self, title: str, question: Question) -> Answers:
        """The answers of a node. Raises NotFound, BadRequest; WebRefusal 502 when the node does not answer, or refuses."""
        asked = dict.fromkeys(RETURNED[question.level], "") | question.keys
        keys = keys_of(asked.items())
        destination = destination_of(
            self._index,
            title,
            calling_ae=self._calling,
            credentials=self._credentials,
            answer_seconds=_ANSWER_SECONDS,
            journal=self._journal,
        )
        if destination is None:
            raise NotFound(f"there is no node {title!r} that can be called: pacs ae add {title} HOST PORT")
        try:
            found = list(querying.find(destination, question.level, keys, most=question.limit))
        except Ended as error:
            raise _refusal(NotReached(f"{title} ended the association before it had answered: {error}")) from error
        except LightboxError as error:
            raise _refusal(error) from error
        matches = [{name_of(tag): _plain(match.get(tag, {})) for tag in keys} for match in found]
        return Answers(matches=matches, more=len(found) == question.limit)


def _refusal(error: LightboxError) -> WebRefusal:
    return WebRefusal(502, str(error), "ask it for a C-ECHO in /admin/, and look into the log of associations")


def _plain(element: Any) -> str | list[str]:
    values = text_values(element)
    return values if len(values) > 1 else "".join(values)


def operations(remote: Remote) -> tuple[Operation, ...]:
    """The operation."""
    return (
        Operation(
            "POST",
            "/api/aes/{title}/find",
            lambda asked: remote.ask(asked.path["title"], asked.body),
            "Ask a node what it has, by C-FIND.",
            takes=Question,
            gives=Answers,
        ),
    )
