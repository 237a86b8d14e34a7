"""Instances to a node by STOW-RS (PS3.18 10.5): each in a request of its own, as it lies, streamed.

What the node is let in by is never kept with it: its `login` names an environment variable of ours, LIGHTBOX_LOGIN_ and that name,
which holds `Bearer TOKEN`, or `USER:PASSWORD` for basic authentication, and is read anew for each delivery.
"""

from __future__ import annotations

import base64
import os
import secrets
import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import structlog

from pacs.dimse import Status
from pacs.scu.delivery import side_by_side
from pacs.scu.sources import Source
from pacs.scu.storing import Outcome, Result
from storage.attributes import tag_of
from storage.errors import LightboxError
from storage.index.ae import AeTitle
from storage.types import Located

if TYPE_CHECKING:
    # It brings much with it, and is loaded only where something is sent over the web.
    import httpx

_log = structlog.get_logger(__name__)
LOGIN_PREFIX: Final = "LIGHTBOX_LOGIN_"
_CONNECT_SECONDS: Final = 10.0
_ANSWER_SECONDS: Final = 60.0
# A node that is overloaded or away for a moment is asked again; then what is left fails without being tried.
_PAUSES = (0.5, 2.0)
_JSON: Final = "application/dicom+json"
_FAILED, _STORED = tag_of("FailedSOPSequence"), tag_of("ReferencedSOPSequence")
_FAILURE_REASON, _WARNING_REASON = tag_of("FailureReason"), tag_of("WarningReason")
# Elements in the data set was not as it should be; what 202 says where its body says nothing (PS3.18 table 10.5.3-2).
_WARNED: Final = 0xB007
_AGAIN: Final = frozenset({429, 502, 503, 504})


class LoginMissing(LightboxError):
    """A node names a login that this process has not got."""


@dataclass(frozen=True, slots=True)
class WebDestination:
    """A node that takes instances by STOW-RS: `url` is the root of its DICOMweb service."""

    title: str
    url: str
    login: str = ""
    # PEM: the only certificate that it may show, or that of its authority.
    certificate: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """By which it lets us in. Raises LoginMissing."""
        if not self.login:
            return {}
        name = f"{LOGIN_PREFIX}{self.login}"
        said = os.environ.get(name, "").strip()
        if not said:
            raise LoginMissing(f"{self.title} is let in by {name}, which is not set here: set it to 'Bearer TOKEN' or 'USER:PASSWORD', and restart")
        if said.lower().startswith(("bearer ", "basic ")):
            return {"Authorization": said}
        return {"Authorization": f"Basic {base64.b64encode(said.encode()).decode()}"}

    def client(self) -> httpx.Client:
        """Connections to it. Raises LoginMissing."""
        import httpx

        verify: ssl.SSLContext | bool = ssl.create_default_context(cadata=self.certificate) if self.certificate else True
        timeout = httpx.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS)
        return httpx.Client(headers={"Accept": _JSON, **self.headers}, verify=verify, timeout=timeout)


def web_destination_of(node: AeTitle | None) -> WebDestination | None:
    """The node as it is sent to over the web; None for one that is not."""
    return WebDestination(node.title, node.url, node.login, node.tls_certificate) if node and node.url else None


def asked(destination: WebDestination) -> tuple[bool, str]:
    """Whether the node answers a search (PS3.18 10.6) and lets us in, and what it says, for people."""
    import httpx

    try:
        with destination.client() as client:
            answer = client.get(f"{destination.url}/studies", params={"limit": "1"})
    except httpx.TransportError as error:
        return False, f"{destination.title} at {destination.url} cannot be reached ({_words(error)})"
    except LightboxError as error:
        return False, str(error)
    if answer.status_code in (200, 204):
        return True, f"{destination.url} answers a search: {answer.status_code}"
    return False, explained(destination, answer.status_code)


