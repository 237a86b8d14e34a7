"""STOW-RS (PS3.18 10.5): parts are spooled as they arrive, stored several at a time, and answered one by one."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future

import anyio
import orjson
from anyio import to_thread
from starlette.types import Receive

from dicomweb import errors
from dicomweb.errors import WebRefusal
from dicomweb.exchange import Answer, Call
from dicomweb.media_types import DICOM, DICOM_JSON, RELATED, MediaType, parse_media_type
from dicomweb.multipart import Part, PartReader, boundary_of
from dicomweb.request_body import batches
from dicomweb.settings import WebSettings
from dicomweb.store_response import Failed, Outcome, response, status_for, warning_header
from storage.archive import Archive
from storage.errors import BadRequest, LightboxError, LimitExceeded, NotDicom
from storage.scanner import scan
from storage.spool import Spool
from storage.types import Source, Stored


class Store:
    """POST to /studies and /studies/{study}."""

    def __init__(self, archive: Archive, settings: WebSettings) -> None:
        self._archive = archive
        self._settings = settings
        # Storing waits for disks: in threads of its own, so that readers always find one.
        self._threads = anyio.CapacityLimiter(settings.store_threads)

    async def __call__(self, call: Call, receive: Receive) -> Answer:
        """Store every part; answer per instance. Raises BadRequest, LimitExceeded or WebRefusal when none arrived."""
        reader = self._reader(call)
        source = Source("stow", address=call.client)
        intake = Intake(self._archive, source, call.path.get("study"), self._settings.store_in_flight)
        broken: LightboxError | None = None
        try:
            try:
                async for batch in batches(receive, self._settings):
                    await to_thread.run_sync(_take, intake, reader, batch, limiter=self._threads)
                _finish(intake, reader)
            except LightboxError as error:
                broken = error
            outcomes = await to_thread.run_sync(intake.finish, limiter=self._threads)
        finally:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(intake.close, limiter=self._threads)
        return _answered(call, outcomes, broken, self._settings.retry_after)

    def _reader(self, call: Call) -> PartReader | None:
        """A reader for multipart bodies, None for a single instance. Raises WebRefusal 415, LimitExceeded."""
        content_type = _content_type(call)
        if call.headers.get("content-encoding", "identity") != "identity":
            raise _unsupported("a compressed body (Content-Encoding)")
        length, most = call.headers.get("content-length", ""), self._settings.max_request_bytes
        if most is not None and length.isdigit() and int(length) > most:
            raise LimitExceeded(f"the body of {length} bytes is larger than the limit of {most}; send fewer instances at a time")
        if content_type.type == DICOM:
            return None
        if content_type.type == RELATED and content_type.inner in ("", DICOM):
            return PartReader(boundary_of(content_type), self._settings.parts)
        raise _unsupported(f"{content_type.type} {content_type.inner}".strip())


class Intake:
    """Instances on their way from a request into the archive: one being spooled, a few being stored.

    Blocking; used by one thread at a time. Memory does not grow with the request: `in_flight` bounds the spools.
    """

    def __init__(self, archive: Archive, source: Source, study: str | None, in_flight: int) -> None:
        self._archive = archive
        self._source = source
        self._study = study
        self._in_flight = in_flight
        self._spool: Spool | None = None
        self._error: LightboxError | None = None
        self._storing: deque[tuple[Spool, Future[Stored]]] = deque()
        self._outcomes: list[Outcome] = []

    def begin(self) -> None:
        """An instance begins."""
        self._spool, self._error = self._archive.spool(), None

    def write(self, data: bytes | bytearray) -> None:
        """Its bytes. What the spool refuses is this instance's failure; the rest of its bytes is dropped."""
        if self._spool is None:
            self.begin()
        if self._spool is None or self._error is not None:
            return
        try:
            self._spool.write(data)
        except LightboxError as error:
            self._error = error

    def end(self) -> None:
        """It is complete: hand it on, waiting only when too many are on their way."""
        spool, self._spool = self._spool, None
        if spool is None:
            return
        if self._error is None:
            self._storing.append((spool, self._archive.ingest.submit(spool, self._source, expect_study=self._study)))
        else:
            self._settle_all()
            self._outcomes.append(_failed(spool, self._error))
            spool.close()
        while len(self._storing) >= self._in_flight:
            self._settle()

    def finish(self) -> list[Outcome]:
        """The outcome of every complete instance, in the order of arrival."""
        self._settle_all()
        return self._outcomes

    def close(self) -> None:
        """Let go of everything; what is being stored is waited for, because it holds its spool."""
        self._settle_all()
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    def _settle_all(self) -> None:
        while self._storing:
            self._settle()

    def _settle(self) -> None:
        spool, future = self._storing.popleft()
        try:
            self._outcomes.append(future.result())
        except Exception as error:  # noqa: BLE001 - one instance's failure is its answer, not its neighbours'
            errors.note(error, "store")
            self._outcomes.append(_failed(spool, error))
        finally:
            spool.close()


def _take(intake: Intake, reader: PartReader | None, batch: bytearray) -> None:
    if reader is None:
        intake.write(batch)
        return
    for event in reader.feed(batch):
        if isinstance(event, Part):
            intake.begin()
        elif event is None:
            intake.end()
        else:
            intake.write(event)


def _finish(intake: Intake, reader: PartReader | None) -> None:
    if reader is None:
        intake.end()
    else:
        reader.finish()


def _content_type(call: Call) -> MediaType:
    try:
        return parse_media_type(call.headers.get("content-type", ""))
    except BadRequest as error:
        raise _unsupported("a body without a Content-Type") from error


def _unsupported(what: str) -> WebRefusal:
    return WebRefusal(
        415,
        f"this server does not store {what}",
        f'send {RELATED}; type="{DICOM}"; boundary=…, one Part 10 file to a part, or one file as {DICOM}',
    )


def _failed(spool: Spool, error: BaseException) -> Failed:
    """The failure with the UIDs of the data set where these can be read (PS3.18 10.5.3.2)."""
    if isinstance(error, NotDicom) or not spool.size:
        return Failed(error)
    try:
        found = scan(spool.view())
    except LightboxError:
        return Failed(error)
    return Failed(error, found.sop_class_uid, found.uids.instance)


def _answered(call: Call, outcomes: Sequence[Outcome], broken: LightboxError | None, retry_after: int) -> Answer:
    if broken is None and not outcomes:
        raise BadRequest("the body holds no instance; send at least one part")
    if broken is not None:
        if not any(isinstance(outcome, Stored) for outcome in outcomes):
            raise broken
        outcomes = [*outcomes, Failed(broken)]
    headers = {"Content-Type": DICOM_JSON, "Cache-Control": "no-store"}
    warning = warning_header(outcomes)
    if warning:
        headers["Warning"] = warning
    status = status_for(outcomes)
    if status in (503, 507):
        headers["Retry-After"] = str(retry_after)
    if isinstance(broken, WebRefusal):
        headers.update(broken.headers)
    return Answer(status, headers, (orjson.dumps(response(outcomes, call.root)),))
