"""`pacs serve`: one server on a data folder, its sockets, its processes, and what it tells whoever started it."""

from __future__ import annotations

import gc
import importlib
import os
import resource
import sys
from collections.abc import Collection, Mapping
from functools import partial
from types import ModuleType

from pacs import logs, metrics_folder
from pacs.data_folder import make, run_folder
from pacs.exposure import check_exposure
from pacs.serve.kinds import Kind
from pacs.serve.lock import FolderLock
from pacs.serve.sockets import Listeners, listen, reachable, shown
from pacs.serve.supervisor import Supervisor
from pacs.serve.tls_port import check_hl7_tls, check_tls
from pacs.settings import Settings
from pacs.settings_file import SettingsError
from pacs.settings_shown import environment

SERVING = (Kind.WEB, Kind.DIMSE, Kind.HL7, Kind.WORKER)
_FILES = 16384


def serve(settings: Settings, only: Collection[str] = ()) -> int:
    """Serve until told to stop: 0 after a clean stop, 1 when something in flight had to be cut off.

    Raises SettingsError, AlreadyServing, CannotListen or CannotServe, each with what to do.
    """
    kinds = _kinds(settings, only)
    check_exposure(settings, web=Kind.WEB in kinds, dimse=Kind.DIMSE in kinds, hl7=Kind.HL7 in kinds)
    if Kind.DIMSE in kinds:
        check_tls(settings)
    if Kind.HL7 in kinds:
        check_hl7_tls(settings)
    logs.configure("serve", format=settings.log_format, level=settings.log_level)
    make(settings)
    _allow_many_files()
    lock = FolderLock(run_folder(settings), kinds)
    listeners = {kind: _listeners(settings, kind) for kind in kinds}
    for kind in (Kind.PREPARE, *kinds):
        metrics_folder.forget(run_folder(settings), kind)
    process = _loaded(settings, kinds)
    places = [(kind, listeners[kind]) for kind in kinds for _ in range(_number(kind, settings))]
    run = partial(process.run, settings)
    supervisor = Supervisor(places, run, environment(settings), run_folder(settings), settings.stop_seconds)
    try:
        clean = supervisor.run(lambda: _tell(settings, listeners))
    finally:
        for listener in listeners.values():
            listener.close()
        lock.release()
    return 0 if clean else 1


def _loaded(settings: Settings, kinds: Collection[Kind]) -> ModuleType:
    """The module of the processes, with all that they need: each of them is a fork of this one."""
    # Read when the library behind is loaded; each process is told a folder of its own.
    os.environ[metrics_folder.VARIABLE] = str(run_folder(settings))
    # What is loaded stays: looking for garbage among it, again and again as it grows, would be a tenth of the time.
    gc.disable()
    from pacs.serve import process

    process.load(kinds)
    if settings.database_url.startswith("postgresql"):
        importlib.import_module("psycopg")
        importlib.import_module("sqlalchemy.dialects.postgresql")
    gc.enable()
    return process


def _kinds(settings: Settings, only: Collection[str]) -> list[Kind]:
    unknown = [name for name in only if name not in SERVING]
    if unknown:
        raise SettingsError(
            f"there is no process {unknown[0]!r}: --only takes dimse, hl7, web and worker, separated by commas"
        )
    takes_hl7 = (settings.hl7_port, settings.hl7_tls_port) != (None, None)
    if Kind.HL7 in only and not takes_hl7:
        raise SettingsError("PACS_HL7_PORT is empty: set the port on which HL7 messages are to come, 2575 say, or PACS_HL7_TLS_PORT")
    possible = [kind for kind in SERVING if kind is not Kind.HL7 or takes_hl7]
    return [kind for kind in possible if not only or kind in only]


def _number(kind: Kind, settings: Settings) -> int:
    """How many processes of a kind there are. A worker has threads, and on another machine there may be another."""
    return settings.processes if kind in (Kind.WEB, Kind.DIMSE) else 1


def _allow_many_files() -> None:
    """Sockets are files: a shell's usual 1024 would be the least of all limits. Inherited by the processes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _listeners(settings: Settings, kind: Kind) -> Listeners:
    if kind is Kind.WEB:
        return Listeners(listen(settings.http_host, settings.http_port, "PACS_HTTP"))
    if kind is Kind.HL7:
        return _both(settings.hl7_host, settings.hl7_port, settings.hl7_tls_port, "PACS_HL7")
    if kind is Kind.DIMSE:
        plain = settings.dimse_port if settings.dimse_plain else None
        return _both(settings.dimse_host, plain, settings.dimse_tls_port, "PACS_DIMSE")
    return Listeners()


def _both(host: str, plain: int | None, tls: int | None, setting: str) -> Listeners:
    return Listeners(
        None if plain is None else listen(host, plain, setting),
        None if tls is None else listen(host, tls, setting, f"{setting}_TLS_PORT"),
    )


def _tell(settings: Settings, listeners: Mapping[Kind, Listeners]) -> None:
    """What a person needs next, in a few lines on standard output."""
    lines = [f"Lightbox serves {settings.folder}"]
    if (web := listeners.get(Kind.WEB, Listeners()).plain) is not None:
        url = settings.public_url or f"http://{shown(web)}"
        lines += [f"  viewer     {url}/", f"  DICOMweb   {url}/dicom-web", f"  admin      {url}/admin/"]
    plain, tls = listeners.get(Kind.DIMSE, Listeners())
    for name, listener in (("DIMSE    ", plain), ("DIMSE TLS", tls)):
        if listener is not None:
            host, port = reachable(listener)
            lines += [f"  {name}  AE title {settings.ae_title}, host {host}, port {port}"]
    if (plain or tls) and settings.unknown_callers_now != "accept":
        todo = {"ask": "they wait in /admin/", "refuse": "add them with pacs ae add"}[settings.unknown_callers_now]
        lines += [f"  Callers that are not known are refused: {todo}."]
    for name, listener in zip(("MLLP", "MLLP in TLS"), listeners.get(Kind.HL7, Listeners()), strict=True):
        if listener is not None:
            host, port = reachable(listener)
            lines += [f"  HL7        {name}, host {host}, port {port}"]
    if plain is not None:
        host, port = reachable(plain)
        lines += ["Send images:", f"  storescu -aec {settings.ae_title} {host} {port} FILE..."]
    lines += [
        "  pacs import FOLDER",
        "  make demo                      (a handful of real series to look at)",
    ]
    sys.stdout.write("\n".join([*lines, "Stop with Ctrl-C.", ""]))
    sys.stdout.flush()