def explained(destination: WebDestination, status: int) -> str:
    """What an HTTP status that nobody wanted means, and what to do."""
    title, login = destination.title, destination.login
    if status in (401, 403):
        how = f"is {LOGIN_PREFIX}{login} right, and may it do that?" if login else f"name a login: pacs ae add {title} --login NAME"
        return f"{title} does not let us in ({status}): {how}"
    if 300 <= status < 400 or status in (404, 405):
        return f"{title} answers {status}: is {destination.url} the root of its DICOMweb service?"
    return f"{title} answers {status}; its own log says why"


class WebDelivery:
    """Sends instances to one node; used by one thread. Use as a context manager."""

    def __init__(self, source: Source, destination: WebDestination) -> None:
        self._source = source
        self._destination = destination
        self._client = destination.client()
        self._given_up = ""

    def __enter__(self) -> WebDelivery:
        return self

    def __exit__(self, *_error: object) -> None:
        self._client.close()

    def send(self, one: Located) -> Outcome:
        """Store one instance there; never raises for what the node does."""
        import httpx

        for pause in (*_PAUSES, None):
            if self._given_up:
                return self._failed(one, Outcome(Status.PROCESSING_FAILURE, self._given_up))
            try:
                answer = self._post(one)
            except httpx.TransportError as error:
                self._unreachable(error, last=pause is None)
            except LightboxError as error:
                return self._failed(one, Outcome(Status.PROCESSING_FAILURE, str(error)))
            else:
                if pause is None or answer.status_code not in _AGAIN:
                    return self._judged(one, answer)
            time.sleep(pause or 0.0)
        return self._failed(one, Outcome(Status.PROCESSING_FAILURE, self._given_up))

    def _post(self, one: Located) -> httpx.Response:
        length, pieces = self._source.whole(one)
        boundary = secrets.token_hex(16)
        before = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        after = f"\r\n--{boundary}--\r\n".encode()
        headers = {
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Content-Length": str(len(before) + length + len(after)),
        }
        url = f"{self._destination.url}/studies"
        return self._client.post(url, content=chain((before,), pieces, (after,)), headers=headers)

    def _unreachable(self, error: httpx.TransportError, *, last: bool) -> None:
        _log.info("delivery.waiting", to=self._destination.title, reason=type(error).__name__)
        if last:
            self._given_up = f"{self._destination.title} at {self._destination.url} cannot be reached ({_words(error)})"

    def _judged(self, one: Located, answer: httpx.Response) -> Outcome:
        if answer.status_code == 200:
            return Outcome(Status.SUCCESS, from_peer=True)
        if answer.status_code == 202:
            return Outcome(_reason(answer, _STORED, _WARNING_REASON) or _WARNED, from_peer=True)
        if answer.status_code == 409:
            status = _reason(answer, _FAILED, _FAILURE_REASON) or Status.PROCESSING_FAILURE
            return self._failed(one, Outcome(status, f"{self._destination.title} does not store it: {status:04X}", from_peer=True))
        return self._failed(one, Outcome(Status.PROCESSING_FAILURE, explained(self._destination, answer.status_code), from_peer=True))

    def _failed(self, one: Located, outcome: Outcome) -> Outcome:
        assert outcome.result is Result.FAILED or outcome.from_peer
        _log.warning("delivery.failed", instance=one.uids.instance, to=self._destination.title, reason=outcome.reason)
        return outcome


def deliver_web(
    source: Source,
    destination: WebDestination,
    instances: Iterable[Located],
    *,
    parallel: int = 1,
    watch: Callable[[Located, Outcome], None] = lambda _one, _outcome: None,
) -> None:
    """Send `instances` on `parallel` connections side by side; taken and told of as `pacs.scu.delivery.deliver` does.

    Raises LoginMissing.
    """
    side_by_side(lambda: WebDelivery(source, destination), instances, parallel, watch)


def _reason(answer: httpx.Response, sequence: str, reason: str) -> int:
    """The reason of the one instance that the request was about; 0 where the answer does not say, or is not JSON."""
    try:
        item: Any = answer.json()[sequence]["Value"][0]
        return int(item[reason]["Value"][0])
    except (ValueError, KeyError, IndexError, TypeError):
        return 0


def _words(error: httpx.TransportError) -> str:
    return str(error) or type(error).__name__
