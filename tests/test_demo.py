"""The demonstration: real files, each stored by the archive, none fetched."""

from __future__ import annotations

import socket
from pathlib import Path

import pydicom
import pytest

from pacs.demo import DEMONSTRATION, demo_files


def test_every_file_is_there_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_arguments: object) -> None:
        raise AssertionError("the demonstration reached for the network")

    monkeypatch.setattr(socket, "create_connection", refused)
    names = [path.name for path in demo_files()]
    assert names == list(DEMONSTRATION)


def test_only_what_pydicom_bundles_where_pydicom_data_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pydicom.data.data_manager.external_data_sources", dict)
    names = {path.name for path in demo_files()}
    assert {"CT_small.dcm", "examples_ybr_color.dcm"} <= names
    assert "RG1_UNCR.dcm" not in names


@pytest.mark.parametrize("path", demo_files(), ids=lambda path: path.name)
def test_each_has_an_identity_of_its_own(path: Path) -> None:
    others = [pydicom.dcmread(other, specific_tags=["SOPInstanceUID"]) for other in demo_files() if other != path]
    own = pydicom.dcmread(path, stop_before_pixels=True)
    assert own.SOPInstanceUID not in {other.SOPInstanceUID for other in others}
    assert own.StudyInstanceUID
