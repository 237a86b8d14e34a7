"""DELETE of studies, series and instances: not in PS3.18, but in every server, each with answers of its own.

Google answers 200 with an empty object or an operation, Microsoft's server and dcm4chee 204; clients take any 2xx. Here it is
200 with what can be undone. `POST …/reject/{code}` is dcm4chee's, which OHIF calls, and answers 204 as it does there.
"""

from __future__ import annotations

from typing import Final

import orjson
from anyio import to_thread
from starlette.types import Receive

from dicomweb.errors import WebRefusal
from dicomweb.exchange import Answer, Call
from dicomweb.frames import scope_of
from dicomweb.media_types import JSON
from dicomweb.request_body import batches
from dicomweb.settings import WebSettings
from storage.archive import Archive
from storage.errors import BadRequest, LimitExceeded
from storage.index.deletions import Deletion, Deletions
from storage.rejection import Why, why

# What may be said of a deletion, in the query or in a JSON object as the body.
PARAMETERS: Final = ("reason", "comment")
_LONGEST: Final = 16 << 10
_HEADERS: Final = {"Cache-Control": "no-store"}


class Delete:
    """DELETE, and POST to `reject`, of what the path names."""

    def __init__(self, archive: Archive, settings: WebSettings) -> None:
        self._deletions = Deletions(archive.index)
        self._settings = settings

    async def delete(self, call: Call, receive: Receive) -> Answer:
        """Delete, for the reason in query or body. Raises NotFound, Held, BadRequest."""
        said = await self._said(call, receive)
        made = await self._deleted(call, why(*(said.get(name, "") for name in PARAMETERS)))
        body = {
            "deletion": made.id,
            "instances": made.instances,
            "reason": made.why.code,
            "comment": made.why.comment,
            "at": f"{made.at:%Y-%m-%dT%H:%M:%S}Z",
        }
        return Answer(200, {**_HEADERS, "Content-Type": JSON}, (orjson.dumps(body),))

    async def reject(self, call: Call, receive: Receive) -> Answer:
        """Delete for the code in the path, such as `113001^DCM`. Raises NotFound, Held, BadRequest."""
        said = await self._said(call, receive)
        reason = why(call.path["code"], said.get("comment", ""))
        if not reason.code:
            raise BadRequest("the path ends in a code of PS3.16 CID 7011 by which images are rejected, such as 113001^DCM")
        await self._deleted(call, reason)
        return Answer(204, _HEADERS)

    async def _deleted(self, call: Call, reason: Why) -> Deletion:
        made: Deletion = await to_thread.run_sync(self._deletions.delete, scope_of(call), reason, call.client)
        return made

    async def _said(self, call: Call, receive: Receive) -> dict[str, str]:
        said: dict[str, object] = dict(call.query)
        body = bytearray()
        async for batch in batches(receive, self._settings):
            body += batch
            if len(body) > _LONGEST:
                raise LimitExceeded(f"the body is larger than {_LONGEST} bytes; a reason is one line")
        if body.strip():
            said |= _object(call, bytes(body))
        for name, value in said.items():
            if name not in PARAMETERS or not isinstance(value, str):
                known = " and ".join(PARAMETERS)
                raise BadRequest(f"{name[:40]!r} is not understood; a deletion takes {known}, each a text")
        return {name: str(value) for name, value in said.items()}


def _object(call: Call, body: bytes) -> dict[str, object]:
    kind = call.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != JSON:
        raise WebRefusal(415, "the body is not JSON by its Content-Type", "send Content-Type: application/json, or no body")
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise BadRequest(f"the body is no JSON object; send one with {' and '.join(PARAMETERS)}, or no body")
    return found
