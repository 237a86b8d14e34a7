"""The composition root: from settings to an archive, and to the servers over it; nobody else puts parts together."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pacs.certificates import known_certificates
from pacs.data_folder import make
from pacs.metrics import Gauges, Metrics
from pacs.observed import CountedBlobs, Observed
from pacs.setting_values import is_loopback
from pacs.settings import Settings
from pacs.settings_file import SettingsError
from storage import copies, rejection_notes
from storage.archive import Archive
from storage.blobs import open_blobs
from storage.index import open_index, watch
from storage.index.ae import ae_titles
from storage.index.deletions import Deletions
from storage.index.kept_objects import KeptObjects
from storage.index.presets import KnownPresets
from storage.ingest import Ingest, JobsFor
from storage.jobs import JobQueue
from storage.routing import lag
from storage.transfers import Transfers
from storage.types import Scope

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from dicomweb.thumbnails import Thumbnails
    from pacs.hl7.listener import Listener
    from pacs.scp.journal import Journal
    from pacs.scp.server import DimseServer
    from pacs.scp.settings import Load
    from pacs.worker import Worker

# Temporary files that nobody has written to for so long are left from a crash.
_ABANDONED_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Opened:
    """An archive, and how to ask whether its store answers."""

    archive: Archive
    ping_store: Callable[[], None]


@contextlib.contextmanager
def opened(settings: Settings, metrics: Metrics | None = None, *, migrate: bool = False) -> Iterator[Opened]:
    """The archive of `settings`, closed in order at the end.

    Raises SettingsError for addresses that cannot be understood, and what the index and the store raise when they
    cannot be reached.
    """
    metrics = metrics or Metrics()
    folder = make(settings)
    with contextlib.ExitStack() as closing:
        closing.callback(watch(metrics.database_failed))
        try:
            blobs = open_blobs(
                settings.blobs_url,
                s3_endpoint_url=settings.s3_endpoint_url or None,
                s3_region=settings.s3_region or None,
            )
            closing.callback(blobs.close)
            index = open_index(settings.index_url, migrate=migrate)
            closing.callback(index.close)
        except ValueError as error:
            raise SettingsError(str(error)) from error
        counted = CountedBlobs(blobs, metrics)
        ingest = Ingest(index, counted, duplicates=settings.duplicates, jobs_for=_jobs_for(settings), observe=metrics.ingested)
        closing.callback(ingest.close)
        spools = blobs.spool_folder or folder / "tmp"
        yield Opened(Archive(index, counted, ingest, spools, int(settings.max_object_bytes)), blobs.ping)


def _jobs_for(settings: Settings) -> JobsFor:
    """What follows the ingest of an instance."""
    copying = copies.jobs_for(settings.htj2k_copies)
    return lambda scan, source: (*rejection_notes.jobs_for(scan, source), *copying(scan, source))


def prepare(settings: Settings) -> None:
    """Bring the index up to date, see that the store answers, sweep what a crash has left; once, before serving."""
    with opened(settings, migrate=True) as found:
        found.ping_store()
    before = time.time() - _ABANDONED_SECONDS
    for file in (settings.folder / "tmp").glob("spool-*"):
        with contextlib.suppress(FileNotFoundError):
            if file.stat().st_mtime < before:
                file.unlink()


def web_application(
    settings: Settings,
    found: Opened,
    metrics: Metrics,
    stopping: Callable[[], bool] = lambda: False,
    journal: Journal | None = None,
) -> ASGIApp:
    """Everything that is served over HTTP: health and figures, DICOMweb, administration, and the viewer for all the rest.

    `stopping` says whether what goes on without end is to end; `journal` is told of associations with other archives.
    """
    # Here and below, so that a DIMSE process and `pacs import` do not load what only the web needs, and the reverse.
    from starlette.applications import Starlette

    from dicomweb import app as dicomweb
    from dicomweb.settings import WebSettings
    from dicomweb.shapes import ByShape
    from pacs import admin, health, viewer
    from pacs.forwarded import Forwarded
    from pacs.hosts import OnlyHosts

    archive = found.archive
    metrics.registry.register(Gauges(lambda: _figures(archive, settings)))
    disks = {"disk (data)": settings.folder, "disk (spool)": archive.spool_folder}
    checks = {"index": archive.index.ping, "store": found.ping_store}
    checks |= {name: health.disk(path, int(settings.min_free_bytes)) for name, path in disks.items()}
    web = WebSettings(
        public_url=settings.public_url,
        cors_origins=settings.cors_origins,
        body_idle_seconds=settings.http_body_idle_seconds,
        search_most=settings.search_max_results or None,
        search_empty_status=int(settings.search_empty_status),
        htj2k_copies=bool(settings.htj2k_copies),
        htj2k_first=settings.htj2k_first,
        thumbnails=settings.thumbnails,
    )
    presets = KnownPresets(archive.index).now
    pages = viewer.ViewerSettings(isolated=settings.cross_origin_isolation)
    application: ASGIApp = Starlette(
        routes=[
            *health.routes(checks, metrics),
            ByShape(dicomweb.routes(archive, web)),
            *admin.routes(
                archive,
                calling=settings.ae_title,
                credentials=settings.tls_credentials,
                public_url=settings.public_url,
                stopping=stopping,
                journal=journal,
            ),
            *admin.page_routes(
                archive,
                calling=settings.ae_title,
                unknown_callers=settings.unknown_callers_now,
                credentials=settings.tls_credentials,
                journal=journal,
            ),
            *viewer.routes(viewer.find(settings.viewer_dir or settings.folder / "viewer"), pages, presets),
        ]
    )
    if settings.trusted_proxies:
        application = Forwarded(application, settings.trusted_proxies)
    if is_loopback(settings.http_host):
        application = OnlyHosts(application, [settings.public_url])
    return Observed(application, metrics)


def conformance_statement() -> str:
    """The conformance statement of both halves, with the limits that they have where nothing is set."""
    from dicomweb import conformance as web
    from pacs import conformance

    return conformance.statement(web.sections())


def dimse_server(
    settings: Settings,
    archive: Archive,
    metrics: Metrics,
    listener: socket.socket | None,
    load: Load | None,
    tls_listener: socket.socket | None = None,
) -> DimseServer:
    """The DIMSE services on open sockets, without TLS and with, not yet started. Raises TlsSettings, SettingsError."""
    from pacs.scp.front import Listener
    from pacs.scp.server import DimseServer
    from pacs.scp.settings import DimseSettings
    from pacs.tls import Renewed
    from pacs.users import users_of

    limits = DimseSettings(
        ae_title=settings.ae_title,
        any_called_ae=settings.dimse_any_called_ae,
        user_identity=settings.dimse_user_identity,
        unknown_callers=settings.unknown_callers_now,
        unknown_caller_rights=settings.unknown_caller_rights_now,
        request_seconds=settings.dimse_request_seconds,
        max_associations=settings.dimse_max_associations,
        max_pdu_bytes=int(settings.dimse_max_pdu_bytes),
        message_idle_seconds=settings.dimse_message_seconds,
        idle_seconds=settings.dimse_idle_seconds,
        credentials=settings.tls_credentials,
    )
    required = settings.dimse_tls_client_certificate == "required"
    tls = None
    if tls_listener is not None:
        tls = Listener(tls_listener, Renewed(settings.tls_credentials, client_certificate=required))
    return DimseServer(archive, limits, sock=listener, tls=tls, observer=metrics, load=load, users=users_of(settings))


def hl7_listener(
    settings: Settings,
    archive: Archive,
    metrics: Metrics,
    listener: socket.socket | None,
    tls_listener: socket.socket | None,
    journal: Journal,
) -> Listener:
    """What takes HL7 orders on open sockets, without TLS and with, not yet started; who may not send is told to `journal`.

    Raises TlsSettings.
    """
    from pacs.hl7.listener import Listener
    from pacs.hl7.receiving import Receiver
    from pacs.hl7.senders import Door, Senders
    from pacs.tls import Renewed

    required = settings.hl7_tls_client_certificate == "required"
    doors = [Door(listener)] if listener is not None else []
    if tls_listener is not None:
        doors.append(Door(tls_listener, Renewed(settings.tls_credentials, client_certificate=required)))
    senders = Senders(settings.hl7_senders, settings.hl7_sender_certificates)

    def told(address: str, reason: str) -> bool:
        return journal.dropped(address, f"HL7: {reason}", how="HL7")

    return Listener(Receiver(archive.index, metrics), *doors, senders=senders, told=told)


def journal_of(archive: Archive) -> Journal:
    """What writes the log of associations, not yet started."""
    from pacs.scp.journal import Journal
    from storage.index import associations

    return Journal(lambda entries: associations.write(archive.index, entries))


@contextlib.contextmanager
def journaled(archive: Archive) -> Iterator[Journal]:
    """The same for the time of a command."""
    journal = journal_of(archive)
    journal.start()
    try:
        yield journal
    finally:
        journal.stop()


def worker(settings: Settings, archive: Archive, metrics: Metrics, journal: Journal | None = None) -> Worker:
    """What runs the jobs of the archive's queue, not yet started. `journal` is told of the associations that they ask for."""
    from pacs import processing
    from pacs.worker import Worker

    work = processing.Work(archive, settings, journal, draw_thumbnail=_draw_thumbnail(archive))
    return Worker(
        JobQueue(archive.index),
        processing.kinds(work),
        periodic=processing.periodic(work),
        lanes=processing.LANES,
        # What a worker that was killed had in hand comes back after a minute.
        lease_seconds=60.0,
        over=work.stopping,
        observer=metrics,
    )


