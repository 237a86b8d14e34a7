"""Calls to an S3 server: tried again while there is time, and every failure made one of ours."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from storage.errors import LightboxError, ObjectMissing, StoreFull, StoreUnavailable

Result = TypeVar("Result")

# A server that hangs is given up after CONNECT or READ seconds. A failed call is made again only within the first
# RETRY seconds, so that whoever waits has an answer within RETRY + READ, which is less than 15 s.
CONNECT_SECONDS = 3.0
READ_SECONDS = 10.0
RETRY_SECONDS = 3.0
_DELAYS = (0.1, 0.3, 0.9)

# What boto3 lets through: its own errors, urllib3's from reading a body, and the socket's or a spool file's.
FAILURES = (BotoCoreError, ClientError, HTTPError, OSError)

_MISSING = frozenset({"NoSuchKey", "404", "NotFound"})
_FULL = frozenset({"QuotaExceeded", "XMinioStorageFull", "InsufficientCapacity", "InsufficientStorage", "507"})
# Refusals that a second try can cure: overload, a race with another writer, bytes that were damaged on their way.
_TRANSIENT = frozenset(
    {
        "BadDigest",
        "ConditionalRequestConflict",
        "IncompleteBody",
        "OperationAborted",
        "RequestTimeTooSkewed",
        "RequestTimeout",
        "SlowDown",
        "Throttling",
        "XAmzContentChecksumMismatch",
        "XAmzContentSHA256Mismatch",
        "429",
    }
)


def call(doing: str, request: Callable[[], Result]) -> Result:
    """What `request` returns. Raises ObjectMissing, StoreFull or StoreUnavailable; `doing` completes "could not …".

    A refused precondition (412, or 304) is raised as it is: it is an answer.
    """
    begun = time.monotonic()
    for delay in (*_DELAYS, None):
        try:
            return request()
        except FAILURES as error:
            if is_precondition(error):
                raise
            late = delay is None or time.monotonic() + delay > begun + RETRY_SECONDS
            if late or not _transient(error):
                raise failure(error, doing) from error
        assert delay is not None
        time.sleep(delay)
    raise AssertionError("unreachable: the last attempt returns or raises")


def is_precondition(error: Exception) -> bool:
    """Whether the server refused because of `If-None-Match`."""
    return isinstance(error, ClientError) and _status(error) == 412


def code(error: Exception) -> str:
    """The server's own word for what was wrong, or the exception's name where no server answered."""
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code") or _status(error))
    return type(error).__name__


def failure(error: Exception, doing: str) -> LightboxError:
    """One of our errors for one of `FAILURES`."""
    word = code(error)
    if word in _MISSING:
        return ObjectMissing(f"the object store could not {doing}: it is not there; send the instance again")
    if word in _FULL or (isinstance(error, ClientError) and _status(error) == 507):
        return StoreFull(f"the object store could not {doing}: {word}; make room in the bucket and send again")
    return StoreUnavailable(f"the object store could not {doing}: {word}{_advice(error, word)}")


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _transient(error: Exception) -> bool:
    if not isinstance(error, ClientError):
        return True
    status = _status(error)
    return code(error) in _TRANSIENT or (status >= 500 and status not in (501, 507))


def _advice(error: Exception, word: str) -> str:
    if word == "NoSuchBucket":
        return "; make the bucket or correct PACS_STORE_URL"
    if isinstance(error, ClientError) and _status(error) in (401, 403):
        return "; check the credentials, the clock and the bucket's policy"
    return "; send again when the server answers"
