"""npm's dicomweb-client, which OHIF and Slim use, with every call that it has, under node, against a real server."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from storage.archive import Archive
from tests.support import made, npm, web

VERSION = "0.11.3"
INTEGRITY = "sha512-7t1Rc/01fyFnKlQeNPW9Pvxvmsx8R/BgB2n7BxTuWirRFwlTC5upEeLeS3vO72P+n6/SQZ3+5ij0bgaWDHQG/A=="
PROGRAM = Path(__file__).parent / "support" / "dicomweb_client.cjs"
JPEG, PNG = "ffd8ffe0", "89504e47"


@pytest.fixture
def client(pytestconfig: pytest.Config) -> Path:
    cache = pytestconfig.cache
    assert cache is not None
    return npm.module(Path(cache.mkdir("npm")), "dicomweb-client", VERSION, INTEGRITY, "build/dicomweb-client.js")


def test_every_call(client: Path, archive: Archive, tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.dcm" for number in (1, 2)]
    for number, file in enumerate(files, start=1):
        file.write_bytes(made.instance(number, frames=3, side=32, StudyDescription="Head"))
    size = files[0].stat().st_size
    node = npm.program("node")
    assert node is not None
    with web.serving(archive) as url:
        command = [node, str(PROGRAM), str(client), url, *map(str, files)]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    results: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])  # the client itself writes to the console
    calls = results.pop("calls")
    assert results == {
        "storeInstances": 2,
        "storeInstances into a study": 1,
        "searchForStudies": ["Head"],
        "searchForStudies without a match": [],
        "searchForSeries": ["1.2.3.4"],
        "searchForSeries of all studies": 1,
        "searchForInstances": 2,
        "searchForInstances of a study": 2,
        "searchForInstances of all studies": 1,
        "retrieveStudyMetadata": 2,
        "retrieveSeriesMetadata": ["Müller^Hans"] * 2,
        "retrieveInstanceMetadata": ["1.2.3.4.1"],
        "retrieveInstance": size,
        "retrieveSeries": [size, size],
        "retrieveStudy": [size, size],
        "retrieveInstanceFrames": [2048, 2048],
        "retrieveInstanceFrames as octets": [2048],
        "retrieveInstanceRendered": JPEG,
        "retrieveInstanceRendered as PNG": PNG,
        "retrieveInstanceThumbnail": JPEG,
        "retrieveInstanceFramesRendered": JPEG,
        "retrieveInstanceFramesThumbnail": PNG,
        "retrieveBulkData": [6144],
        "retrieveBulkData in one part": [6144],
        "a study that is not there": 404,
        "buildInstanceWadoURIUrl": "?requestType=WADO&studyUID=1.2.3&seriesUID=1.2.3.4&objectUID=1.2.3.4.1&contentType=application/dicom&transferSyntax=*",
    }
    assert [name for name in calls if name not in results] == []
