"""The whole server: a palette by C-STORE, found over the web, committed to by a worker; what it describes is what it does."""

from __future__ import annotations

import time
from pathlib import Path
from xml.etree import ElementTree

import httpx
import pydicom
import pytest

from dicomweb.wadl import NAMESPACE
from tests.support.corpus import corpus_file
from tests.support.lightbox import running
from tests.test_npi import PALETTE
from tests.test_scp import dcmtk, run

VIEWER = "https://viewer.example"
_SECONDS = 30.0


@dcmtk
@pytest.mark.slow
def test_a_palette_from_end_to_end(tmp_path: Path) -> None:
    file = corpus_file("derived/hotiron.dcm")
    uid = pydicom.dcmread(file).SOPInstanceUID
    reference = {"00081150": {"vr": "UI", "Value": [PALETTE]}, "00081155": {"vr": "UI", "Value": [uid]}}
    with (
        running(tmp_path / "data", PACS_CORS_ORIGINS=VIEWER) as server,
        httpx.Client(base_url=f"{server.url}/dicom-web/", headers={"Origin": VIEWER}, timeout=30) as client,
    ):
        sent = run("dcmsend", "-aec", "LIGHTBOX", "127.0.0.1", str(server.dimse_port), file)
        assert sent.returncode == 0, sent.stderr
        (found,) = client.get("color-palettes", params={"ContentLabel": "HOT*"}).json()
        assert found["00080018"]["Value"] == [uid]
        assert client.get("studies").json() == []

        asked = client.post(
            "commitment-requests/2.25.77",
            json={"00081199": {"vr": "SQ", "Value": [reference]}},
            headers={"Content-Type": "application/dicom+json", "Prefer": "respond-async"},
        )
        assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (202, VIEWER)
        deadline = time.monotonic() + _SECONDS
        while (answer := client.get("commitment-requests/2.25.77")).status_code == 202:
            assert time.monotonic() < deadline, "no worker has verified it"
            time.sleep(0.1)
        assert answer.json() == [{"00081199": {"vr": "SQ", "Value": [reference]}}]

        described = ElementTree.fromstring(client.options("").content)
        base = described.find(f"{{{NAMESPACE}}}resources")
        assert base is not None
        assert base.get("base") == f"{server.url}/dicom-web"
        assert {"color-palettes", "commitment-requests", "studies", "workitems"} <= {str(one.get("path")) for one in base}
        refused = client.options("studies", headers={"Origin": "https://other.example", "Access-Control-Request-Method": "GET"})
        assert refused.status_code == 403
