"""Taking an instance in as the policy of an AE title wants it: changed by rules, and what was received kept beside it."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import structlog

from storage.archive import Archive
from storage.charsets import DEFAULT
from storage.coercion.applying import Told, coerce
from storage.coercion.rules import Rule
from storage.coercion.tree import Bytes, DataSet, Encoding, parse
from storage.errors import NotCoercible
from storage.index.originals import Originals
from storage.ingest import check, object_key
from storage.originals import Received, digest_of
from storage.part10 import read_meta
from storage.scanner import Scan, encoding, inflate, scan
from storage.spool import Spool
from storage.transfer_syntaxes import lookup
from storage.types import Source, Stored

_log = structlog.get_logger(__name__)
# Originals of one data set that are tried for the moment at which it was changed before.
_MOST_TRIED = 4


@dataclass(frozen=True, slots=True)
class Coercion:
    """What becomes of what a node sends to a title of ours. `system` is that title, `source` the node's."""

    rules: tuple[Rule, ...]
    system: str
    source: str
    # The node takes a warning for a failure: it is told of success instead.
    silent: bool = False


class Coerced(NamedTuple):
    """What was stored, and the tags of the top level that are other than they came."""

    stored: Stored
    tags: tuple[int, ...]


def ingest(
    archive: Archive, content: Spool, source: Source, coercion: Coercion, *, expect_sop: tuple[str, str] | None = None
) -> Coerced:
    """Store what a policy makes of an instance, and the instance as it came beside it.

    What has come before, and was changed in the same way, becomes the same bytes again: it is there already. Raises
    NotCoercible, and what `Ingest` raises; nothing is stored then.
    """
    view = content.view()
    assumed = archive.ingest.assumed.now()
    found = scan(view, archive.ingest.limits, assumed)
    check(found, None, expect_sop)
    digest = digest_of(found, view)
    charset = assumed.get(read_meta(view).source_ae, DEFAULT)
    now = datetime.now(UTC)
    for at, made_key in (*_before(archive, digest), (now, "")):
        dataset = _parsed(found, view)
        tags = coerce(dataset, coercion.rules, Told(at, coercion.system, coercion.source), charset)
        if not tags:
            return Coerced(archive.ingest(content, source, expect_sop=expect_sop), ())
        with archive.spool() as spool:
            for piece in _written(found, view, dataset):
                spool.write(piece)
            if made_key in ("", object_key(found.uids, spool.sha256)):
                received = Received(content, found.uids.instance, digest, at)
                stored = archive.ingest(spool, source, original=received)
                break
    _log.info("coerced", instance=found.uids.instance, calling_ae=coercion.source, attributes=len(tags))
    return Coerced(stored, tags)


def _before(archive: Archive, digest: str) -> Iterator[tuple[datetime, str]]:
    """When the same data set was changed before, and the key of what it became."""
    for one in Originals(archive.index).received(digest)[:_MOST_TRIED]:
        yield one.coerced_at, one.made_key


def _parsed(found: Scan, view: memoryview) -> DataSet:
    """The data set to be changed; the scanner has held it to all limits."""
    if any(flag.code == "truncated" for flag in found.flags):
        raise NotCoercible("the data set is cut off, so that it cannot be changed as the AE title's policy wants; send all of it")
    data, start = view, found.dataset_offset
    if found.inflated:
        data, start = memoryview(inflate(view, start)), 0
    explicit, little = encoding(data, start, lookup(found.transfer_syntax_uid).little_endian)
    return parse(data, start, len(data), Encoding(explicit, little))


def _written(found: Scan, view: memoryview, dataset: DataSet) -> Iterable[Bytes]:
    """With the preamble and File Meta Information that it came with, and deflated where it was."""
    yield view[: found.dataset_offset]
    if not found.inflated:
        yield from dataset.written()
        return
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    for piece in dataset.written():
        yield compressor.compress(piece)
    rest = compressor.flush()
    yield rest
