"""What an import looks at: first bytes by a table; folders, links and archives, hostile ones too."""

from __future__ import annotations

import os
import struct
import zipfile
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from pacs import candidates as module
from pacs.candidates import HEAD, Candidate, Unreadable, candidates, count, is_directory, looks_like_dicom

# (first bytes, whether they may be an instance)
HEADS = [
    (bytes(128) + b"DICM" + b"\x02\x00\x00\x00UL", True),
    (b"MZ" + bytes(126) + b"DICM", True),
    (b"DICM\x02\x00\x00\x00UL\x04\x00", True),
    (b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100", True),
    (b"\x08\x00\x05\x00\x0a\x00\x00\x00ISO_IR 100", True),
    (b"\x02\x00\x00\x00UL\x04\x00", True),
    (b"\x00\x08\x00\x05CS\x00\x0aISO_IR 100", True),
    (b"", False),
    (bytes(512), False),
    (b"\x89PNG\r\n\x1a\n", False),
    (b"PK\x03\x04", False),
    (b"<?xml version='1.0'?>", False),
    (b"hello\n", False),
]


@pytest.mark.parametrize(("head", "may"), HEADS)
def test_first_bytes(head: bytes, may: bool) -> None:
    assert looks_like_dicom(head) is may


def test_a_dicomdir_is_a_list_of_instances() -> None:
    path = get_testdata_file("DICOMDIR", download=False)
    assert isinstance(path, str)
    assert is_directory(Path(path).read_bytes()[:HEAD])
    other = get_testdata_file("CT_small.dcm", download=False)
    assert isinstance(other, str)
    assert not is_directory(Path(other).read_bytes()[:HEAD])


def names(*paths: Path, without: tuple[Path, ...] = ()) -> list[str]:
    return [found.name for found in candidates(paths, without=without) if isinstance(found, Candidate)]


def errors(*paths: Path) -> list[str]:
    """What cannot be opened, and what cannot be read once its turn comes."""
    told = []
    for found in candidates(paths):
        try:
            if isinstance(found, Unreadable):
                raise found
            for _ in found.pieces():
                pass
        except Unreadable as error:
            told.append(str(error))
    return told


def test_folders_in_order_of_names(tmp_path: Path) -> None:
    for name in ("b/2", "b/10", "a/x.dcm", "c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert names(tmp_path) == [str(tmp_path / name) for name in ("a/x.dcm", "b/10", "b/2", "c")]
    assert count([tmp_path]) == 4
    assert names(tmp_path / "c") == [str(tmp_path / "c")]


def test_the_archives_own_folder_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "pacs-data" / "objects").mkdir(parents=True)
    (tmp_path / "pacs-data" / "objects" / "x.dcm").write_bytes(b"x")
    (tmp_path / "y").write_bytes(b"y")
    assert names(tmp_path, without=(tmp_path / "pacs-data",)) == [str(tmp_path / "y")]
    assert count([tmp_path], without=[tmp_path / "pacs-data"]) == 1


def test_links_and_pipes(tmp_path: Path) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    (tmp_path / "target").write_bytes(b"x")
    (inside / "file").symlink_to(tmp_path / "target")
    (inside / "loop").symlink_to(tmp_path, target_is_directory=True)
    (inside / "broken").symlink_to(tmp_path / "nowhere")
    os.mkfifo(inside / "pipe")
    assert names(inside) == [str(inside / "file")]
    assert errors(inside) == [f"{inside / 'broken'}: No such file or directory"]


def test_deep_folders(tmp_path: Path) -> None:
    here = Path("d" * 3)
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        for _ in range(300):
            here.mkdir()
            os.chdir(here)
        Path("x").write_bytes(b"x")
    finally:
        os.chdir(before)
    assert len(names(tmp_path)) == 1


def test_a_dicomdir_stands_for_its_folder(tmp_path: Path) -> None:
    for name in ("DICOMDIR", "IM1"):
        (tmp_path / name).write_bytes(b"x")
    assert len(names(tmp_path / "DICOMDIR")) == 2
    assert count([tmp_path / "DICOMDIR"]) == 2


def test_members_of_a_zip(tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("folder/", b"")
        archive.writestr("folder/one.dcm", b"x" * 3_000_000)
        archive.writestr("../../escape", b"y")
        archive.writestr("/etc/passwd", b"z")
    walk = candidates([tmp_path])
    one = next(walk)
    assert isinstance(one, Candidate)
    pieces = list(one.pieces())
    assert (len(pieces[0]), len(b"".join(pieces))) == (HEAD, 3_000_000)
    # Hostile names are only shown: nothing is ever written to them.
    assert names(tmp_path)[1:] == [f"{file}/../../escape", f"{file}//etc/passwd"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip"]


def test_only_zip_archives_are_opened(tmp_path: Path) -> None:
    for name in ("export", "letter.docx"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("inside", b"x")
    part10 = bytearray(b"PK\x03\x04" + bytes(124) + b"DICM")
    (tmp_path / "disguised").write_bytes(part10)
    assert names(tmp_path) == [
        str(tmp_path / "disguised"),
        str(tmp_path / "export") + "/inside",
        str(tmp_path / "letter.docx"),
    ]


def _zip(path: Path, content: bytes) -> bytearray:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("member", content)
    return bytearray(path.read_bytes())


def test_encrypted_members(tmp_path: Path) -> None:
    raw = _zip(tmp_path / "a.zip", b"x" * 100)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(signature) + offset] |= 1
    (tmp_path / "a.zip").write_bytes(raw)
    assert "encrypted" in errors(tmp_path)[0]


def test_damaged_members_and_archives(tmp_path: Path) -> None:
    raw = _zip(tmp_path / "a.zip", os.urandom(5000))
    raw[1000] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(raw)
    (tmp_path / "b.zip").write_bytes(raw[:3000])
    first, second = errors(tmp_path)
    assert "cannot be unpacked" in first
    assert "the zip archive cannot be read" in second


def test_bombs_are_refused_before_they_are_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_HARMLESS", 1 << 20)
    _zip(tmp_path / "black.zip", bytes(1 << 20))
    _zip(tmp_path / "bomb.zip", bytes(2 << 20))
    told = errors(tmp_path)
    assert len(told) == 1
    assert "bomb" in told[0]


def test_a_member_that_lies_about_its_size_gives_no_more_than_it_says(tmp_path: Path) -> None:
    raw = _zip(tmp_path / "a.zip", bytes(4 << 20))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", raw, raw.index(signature) + offset, 1000)
    (tmp_path / "a.zip").write_bytes(raw)
    assert "cannot be unpacked" in errors(tmp_path)[0]


def test_unreadable_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.dcm").write_bytes(b"x")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert errors(tmp_path) == ["it cannot be read (Permission denied)"]
