"""The whole corpus through a running server, by STOW-RS and by C-STORE: each file ends as its manifest says."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from storage.errors import LightboxError
from storage.non_patient import BY_SOP_CLASS
from storage.part10 import read_meta
from storage.scanner import Scan, scan
from storage.transfer_syntaxes import Coding, lookup
from tests.support import dimse_peer as wire
from tests.support.corpus import CorpusFile, corpus_files
from tests.support.lightbox import Lightbox, multipart, running
from tests.support.source import CHECKOUT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

_DICOM = 'multipart/related; type="application/dicom"; transfer-syntax=*'
# Files share SOP Instance UIDs: a transcoded sibling replaces its brother, unless it claims to be in another study.
_TAKEN = "the UID belongs to an instance of another study or series, as it may not"


@dataclass(frozen=True)
class Expected:
    """A file, and what it must end as."""

    file: CorpusFile
    content: bytes
    found: Scan | None

    @property
    def path(self) -> str:
        assert self.found is not None
        uids, category = self.found.uids, BY_SOP_CLASS.get(self.found.sop_class_uid)
        if category is not None:
            return f"/dicom-web/{category.name}/{uids.instance}"
        return f"/dicom-web/studies/{uids.study}/series/{uids.series}/instances/{uids.instance}"


def _expected(file: CorpusFile) -> Expected:
    content = file.path.read_bytes()
    try:
        return Expected(file, content, scan(content))
    except LightboxError:
        return Expected(file, content, None)


@pytest.fixture(scope="module")
def corpus() -> list[Expected]:
    return [_expected(file) for file in corpus_files()]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lightbox]:
    corpus_files()
    with running(tmp_path_factory.mktemp("corpus") / "data", PACS_DUPLICATES="replace") as lightbox:
        yield lightbox


def _only_part(answer: httpx.Response) -> bytes:
    boundary = answer.headers["content-type"].partition("boundary=")[2].strip('"').encode()
    _, _, rest = answer.content.partition(b"--" + boundary)
    return rest.partition(b"\r\n\r\n")[2].rpartition(b"\r\n--" + boundary)[0]


def _data_set(content: bytes) -> bytes:
    return content[read_meta(memoryview(content)).dataset_offset :]


def _stow(client: httpx.Client, content: bytes) -> httpx.Response:
    return client.post("/dicom-web/studies", **multipart(content))  # type: ignore[arg-type]


def test_by_stow(server: Lightbox, corpus: list[Expected]) -> None:
    """Stored and byte for byte retrievable, or refused with 409 and a reason; never a 5xx."""
    wrong = []
    homes: dict[str, str] = {}
    with httpx.Client(base_url=server.url, timeout=60) as client:
        for expected in corpus:
            answer = _stow(client, expected.content)
            if expected.found is None:
                if answer.status_code not in (400, 409) or b"00081197" not in answer.content:
                    wrong.append((expected.file.name, answer.status_code, answer.text[:200]))
                continue
            home = homes.setdefault(expected.found.uids.instance, expected.path)
            if home != expected.path:
                assert answer.status_code == 409, (expected.file.name, _TAKEN)
                continue
            if answer.status_code not in (200, 202):
                wrong.append((expected.file.name, answer.status_code, answer.text[:200]))
                continue
            back = client.get(expected.path, headers={"Accept": _DICOM})
            if back.status_code != 200 or _data_set(_only_part(back)) != _data_set(expected.content):
                wrong.append((expected.file.name, back.status_code, "other bytes came back"))
    assert wrong == []
    assert len(homes) > 750


def test_what_was_stored_is_described_and_shown(server: Lightbox, corpus: list[Expected]) -> None:
    """Metadata of everything; frames of every image; a picture or an icon of everything; no 5xx that is not explained."""
    wrong: list[tuple[object, ...]] = []
    with httpx.Client(base_url=server.url, timeout=60) as client:
        assert client.get("/dicom-web/studies?limit=1").json(), "test_by_stow stores what is looked at here"
        for expected in corpus:
            if expected.found is None:
                continue
            if expected.found.sop_class_uid in BY_SOP_CLASS:
                # Of no patient: its own path has the data set, and there is no picture of it.
                assert len(client.get(expected.path).json()) == 1
                continue
            metadata = client.get(expected.path + "/metadata")
            if metadata.status_code == 404:
                continue  # Its UID was taken by an instance of another study: see test_by_stow.
            if metadata.status_code != 200 or len(metadata.json()) != 1:
                wrong.append((expected.file.name, "metadata", metadata.status_code))
            wrong += [(expected.file.name, *row) for row in _shown(client, expected)]
    assert wrong == []


def _shown(client: httpx.Client, expected: Expected) -> Iterator[tuple[str, int, str]]:
    assert expected.found is not None
    thumbnail = client.get(expected.path + "/thumbnail")
    if thumbnail.status_code != 200 or not thumbnail.headers["content-type"].startswith("image/"):
        yield "thumbnail", thumbnail.status_code, thumbnail.text[:200]
    rendered = client.get(expected.path + "/rendered")
    if rendered.status_code >= 500 and not _undecodable(expected, rendered):
        yield "rendered", rendered.status_code, rendered.text[:200]
    if expected.found.frames.count and lookup(expected.found.transfer_syntax_uid).coding is not Coding.VIDEO:
        frame = client.get(expected.path + "/frames/1", headers={"Accept": "multipart/related; transfer-syntax=*"})
        if frame.status_code != 200 and not _undecodable(expected, frame):
            yield "frame", frame.status_code, frame.text[:200]


def _undecodable(expected: Expected, answer: httpx.Response) -> bool:
    """The manifest says that nobody decodes it, and the answer says so too."""
    row = expected.file.row
    doubtful = not row["expected_decode"].startswith("ok") or "doubtful" in row["expected_parse"]
    return doubtful and "error" in answer.json()


def _c_store(server: Lightbox, expected: Expected, sop_class: str, syntax: str) -> int:
    assert expected.found is not None
    with wire.Peer(server.dimse_port) as peer:
        peer.associate([(1, sop_class, (syntax,))])
        command = wire.store_rq(sop_class, expected.found.uids.instance)
        peer.send(wire.message(1, command, _data_set(expected.content)))
        status = wire.status_of(peer.answer()[0])
        peer.send(wire.RELEASE_RQ)
        assert peer.pdu()[0] == 6
    return status


def test_by_c_store(tmp_path: Path, corpus: list[Expected]) -> None:
    """The data set as it is in the file, in the transfer syntax that it is in; byte for byte retrievable by the web."""
    wrong, stored = [], 0
    homes: dict[str, str] = {}
    with (
        running(tmp_path / "data", PACS_DUPLICATES="replace") as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        for expected in corpus:
            if expected.found is None or len(expected.found.uids.instance) > 64:
                continue
            found = expected.found
            status = _c_store(server, expected, found.sop_class_uid, found.transfer_syntax_uid)
            if homes.setdefault(found.uids.instance, expected.path) != expected.path:
                assert status == 0x0111, (expected.file.name, _TAKEN)
                continue
            back = client.get(expected.path, headers={"Accept": _DICOM})
            if status & 0xF000 not in (0, 0xB000) or back.status_code != 200:
                wrong.append((expected.file.name, hex(status), back.status_code))
            elif _data_set(_only_part(back)) != _data_set(expected.content):
                wrong.append((expected.file.name, "other bytes came back", len(back.content)))
            else:
                stored += 1
    assert wrong == []
    assert stored > 750


def test_c_store_of_what_cannot_be_stored_is_refused_with_a_status(server: Lightbox) -> None:
    with wire.Peer(server.dimse_port) as peer:
        peer.associate([(1, wire.CT, (wire.EXPLICIT,))])
        for data in (b"", b"not DICOM at all, only a sentence", struct.pack("<HH2sH2s", 8, 0x60, b"CS", 2, b"CT")):
            peer.send(wire.message(1, wire.store_rq(wire.CT, "1.2.3"), data))
            status = wire.status_of(peer.answer()[0])
            assert status in range(0xA900, 0xAA00) or status in range(0xC000, 0xD000), hex(status)


def test_everything_is_collected_where_there_is_no_corpus(tmp_path: Path) -> None:
    """`make test` is for whoever has the checkout alone: tests that need the corpus skip, and no module fails before they can."""
    collect = """
import sys
from pathlib import Path
import pytest
from tests.support import corpus
corpus.FOLDER = Path(sys.argv[1])
sys.exit(pytest.main(["--collect-only", "-q", "-n", "0", "-p", "no:cacheprovider", *sys.argv[2:]]))
"""
    # The others are collected anyway.
    concerned = [str(one) for one in sorted((CHECKOUT / "tests").rglob("test_*.py")) if "corpus" in one.read_text("utf-8")]
    assert concerned
    command = [sys.executable, "-c", collect, str(tmp_path), *concerned]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
