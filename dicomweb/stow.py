"""STOW-RS (PS3.18 10.5): parts are spooled as they arrive, stored several at a time, and answered one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import anyio
import orjson
from anyio import to_thread
from starlette.types import Receive

from dicomweb import negotiation
from dicomweb.assembly import Assembly
from dicomweb.errors import WebRefusal
from dicomweb.exchange import Answer, Call
from dicomweb.intake import Intake
from dicomweb.media_types import DICOM, DICOM_JSON, DICOM_XML, JSON, RELATED, MediaType, parse_media_type
from dicomweb.multipart import Part, PartReader, boundary_of
from dicomweb.native_xml import to_xml
from dicomweb.request_body import Patience, batches, pieces
from dicomweb.settings import WebSettings
from dicomweb.store_response import Failed, Outcome, response, status_for, warning_header
from storage.archive import Archive
from storage.errors import BadRequest, LightboxError, LimitExceeded, NotAcceptable
from storage.incoming import Incoming
from storage.ingest import Expect
from storage.types import Source, Stored

# Metadata that refers to bulk data in parts of its own (PS3.18 10.5.1); without any, it may come alone.
METADATA = frozenset({DICOM_JSON, DICOM_XML, JSON})
# What became of the instances of a body, and what was wrong with the body.
_Ended: TypeAlias = tuple[Sequence[Outcome], LightboxError | None]


class Store:
    """POST to /studies and /studies/{study}; elsewhere too, where `expect` says what may be stored at the path of a call."""

    def __init__(
        self, archive: Archive, settings: WebSettings, expect: Callable[[Call], Expect] | None = None
    ) -> None:
        self._archive = archive
        self._settings = settings
        self._expect = expect
        # Storing waits for disks: in threads of its own, so that readers always find one.
        self._threads = anyio.CapacityLimiter(settings.store_threads)

    async def __call__(self, call: Call, receive: Receive) -> Answer:
        """Store every part; answer per instance. Raises BadRequest, LimitExceeded or WebRefusal when none arrived."""
        content_type = self._checked(call)
        source = Source("stow", address=call.client)
        expect = self._expect(call) if self._expect else None
        intake = Intake(self._archive, source, call.path.get("study"), self._settings.store_in_flight, expect)
        body = Body(self._archive, intake, content_type, self._settings)
        lent = call.lend()
        try:
            outcomes, broken = await (self._received(body, receive) if lent is None else self._read(body, lent))
        finally:
            if not body.closed:
                with anyio.CancelScope(shield=True):
                    await to_thread.run_sync(body.close, limiter=self._threads)
        return _answered(call, outcomes, broken, self._settings.retry_after)

    async def _received(self, body: Body, receive: Receive) -> _Ended:
        """The body as the event loop receives it."""
        broken: LightboxError | None = None
        rest = bytearray()
        try:
            # The latest piece is kept until it is known whether it is the last: what fits into one takes one thread once.
            async for batch in batches(receive, self._settings):
                piece, rest = rest, batch
                if piece:
                    await to_thread.run_sync(body.take, piece, limiter=self._threads)
        except LightboxError as error:
            broken = error
        return await to_thread.run_sync(body.end, rest, broken, limiter=self._threads)

    async def _read(self, body: Body, lent: Incoming) -> _Ended:
        """The body as it lies in the socket: one thread reads, parses, hashes and stores what comes without a pause."""
        with lent:
            patience = Patience(lent, self._settings)
            try:
                while (ended := await to_thread.run_sync(body.read, lent, limiter=self._threads)) is None:
                    await patience.wait()
            except LightboxError as error:
                return await to_thread.run_sync(body.end, b"", error, limiter=self._threads)
            return ended

    def _checked(self, call: Call) -> MediaType:
        """The Content-Type of a body that can be stored. Raises WebRefusal 415, LimitExceeded."""
        content_type = _content_type(call)
        if call.headers.get("content-encoding", "identity") != "identity":
            raise _unsupported("a compressed body (Content-Encoding)")
        length, most = call.headers.get("content-length", ""), self._settings.max_request_bytes
        if most is not None and length.isdigit() and int(length) > most:
            raise LimitExceeded(f"the body of {length} bytes is larger than the limit of {most}; send fewer instances at a time")
        kinds = {DICOM, *METADATA}
        if content_type.type in kinds or (content_type.type == RELATED and content_type.inner in {"", *kinds}):
            return content_type
        raise _unsupported(f"{content_type.type} {content_type.inner}".strip())


class Body:
    """The body of a request on its way into an intake: Part 10 files as they are, or metadata and bulk data put together.

    Blocking; used by one thread at a time. Raises BadRequest for a multipart Content-Type without a boundary.
    """

    def __init__(self, archive: Archive, intake: Intake, content_type: MediaType, settings: WebSettings) -> None:
        self._archive = archive
        self._intake = intake
        self._content_type = content_type
        self._most = settings.parts.parts
        related = content_type.type == RELATED
        self._reader = PartReader(boundary_of(content_type), settings.parts) if related else None
        self._assembly: Assembly | None = None
        self._begun = self._dead = False
        self.closed = False

    def read(self, lent: Incoming) -> _Ended | None:
        """What is there; None while there is more to come, and else as `end`.

        Raises what `take` raises, and WebRefusal when the client leaves.
        """
        for room, size in pieces(lent):
            if not lent.left:
                return self.end(room, None, size)
            self.take(room, size)
        return None

    def take(self, batch: bytearray, size: int | None = None) -> None:
        """The next bytes, all or `size` of them, which are not the last.

        Raises BadRequest and LimitExceeded; after that it takes nothing more.
        """
        self._take(batch, size)
        self._intake.hand_on()

    def end(self, rest: bytes | bytearray, broken: LightboxError | None, size: int | None = None) -> _Ended:
        """The last bytes, and what has broken off the body, if it has not ended: all outcomes, and what was wrong with the body.

        Lets go of everything.
        """
        try:
            try:
                self._take(rest, size)
                if broken is None:
                    self._finish()
            except LightboxError as error:
                broken = broken or error
            if broken is not None and self._assembly is not None:
                # What is not complete will not be.
                self._assembly.finish()
            return self._intake.finish(), broken
        finally:
            self.close()

    def _take(self, batch: bytes | bytearray, size: int | None) -> None:
        if self._dead or not batch:
            return
        try:
            self._feed(batch, size)
        except LightboxError:
            self._dead = True
            raise

    def _feed(self, batch: bytes | bytearray, size: int | None) -> None:
        if self._reader is None:
            if not self._begun:
                self._begun = True
                self._begin(Part(self._content_type.type))
            self._write(memoryview(batch)[:size])
            return
        for event in self._reader.feed(batch, size):
            if isinstance(event, Part):
                self._begin(event)
            elif event is None:
                self._end()
            else:
                self._write(event)

    def _finish(self) -> None:
        """Raises BadRequest when the body is not complete."""
        if self._reader is None:
            self._end()
        else:
            self._reader.finish()
        if self._assembly is not None:
            self._assembly.finish()

    def close(self) -> None:
        """Let go of everything."""
        self.closed = True
        if self._assembly is not None:
            self._assembly.close()
        self._intake.close()

    def _begin(self, part: Part) -> None:
        if self._assembly is None and self._metadata(part):
            self._assembly = Assembly(
                self._intake, self._archive.spool_folder, self._archive.max_object_bytes, self._content_type, most_instances=self._most
            )
        if self._assembly is None:
            self._intake.begin()
        else:
            self._assembly.begin(part)

    def _metadata(self, part: Part) -> bool:
        """Whether metadata and bulk data come: the request says so, or its first part where the request does not."""
        said = self._content_type.inner if self._content_type.type == RELATED else self._content_type.type
        return said in METADATA or (not said and part.content_type.partition(";")[0].strip().lower() in METADATA)

    def _write(self, data: bytes | memoryview) -> None:
        if self._assembly is None:
            self._intake.write(data)
        else:
            self._assembly.write(data)

    def _end(self) -> None:
        if self._assembly is None:
            self._intake.end()
        else:
            self._assembly.end()


def _content_type(call: Call) -> MediaType:
    try:
        return parse_media_type(call.headers.get("content-type", ""))
    except BadRequest as error:
        raise _unsupported("a body without a Content-Type") from error


def _unsupported(what: str) -> WebRefusal:
    return WebRefusal(
        415,
        f"this server does not store {what}",
        f'send {RELATED}; type="{DICOM}"; boundary=…, one Part 10 file to a part, or one file as {DICOM},'
        f' or metadata and bulk data as {RELATED}; type="{DICOM_JSON}" or "{DICOM_XML}"',
    )


def _answered(call: Call, outcomes: Sequence[Outcome], broken: LightboxError | None, retry_after: int) -> Answer:
    if broken is None and not outcomes:
        raise BadRequest("the body holds no instance; send at least one part")
    if broken is not None:
        if not any(isinstance(outcome, Stored) for outcome in outcomes):
            raise broken
        outcomes = [*outcomes, Failed(broken)]
    media_type = _media_type(call)
    headers = {"Content-Type": media_type, "Cache-Control": "no-store"}
    warning = warning_header(outcomes)
    if warning:
        headers["Warning"] = warning
    status = status_for(outcomes)
    if status in (503, 507):
        headers["Retry-After"] = str(retry_after)
    if isinstance(broken, WebRefusal):
        headers.update(broken.headers)
    module = response(outcomes, call.root)
    return Answer(status, headers, (to_xml(module) if media_type == DICOM_XML else orjson.dumps(module),))


def _media_type(call: Call) -> str:
    """XML where it is preferred; JSON otherwise, also to those who accept neither: their instances are stored all the same."""
    try:
        return negotiation.choose(call.accepted(), negotiation.STORE).media_type
    except (BadRequest, NotAcceptable):
        return DICOM_JSON
