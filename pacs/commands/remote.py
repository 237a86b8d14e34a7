"""`pacs send`, `pacs find` and `pacs fetch`: images to other nodes, and what those have."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pacs.commands.console import AsJson, begin, print_json, progress, say
from pacs.logs import escaped
from storage.errors import BadRequest, LightboxError, NotFound
from storage.types import Dataset, Level, Located, Scope

if TYPE_CHECKING:
    from pacs.scp.journal import Journal
    from pacs.scu.associating import Destination
    from pacs.scu.sources import Source
    from pacs.scu.storing import Outcome
    from pacs.scu.web import WebDestination
    from pacs.settings import Settings
    from storage.archive import Archive

Title = Annotated[str, typer.Argument(metavar="AE", help="AE title of the node; pacs ae list shows those there are.")]
# Failures shown, and those that --json has.
_SHOWN, _KEPT = 10, 10_000
# Instances in one request for storage commitment.
_ASKED = 200
# How long its report is waited for: on the association that asked, and after that on one that the node opens to the server.
_SAME_ASSOCIATION_SECONDS, _REPORT_SECONDS = 5.0, 30.0


def send(
    title: Title,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE", help="DICOM files and folders of them; stored studies are sent with --study."),
    ] = None,
    study: Annotated[list[str] | None, typer.Option(help="Study Instance UID of a stored study; may be repeated.")] = None,
    series: Annotated[
        list[str] | None, typer.Option(help="Only these series of the study, by their UID; may be repeated.")
    ] = None,
    parallel: Annotated[int, typer.Option(help="Associations, or connections, side by side.", min=1, max=16)] = 1,
    commit: Annotated[
        bool, typer.Option(help="Then ask the node for storage commitment, and wait for its report.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Send files or stored studies to a node by C-STORE, as they are stored where it takes that, never made lossy; or as they
    are by STOW-RS, to a node with a URL."""
    from pacs import compose
    from pacs.scu.associating import Destination
    from pacs.scu.sources import Files, Stored

    if bool(paths) == bool(study):
        raise BadRequest("give either files or --study")
    _check_paths(title, paths or [])
    settings = begin()
    with compose.opened(settings, migrate=True) as found, compose.journaled(found.archive) as journal:
        archive = found.archive
        destination = _over_web(archive, title) or _destination(settings, archive, title, journal)
        if commit and not isinstance(destination, Destination):
            raise BadRequest(f"{title} is sent to by STOW-RS, and is not asked for storage commitment; leave --commit out")
        sent = _Sent(remember=commit)
        if paths:
            # Once to know what to ask for, and once to send.
            kinds = Counter((one.sop_class_uid, one.transfer_syntax_uid) for one in _located(paths, _Sent()))
            _deliver(Files(), destination, kinds, _located(paths, sent), parallel, sent)
        else:
            within: list[str | None] = [*(series or [])] or [None]
            scopes = [Scope(uid, one) for uid in study or [] for one in within]
            stored = (one for scope in scopes for one in archive.index.locate(scope))
            _deliver(Stored(archive), destination, _stored(archive, scopes), stored, parallel, sent)
        if commit and isinstance(destination, Destination):
            _commit(archive, destination, sent)
    sent.tell(title, as_json=as_json)
    sys.exit(0 if sent.clean else 1)


def find(
    title: Title,
    keys: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY[=VALUE]", help="Keywords to match (PatientID=123, StudyDate=20240101-), or to have returned."),
    ] = None,
    level: Annotated[Level, typer.Option(help="Query/Retrieve level.", case_sensitive=False)] = Level.STUDY,
    limit: Annotated[int, typer.Option(help="Answers at most; the rest is cancelled.", min=1)] = 100,
    as_json: AsJson = False,
) -> None:
    """Ask a node what it has, by C-FIND."""
    from pacs import compose
    from pacs.scu import querying
    from pacs.scu.asking import RETURNED, keys_of, text_of

    settings = begin()
    asked = [*RETURNED[level], *(keys or [])]
    wanted = keys_of((key, value) for key, _, value in (one.partition("=") for one in asked))
    with compose.opened(settings, migrate=True) as found, compose.journaled(found.archive) as journal:
        destination = _destination(settings, found.archive, title, journal)
        matches = querying.find(destination, level, wanted, most=limit)
        if as_json:
            print_json(list(matches))
            return
        found_any = False
        for match in matches:
            found_any = True
            say(escaped("  ".join(text for tag in wanted if (text := text_of(match, tag)))))
        if not found_any:
            say("Nothing found.")


