"""Studies, series and instances as ZIP files: every reader opens them, and the directory leads to every instance."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom import fileset
from pydicom.fileset import FileSet
from starlette.testclient import TestClient

from dicomweb.directory import Directory, File, kind_of
from storage.archive import Archive
from tests.support import made, web
from tests.support.archive import ingest
from tests.support.corpus import corpus_file

STUDY, SERIES = "studies/1.2.3", "studies/1.2.3/series/1.2.3.4"
ZIP = {"Accept": "application/zip"}
JPEG = "1.2.840.10008.1.2.4.50"


@pytest.fixture
def client(archive: Archive) -> Iterator[TestClient]:
    with web.client(archive) as client:
        yield client


def unpacked(client: TestClient, path: str, folder: Path, accept: str = "application/zip") -> FileSet:
    answer = client.get(path, headers={"Accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        archive.extractall(folder)
    return FileSet(folder / "DICOMDIR")


@pytest.mark.parametrize(
    ("path", "count"), [(STUDY, 5), (SERIES, 3), (f"{SERIES}/instances/1.2.3.4.2", 1)], ids=["study", "series", "instance"]
)
def test_every_level_is_a_file_set(client: TestClient, tmp_path: Path, path: str, count: int) -> None:
    instances = [made.instance(number) for number in (1, 2, 3)]
    instances += [made.instance(number, series="1.2.3.5", Modality="MR", SeriesNumber=2) for number in (1, 2)]
    web.stow(client, instances)
    folder = tmp_path / "set"
    found = unpacked(client, path, folder)
    assert len(found) == count
    for one in found:
        dataset = one.load()
        assert (one.SOPInstanceUID, one.PatientName, one.StudyDate) == (dataset.SOPInstanceUID, "Müller^Hans", "20240102")
        assert one.Modality == dataset.Modality
        assert int(one.InstanceNumber) == dataset.InstanceNumber
    assert len(list(folder.rglob("IM*"))) == count
    assert all(len(part) <= 8 for path in folder.rglob("*") for part in path.relative_to(folder).parts)
    assert client.head(path, headers=ZIP).headers["content-disposition"].startswith("attachment; filename=")


def test_files_are_as_accepted(client: TestClient, archive: Archive, tmp_path: Path) -> None:
    source = corpus_file("microscopy/multiframe_camelyon_challenge_image.dcm")
    stored = ingest(archive, source)
    path = f"studies/{stored.uids.study}"
    (as_stored,) = unpacked(client, path, tmp_path / "stored", "application/zip; transfer-syntax=*")
    assert digest(as_stored.path) == digest(source)
    (plain,) = unpacked(client, path, tmp_path / "plain")
    assert plain.load().file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert (as_stored.ReferencedTransferSyntaxUIDInFile, plain.ReferencedTransferSyntaxUIDInFile) == (JPEG, "1.2.840.10008.1.2.1")
    refused = client.get(path, headers={"Accept": "application/zip; transfer-syntax=1.2.840.10008.1.2.2"})
    assert refused.status_code == 406
    assert "application/zip; transfer-syntax=1.2.840.10008.1.2.1" in refused.text
    assert client.get("studies/1.9", headers=ZIP).status_code == 404


def digest(path: str | Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()[132:]).hexdigest()


def test_other_programs_open_it(client: TestClient, tmp_path: Path) -> None:
    web.stow(client, [made.instance(number, series=f"1.2.3.{series}") for series in (4, 5) for number in (1, 2)])
    content = client.get(STUDY, headers=ZIP).content
    (tmp_path / "study.zip").write_bytes(content)
    for program, arguments in (("unzip", ["-t", "study.zip"]), ("dcmdump", ["+L", "DICOMDIR"])):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
        if program == "dcmdump":
            zipfile.ZipFile(tmp_path / "study.zip").extractall(tmp_path)
        done = subprocess.run([program, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("DirectoryRecordType") == 1 + 1 + 2 + 4


def test_records_of_every_kind_that_pydicom_knows() -> None:
    """pydicom's own table is the oracle; what it takes for an image because it is younger is not asked."""
    for uid, kind in fileset._FOUR_LEVEL_SOP_CLASSES.items():
        assert kind_of(uid).type == kind, uid.name
    for other in ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.7.4", "1.2.840.10008.5.1.4.1.1.66.4", "1.2.3.4.5", ""):
        assert kind_of(other).type == "IMAGE"


def test_what_cannot_be_written_into_the_directory_is_left_empty_there(tmp_path: Path) -> None:
    directory = Directory()
    dataset = {
        "00080005": {"vr": "CS", "Value": ["ISO_IR 100"]},
        "00100020": {"vr": "LO", "Value": ["P1"]},
        "0020000D": {"vr": "UI", "Value": ["1.2"]},
        "0020000E": {"vr": "UI", "Value": ["1.2.3"]},
        "00200013": {"vr": "IS", "Value": ["seven"]},
        "00080060": {"vr": "ZZ", "Value": ["CT"]},
    }
    directory.add(dataset, File(("DICOM", "ST000001", "SE000001", "IM000001"), "1.2.840.10008.5.1.4.1.1.2", "1.2.3.4", "1.2.840.10008.1.2.1"))
    read = pydicom.dcmread(io.BytesIO(directory.to_bytes("1.2.9")))
    assert [record.DirectoryRecordType for record in read.DirectoryRecordSequence] == ["PATIENT", "STUDY", "SERIES", "IMAGE"]
    assert read.DirectoryRecordSequence[0].PatientID == "P1"
    assert read.DirectoryRecordSequence[2].Modality == ""
    assert pydicom.dcmread(io.BytesIO(Directory().to_bytes("1.2.9"))).DirectoryRecordSequence == []
