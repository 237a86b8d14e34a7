"""The benchmark measures what it says: its data is valid and new each time, its arithmetic right, its clients strict."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path

import imagecodecs
import pytest
from pydicom import dcmread
from pydicom.encaps import generate_frames

from storage.scanner import scan
from tests.bench import clients, made, report
from tests.bench.report import Measured, Started
from tests.bench.servers import Lightbox
from tests.bench.workloads import WORKLOADS, State, check_decoded


def test_the_data_is_valid_and_the_same_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(made.SETS, "HTJ2K", made.SETS["HTJ2K"].__class__(1, 1, 2, side=32, syntax="1.2.840.10008.1.2.4.201"))
    first = made.prepared(tmp_path / "first", ("HTJ2K",))["HTJ2K"]
    second = made.prepared(tmp_path / "second", ("HTJ2K",))["HTJ2K"]
    assert [one.path.read_bytes() for one in first] == [one.path.read_bytes() for one in second]
    assert made.prepared(tmp_path / "first", ("HTJ2K",))["HTJ2K"] == first
    dataset = dcmread(first[1].path)
    assert (dataset.StudyInstanceUID, dataset.SOPInstanceUID) == (first[1].study, first[1].instance)
    (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
    assert imagecodecs.htj2k_decode(frame).shape == (32, 32)


def test_a_codestream_that_is_called_explicit_vr_is_no_result() -> None:
    head, native = b"--x\r\nContent-Type: application/octet-stream\r\n\r\n", bytes(512 * 512 * 2)
    check_decoded(head + native)
    with pytest.raises(clients.Trouble, match="ff4fff51"):
        check_decoded(head + bytes.fromhex("ff4fff51") + bytes(200_000))


def test_tiny_studies_differ_in_what_is_searched() -> None:
    tiny = made.Tiny()
    datasets = [dcmread(io.BytesIO(tiny[number])) for number in range(20)]
    for one, other in pairwise(datasets):
        assert one.StudyInstanceUID != other.StudyInstanceUID
        assert one.AccessionNumber != other.AccessionNumber
    assert len({one.PatientID for one in datasets}) == 10
    assert {one.Modality for one in datasets} == {"CT", "MR", "CR", "US", "DX", "MG", "PT"}
    for number in range(20):
        assert scan(tiny[number]).flags == ()


def test_each_workload_has_a_name_of_its_own() -> None:
    names = [(one.group, one.what) for one in WORKLOADS]
    assert len(set(names)) == len(names)
    assert {one.state for one in WORKLOADS} == set(State)


def test_a_page_has_medians_ratios_and_what_failed() -> None:
    workload = WORKLOADS[0]
    runs = [Measured("Lightbox", rate, 2.0, 300, 0.01) for rate in (150, 300, 310)] + [
        Measured("Orthanc", rate, 5.0, 500, 0.2) for rate in (100, 150, 400)
    ]
    page = report.page({workload: runs}, [Started("Lightbox", True, 2.5, 201), Started("Lightbox", False, 1.25, 200)], {("Orthanc", "frames"): "404"}, ["today"])
    row = next(line for line in page.splitlines() if line.startswith("| C-STORE"))
    assert [cell.strip() for cell in row.split("|")[2:-1]] == [
        "300 instances/s (150 to 310)", "150 instances/s (100 to 400)", "**2.00**", "1.5", "2.00 / 5.00", "300 / 500", "busy machine",
    ]  # fmt: skip
    assert "| Lightbox | 1.25 | 2.50 | 201 |" in page
    assert "- Orthanc, frames: 404" in page
    assert ">2.00</text>" in report.plot({workload: runs}, "Lightbox", "Orthanc")


def test_an_answer_that_is_none_is_trouble(tmp_path: Path) -> None:
    absent = Lightbox(tmp_path)
    absent.http_port, absent.dimse_port = 1, 1
    with pytest.raises((clients.Trouble, OSError)):
        clients.latencies(absent, ["/studies"])
    if not clients.missing():
        with pytest.raises(clients.Trouble):
            clients.findscu(absent, [("PatientID=1",)])
        with pytest.raises(clients.Trouble):
            clients.wrk(absent, ["/studies"], 1, 1, {})


def test_what_a_workload_tells_a_server_is_for_that_workload_alone(tmp_path: Path) -> None:
    class Told(Lightbox):
        told: tuple[dict[str, str], ...] = ()

        def start(self) -> float:
            self.told = (*self.told, {name: value for name, value in self._environment().items() if "THUMBNAIL" in name})
            return 0.0

    server = Told(tmp_path / "told")
    (drawn,) = (one for one in WORKLOADS if one.what.endswith("drawn all the while"))
    server.afresh(dict(drawn.settings))
    server.afresh()
    assert server.told == ({"PACS_THUMBNAIL_QUIET_SECONDS": "0"}, {})


def test_thumbnails_that_were_drawn_are_counted(tmp_path: Path) -> None:
    server = Lightbox(tmp_path)
    assert server.thumbnails() == 0
    kept = tmp_path / "objects" / "copies" / "thumbnail" / "ab"
    kept.mkdir(parents=True)
    (kept / "one").touch()
    assert server.thumbnails() == 1