def fetch(
    title: Title,
    studies: Annotated[list[str] | None, typer.Argument(metavar="STUDY", help="Study Instance UIDs.")] = None,
    study: Annotated[list[str] | None, typer.Option(help="The same; may be repeated.")] = None,
    series: Annotated[list[str] | None, typer.Option(help="Only these series; may be repeated.")] = None,
    move: Annotated[
        bool,
        typer.Option(help="By C-MOVE to this archive, which must be running and known there, instead of by C-GET."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring studies from a node into this archive, by C-GET or C-MOVE."""
    from pacs import compose
    from pacs.scu import querying

    wanted = [*(studies or []), *(study or [])]
    if not wanted:
        raise BadRequest("give the Study Instance UID of what is to be fetched; pacs find shows what a node has")
    settings = begin()
    level = Level.SERIES if series else Level.STUDY
    uids = {"StudyInstanceUID": wanted, "SeriesInstanceUID": series or []}
    keys: Dataset = {tag: element for tag, element in _uids(uids).items() if element["Value"]}
    with compose.opened(settings, migrate=True) as found, compose.journaled(found.archive) as journal, progress() as bar:
        destination = _destination(settings, found.archive, title, journal)
        task = bar.add_task(f"From {title}", total=None)

        def watch(now: querying.Progress) -> None:
            done = now.completed + now.failed + now.warning
            bar.update(task, completed=done, total=done + now.remaining)

        if move:
            ended = querying.move(destination, level, keys, settings.ae_title, watch)
        else:
            ended = querying.get(destination, level, keys, found.archive, watch)
        arrived = bool(ended.completed or ended.warning)
        # The answer is about all of them together; what is here now tells them apart.
        missing = [uid for uid, scopes in _scopes(wanted, series).items() if not (arrived and any(map(found.archive.index.kinds, scopes)))]
    if as_json:
        print_json({**ended._asdict(), "missing": missing})
    else:
        say(f"{ended.completed} fetched, {ended.failed} failed, {ended.warning} with warnings")
        for uid in missing if not ended.failed else ():
            say(f"{title} knows no {level.value.lower()} {uid}, or does not show it to {settings.ae_title}: pacs find {title} says what it has")
    sys.exit(0 if not ended.failed and not missing else 1)


class _Sent:
    """What has become of what was to be sent."""

    def __init__(self, *, remember: bool = False) -> None:
        self.counts: Counter[str] = Counter()
        self.failures: list[tuple[str, str]] = []
        # What was taken, for storage commitment: SOP class and instance.
        self.taken: list[tuple[str, str]] = []
        self._remember = remember

    def add(self, one: Located, outcome: Outcome) -> None:
        """One C-STORE is over."""
        self.counts[outcome.result.name.lower()] += 1
        if outcome.reason:
            self._note(one.uids.instance, outcome.told)
        elif self._remember:
            self.taken.append((one.sop_class_uid, one.uids.instance))

    def refuse(self, path: Path, reason: str) -> None:
        """A file that cannot be sent."""
        self.counts["failed"] += 1
        self._note(str(path), reason)

    def not_committed(self, instance: str, reason: str) -> None:
        """An instance that was sent, and that the node does not commit to."""
        self.counts["uncommitted"] += 1
        self._note(instance, reason)

    def _note(self, name: str, reason: str) -> None:
        if len(self.failures) < _KEPT:
            self.failures.append((name, reason))

    @property
    def clean(self) -> bool:
        return not self.counts["failed"] and not self.counts["uncommitted"] and self.counts.total() > 0

    def tell(self, title: str, *, as_json: bool) -> None:
        """Print it."""
        names = ("completed", "warning", "failed", *(("committed", "uncommitted") if self._remember else ()))
        if as_json:
            failures = [{"instance": name, "reason": reason} for name, reason in self.failures]
            print_json({**{name: self.counts[name] for name in names}, "failures": failures})
            return
        counts = (f"{self.counts[name]} {name}" for name in names if self.counts[name])
        say(f"To {title}: {', '.join(counts) or 'nothing to send'}")
        for name, reason in self.failures[:_SHOWN]:
            say(f"  {escaped(name)}: {escaped(reason)}")
        if len(self.failures) > _SHOWN:
            say("  and more; --json has them")


def _destination(settings: Settings, archive: Archive, title: str, journal: Journal) -> Destination:
    from pacs.scu.nodes import destination_of

    found = destination_of(
        archive.index,
        title,
        calling_ae=settings.ae_title,
        credentials=settings.tls_credentials,
        journal=journal,
    )
    if found is None and _over_web(archive, title):
        raise BadRequest(f"{title} has a URL, and no host and port: it can only be sent to")
    if found is None:
        raise NotFound(f"there is no node {title!r}: pacs ae add {title} HOST PORT")
    return found


def _over_web(archive: Archive, title: str) -> WebDestination | None:
    from pacs.scu.web import web_destination_of
    from storage.index.ae import ae_title_of

    return web_destination_of(ae_title_of(archive.index, title))


def _deliver(
    source: Source,
    destination: Destination | WebDestination,
    kinds: Counter[tuple[str, str]],
    instances: Iterable[Located],
    parallel: int,
    sent: _Sent,
) -> None:
    from pacs.scu.delivery import deliver
    from pacs.scu.web import WebDestination, deliver_web

    with progress() as bar:
        task = bar.add_task(f"To {destination.title}", total=kinds.total())

        def watch(one: Located, outcome: Outcome) -> None:
            sent.add(one, outcome)
            bar.advance(task)

        if isinstance(destination, WebDestination):
            deliver_web(source, destination, instances, parallel=parallel, watch=watch)
        else:
            deliver(source, destination, kinds, instances, parallel=parallel, watch=watch)


def _commit(archive: Archive, destination: Destination, sent: _Sent) -> None:
    from pacs.scu.committing import Report, ask
    from storage.commitment import Reference
    from storage.sent_commitments import SentCommitments

    commitments = SentCommitments(archive.index)
    for first in range(0, len(sent.taken), _ASKED):
        part = sent.taken[first : first + _ASKED]
        references = [Reference(*one) for one in part]
        uid = commitments.begin(destination.title, [(one, 0) for one in references])
        report = ask(destination, references, uid, report_seconds=_SAME_ASSOCIATION_SECONDS)
        until = time.monotonic() + _REPORT_SECONDS
        while report is None and time.monotonic() < until:
            # It may come to the server, on an association of the node's own.
            known = commitments.one(uid)
            if known and known.committed is not None:
                report = Report(uid, set(known.committed), dict(known.failed))
            else:
                time.sleep(0.2)
        for _, instance in part:
            if report is None:
                sent.not_committed(instance, "no report has come")
            elif instance in report.committed:
                sent.counts["committed"] += 1
            else:
                reason = report.failed.get(instance)
                sent.not_committed(instance, "not in the report" if reason is None else f"failure reason {reason:04X}")


def _stored(archive: Archive, scopes: list[Scope]) -> Counter[tuple[str, str]]:
    """How many of each kind there are in all scopes; each must have some."""
    found: Counter[tuple[str, str]] = Counter()
    for scope in scopes:
        kinds = archive.index.kinds(scope)
        if not kinds:
            raise NotFound(f"nothing is stored of study {scope.study}" + (f", series {scope.series}" if scope.series else ""))
        found.update(kinds)
    return found


def _scopes(studies: list[str], series: list[str] | None) -> dict[str, list[Scope]]:
    """Where each of what is asked for may be: a series in any of the studies."""
    return {one: [Scope(uid, one) for uid in studies] for one in series} if series else {uid: [Scope(uid)] for uid in studies}


def _check_paths(title: str, paths: list[Path]) -> None:
    from pacs.scp.sop_classes import UID_GRAMMAR

    for path in paths:
        if not path.exists():
            is_uid = "." in path.name and UID_GRAMMAR.fullmatch(str(path))
            todo = f"a stored study is sent with pacs send {title} --study {path}" if is_uid else "give files, or folders of them"
            raise NotFound(f"there is no file {path}: {todo}")


def _located(paths: list[Path], sent: _Sent) -> Iterator[Located]:
    from pacs.candidates import Unreadable, candidates, is_directory, looks_like_dicom
    from pacs.scu.sources import located

    for candidate in candidates(paths):
        if isinstance(candidate, Unreadable):
            sent.refuse(Path(), str(candidate))
            continue
        path = Path(candidate.name)
        if not path.is_file():
            sent.refuse(path, "it is in a zip archive: unpack that, or import it and send the study")
            continue
        head = next(candidate.pieces(), b"")
        if is_directory(head) or not (looks_like_dicom(head) or candidate.called_dicom):
            continue
        try:
            yield located(path)
        except LightboxError as error:
            sent.refuse(path, str(error))


def _uids(values: dict[str, list[str]]) -> dict[str, dict[str, list[str] | str]]:
    from storage.attributes import tag_of

    return {tag_of(keyword): {"vr": "UI", "Value": uids} for keyword, uids in values.items()}
