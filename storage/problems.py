"""The one shape of every error body over HTTP, in DICOMweb and administration: status, error, reference and what to do."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping

import orjson

from storage import errors
from storage.errors import LightboxError

_log = logging.getLogger(__name__)


class WebRefusal(LightboxError):
    """A refusal that only HTTP knows, with its status, extra headers and what to do about it."""

    def __init__(self, status: int, text: str, todo: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.todo = todo
        self.headers = dict(headers or {})


# What a client can do about each kind of error; looked up along the exception's ancestry like its status.
TODO: dict[type[LightboxError], str] = {
    LightboxError: "report the time and the path of the request to the administrator, who finds the cause in the log",
    errors.Refused: "correct the instance and send it again",
    errors.Mismatch: "send each instance to the study that it belongs to",
    errors.LimitExceeded: "send less in one request, or ask the administrator to raise the limit",
    errors.Conflict: "ask the administrator to accept the quarantined instance, or give the changed one a new SOP Instance UID",
    errors.Rejected: "send a corrected instance under another SOP Instance UID, or ask the administrator to restore the deleted one",
    errors.Held: "ask the administrator, who can lift the hold when its reason is gone",
    errors.Settled: "look at its present state; what is purged can only be sent again",
    errors.StepRefused: "look at the step with GET /api/procedure-steps/{uid} and send what the error names",
    errors.WorklistRefused: "look at the entry with GET /api/worklist/{number} and change what the error names",
    errors.BadRequest: "correct what the error names and send the request again",
    errors.NotFound: "check what the URL names against the list that it is in, or against a search of /studies, /series or /instances",
    errors.Gone: "look for another one; what is removed does not come back",
    errors.ObjectMissing: "send the instance again, which repairs it, or ask the administrator to run pacs verify",
    errors.NotAcceptable: "ask for one of the representations that the error lists",
    errors.CannotDecode: "retrieve the instance or the frame as stored, with transfer-syntax=*",
    errors.Unavailable: "try again after the seconds in Retry-After; nothing was lost",
    errors.StoreFull: "ask the administrator to free space, then send again; nothing was lost",
}


def status_of(error: BaseException) -> int:
    """The HTTP status for `error`; 500 for what nobody foresaw."""
    return error.status if isinstance(error, WebRefusal) else errors.statuses(error).http


def body_of(error: BaseException, section: str) -> bytes:
    """The JSON body for `error`. `section` is where the request is described, such as `PS3.18 10.4`."""
    known = isinstance(error, LightboxError)
    return orjson.dumps(
        {
            "status": status_of(error),
            "error": str(error) if known else "something went wrong in the server that should not have",
            "reference": section,
            "todo": error.todo if isinstance(error, WebRefusal) else _todo(error),
        }
    )


def headers_of(error: BaseException, retry_after: int) -> dict[str, str]:
    """The headers that `error` calls for beside its body."""
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    if isinstance(error, WebRefusal):
        headers.update(error.headers)
    if isinstance(error, errors.Unavailable):
        headers["Retry-After"] = str(retry_after)
    return headers


def note(error: BaseException, route: str) -> None:
    """Log what an administrator should see: damage and the unforeseen, by type and place, never by value.

    An exception's own text may quote an attribute, so it is written only when it is one of ours.
    """
    if status_of(error) < 500:
        return
    text = str(error) if isinstance(error, LightboxError) else ""
    if isinstance(error, errors.ObjectMissing) and error.key:
        text += f" (object {error.key})"
    _log.error(
        "request failed: %s %s",
        type(error).__name__,
        text,
        extra={"action": "request failed", "route": route, "where": "".join(traceback.format_tb(error.__traceback__)[-4:])},
    )


def _todo(error: BaseException) -> str:
    for ancestor in type(error).__mro__:
        if ancestor in TODO:
            return TODO[ancestor]
    return TODO[LightboxError]