def _draw_thumbnail(archive: Archive) -> Callable[[Scope], None]:
    """What draws thumbnails, loaded when the first is to be drawn."""
    made: list[Thumbnails] = []

    def draw(scope: Scope) -> None:
        from dicomweb.thumbnails import Thumbnails

        if not made:
            made.append(Thumbnails(archive))
        made[0].keep(scope)

    return draw


def _figures(archive: Archive, settings: Settings) -> Iterator[tuple[str, str, dict[str, str], float]]:
    counts = archive.index.counts()
    yield "lightbox_studies", "Studies in the archive.", {}, counts.studies
    yield "lightbox_series", "Series in the archive.", {}, counts.series
    yield "lightbox_instances", "Instances in the archive.", {}, counts.instances
    yield "lightbox_stored_bytes", "Bytes of all instances in the archive.", {}, counts.bytes
    yield "lightbox_deleted_instances", "Deleted instances that can come back.", {}, Deletions(archive.index).left()
    for state, count in KeptObjects(archive.index).counts().items():
        yield "lightbox_quarantined_instances", "Instances in quarantine by state.", {"state": state}, count
    for transfer_state, count in Transfers(archive.index).counts().items():
        yield "lightbox_transfers", "Transfers to and from other nodes by state.", {"state": transfer_state.value}, count
    yield "lightbox_routing_lag", "Changes that routes have not been applied to yet.", {}, lag(archive.index)
    for state, count in JobQueue(archive.index).counts().items():
        yield "lightbox_jobs", "Jobs by state.", {"state": state}, count
    for one in known_certificates(settings.tls_credentials, ae_titles(archive.index)):
        labels = {"whose": one.whose, "subject": one.subject}
        yield "lightbox_certificate_end_timestamp_seconds", "When a TLS certificate ends; 0: unreadable.", labels, one.ends or 0
