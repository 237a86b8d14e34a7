"""Taking an instance in as the policy of an AE title wants it: changed by rules, and what was received kept beside it."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import structlog

from storage.archive import Archive
from storage.charsets import DEFAULT
from storage.coercion.applying import Told, coerce
from storage.coercion.rules import Rule
from storage.coercion.tree import Bytes, DataSet, Encoding, parse
from storage.deidentification.applying import deidentify, refused
from storage.deidentification.profile import Profile, Word
from storage.errors import Conflict, NotAcceptable, NotCoercible, Rejected
from storage.index.originals import Originals
from storage.index.secrets import DEIDENTIFICATION, secret_of
from storage.ingest import check
from storage.originals import Received, digest_of
from storage.part10 import file_meta, read_meta
from storage.scanner import Scan, encoding, inflate, scan
from storage.spool import Spool
from storage.transfer_syntaxes import lookup
from storage.types import Source, Stored

_log = structlog.get_logger(__name__)
# Originals of one data set that are tried for the moment at which it was changed before.
_MOST_TRIED = 4
_INSTANCE = 0x00080018


@dataclass(frozen=True, slots=True)
class Coercion:
    """What becomes of what a node sends to a title of ours. `system` is that title, `source` the node's."""

    rules: tuple[Rule, ...]
    system: str
    source: str
    # The node takes a warning for a failure: it is told of success instead.
    silent: bool = False
    # By what it is de-identified, after the rules.
    profile: Profile | None = None


class Coerced(NamedTuple):
    """What was stored; the tags of the top level that rules have changed; and whether it is de-identified."""

    stored: Stored
    tags: tuple[int, ...]
    deidentified: bool = False


def ingest(
    archive: Archive, content: Spool, source: Source, coercion: Coercion, *, expect_sop: tuple[str, str] | None = None
) -> Coerced:
    """Store what a policy makes of an instance, and the instance as it came beside it; of one that is de-identified only where
    the profile says so.

    What has come before, and was changed in the same way, becomes the same bytes again: it is there already. Raises
    NotCoercible, and what `Ingest` raises; nothing is stored then.
    """
    work = _Work(archive, content, coercion)
    check(work.found, None, expect_sop)
    dataset, tags = work.changed(work.now)
    profile = coercion.profile
    if not tags and profile is None:
        return Coerced(archive.ingest(content, source, expect_sop=expect_sop), ())
    if profile is None or Word.KEEP_ORIGINALS in profile:
        stored = _with_original(work, dataset, source)
    else:
        with archive.spool() as spool:
            work.write(dataset, spool)
            stored = _stored(archive, spool, source, None, profile)
    _log.info("coerced", calling_ae=coercion.source, called_ae=coercion.system, deidentified=profile is not None, attributes=len(tags))
    return Coerced(stored, tags, profile is not None)


def deidentified(archive: Archive, content: Spool, into: Spool) -> None:
    """Write what the Basic Application Level Confidentiality Profile (PS3.15 annex E) leaves of an instance; nothing is stored.

    UIDs and pseudonyms are those under which AE titles that de-identify store it. Raises NotAcceptable for what cannot be
    de-identified, because nobody looks at its pixels, or reads it.
    """
    profile = Profile(frozenset({Word.BASIC}))
    work = _Work(archive, content, Coercion((), "", "", profile=profile))
    try:
        dataset = _parsed(work.found, work.view)
    except NotCoercible as error:
        raise NotAcceptable("the data set is damaged or cut off, so that it cannot be de-identified") from error
    why = refused(dataset, profile)
    if why:
        raise NotAcceptable(f"it cannot be de-identified: {why}")
    work.write(dataset, into)


class _Work:
    """One instance in work."""

    def __init__(self, archive: Archive, content: Spool, coercion: Coercion) -> None:
        assumed = archive.ingest.assumed.now()
        self.archive, self.content, self.coercion = archive, content, coercion
        self.view = content.view()
        self.found = scan(self.view, archive.ingest.limits, assumed)
        self.now = datetime.now(UTC)
        self._charset = assumed.get(read_meta(self.view).source_ae, DEFAULT)

    def changed(self, at: datetime) -> tuple[DataSet, tuple[int, ...]]:
        """The data set by the rules, which say that they were applied at a moment; and the tags that they have changed."""
        coercion, dataset = self.coercion, _parsed(self.found, self.view)
        told = Told(at, coercion.system, coercion.source.replace("\\", "/"))
        return dataset, coerce(dataset, coercion.rules, told, self._charset)

    def write(self, dataset: DataSet, spool: Spool) -> None:
        """The object that is made of it, de-identified where that is wanted."""
        found, profile = self.found, self.coercion.profile
        head: Bytes = self.view[: found.dataset_offset]
        if profile is not None:
            deidentify(dataset, profile, secret_of(self.archive.index, DEIDENTIFICATION), self._charset)
            head = file_meta(found.sop_class_uid, uid_of(dataset, _INSTANCE), found.transfer_syntax_uid)
        for piece in _written(head, dataset, deflated=found.inflated):
            spool.write(piece)


def _with_original(work: _Work, dataset: DataSet, source: Source) -> Stored:
    """Store what was made and, beside it, what was received; as before, where the same has come and become the same."""
    archive, digest = work.archive, digest_of(work.found, work.view)
    for one in Originals(archive.index).received(digest)[:_MOST_TRIED]:
        with archive.spool() as spool:
            work.write(work.changed(one.coerced_at)[0], spool)
            if one.made_key.rpartition("/")[2] == f"{spool.sha256}.dcm":
                return _stored(archive, spool, source, _received(work, digest, one.coerced_at), work.coercion.profile)
    with archive.spool() as spool:
        work.write(dataset, spool)
        return _stored(archive, spool, source, _received(work, digest, work.now), work.coercion.profile)


def _received(work: _Work, digest: str, at: datetime) -> Received:
    return Received(work.content, work.found.uids.instance, digest, at)


def _stored(archive: Archive, spool: Spool, source: Source, received: Received | None, profile: Profile | None) -> Stored:
    try:
        return archive.ingest(spool, source, original=received)
    except (Conflict, Rejected) as error:
        if profile is None:
            raise
        # What is refused is named by its new UIDs, which no log must put beside those that were sent.
        raise type(error)("what was de-identified is stored already with other bytes, or was deleted; see the quarantine") from None


def _parsed(found: Scan, view: memoryview) -> DataSet:
    """The data set to be changed; the scanner has held it to all limits."""
    if any(flag.code == "truncated" for flag in found.flags):
        raise NotCoercible("the data set is cut off, so that it cannot be changed as the AE title's policy wants; send all of it")
    data, start = view, found.dataset_offset
    if found.inflated:
        data, start = memoryview(inflate(view, start)), 0
    explicit, little = encoding(data, start, lookup(found.transfer_syntax_uid).little_endian)
    return parse(data, start, len(data), Encoding(explicit, little))


def uid_of(dataset: DataSet, tag: int) -> str:
    """A UID of a data set; empty where it has none."""
    element = dataset.elements.get(tag)
    return bytes(element.value).decode("ascii", "replace").strip(" \0") if element else ""


def _written(head: Bytes, dataset: DataSet, *, deflated: bool) -> Iterable[Bytes]:
    """A preamble and File Meta Information, and the data set, deflated where it came so."""
    yield head
    if not deflated:
        yield from dataset.written()
        return
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    for piece in dataset.written():
        yield compressor.compress(piece)
    yield compressor.flush()
