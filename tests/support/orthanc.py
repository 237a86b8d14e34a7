"""Orthanc as another archive: started with its DICOMweb plug-in in a folder of its own, stopped afterwards; skipped loudly without."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.children import free_port, start

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
START_SECONDS, STOP_SECONDS = 60, 30


@dataclass(frozen=True)
class Orthanc:
    """Where it is."""

    http_port: int
    dimse_port: int

    @property
    def web(self) -> str:
        """The root of its DICOMweb service."""
        return f"http://127.0.0.1:{self.http_port}/dicom-web"

    def instances(self, **login: Any) -> list[str]:
        """SOP Instance UIDs of all that it has."""
        found = httpx.get(f"http://127.0.0.1:{self.http_port}/instances?expand", **login).json()
        return sorted(one["MainDicomTags"]["SOPInstanceUID"] for one in found)


@contextlib.contextmanager
def running(folder: Path, **configuration: Any) -> Iterator[Orthanc]:
    """Orthanc on free ports of 127.0.0.1; `configuration` over what is said here."""
    program = shutil.which("Orthanc", path="/usr/sbin:/usr/bin")
    if not program or not PLUGIN.exists():
        pytest.skip("Orthanc or its DICOMweb plug-in is not installed: nothing is tested with it")
    folder.mkdir()
    found = Orthanc(free_port(), free_port())
    settings = folder / "orthanc.json"
    said = {
        "StorageDirectory": str(folder / "data"),
        "IndexDirectory": str(folder / "data"),
        "HttpPort": found.http_port,
        "DicomPort": found.dimse_port,
        "DicomAet": "ORTHANC",
        "DicomCheckCalledAet": False,
        "AuthenticationEnabled": False,
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        **configuration,
    }
    settings.write_text(json.dumps(said), encoding="utf-8")
    child = start([program, str(settings)], folder / "log")
    try:
        child.wait_until(lambda: _is_there(found), START_SECONDS)
        yield found
    finally:
        child.stop(STOP_SECONDS)


def _is_there(found: Orthanc) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{found.http_port}/system").status_code in (200, 401)
    return False
