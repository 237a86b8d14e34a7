"""The servers that are compared, as processes on loopback: started until they answer, stopped, and emptied."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import httpx

_READY_SECONDS: Final = 60
# Where C-MOVE of both sends to, and on which port a storescp of the benchmark listens for it.
DESTINATION, DESTINATION_PORT = "BENCHDEST", 24390


class Server(ABC):
    """One server under test. `home` is its own folder, which `wipe` empties."""

    name: str
    title: str
    http_port: int
    dimse_port: int

    def __init__(self, home: Path) -> None:
        self.home = home
        # What it is told beside what it always is, as names and values of its environment.
        self.settings: Mapping[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The root of its DICOMweb services."""
        return f"http://127.0.0.1:{self.http_port}/dicom-web"

    def pids(self) -> list[int]:
        """The roots of its process tree."""
        return [self._process.pid] if self._process else []

    def start(self) -> float:
        """Start it; returns the seconds until it answered."""
        self.home.mkdir(parents=True, exist_ok=True)
        self._prepare()
        begun = time.perf_counter()
        with (self.home.parent / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(self._command(), env=self._environment(), stdout=log, stderr=log)
        while not self._ready():
            if self._process.poll() is not None or time.perf_counter() - begun > _READY_SECONDS:
                raise SystemExit(f"{self.name} did not become ready; see {log.name}")
            time.sleep(0.02)
        return time.perf_counter() - begun

    def stop(self) -> None:
        """Stop it, and wait until it is gone."""
        if self._process:
            self._process.terminate()
            self._process.wait(60)
            self._process = None

    def afresh(self, settings: Mapping[str, str] | None = None) -> None:
        """Stop it, forget everything it has, start it, with these settings."""
        self.stop()
        self.settings = settings or {}
        shutil.rmtree(self.home, ignore_errors=True)
        self.start()

    @abstractmethod
    def version(self) -> str:
        """What is running."""

    @abstractmethod
    def _command(self) -> list[str]: ...

    @abstractmethod
    def _environment(self) -> Mapping[str, str]: ...

    @abstractmethod
    def _ready_url(self) -> str: ...

    @abstractmethod
    def _prepare(self) -> None: ...

    def _ready(self) -> bool:
        try:
            return httpx.get(self._ready_url(), timeout=5).status_code == 200
        except httpx.TransportError:
            return False


class Lightbox(Server):
    """`pacs serve` of this checkout, with its default settings, but for those of a workload."""

    name, title, http_port, dimse_port = "Lightbox", "LIGHTBOX", 24380, 24381

    def version(self) -> str:
        commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
        return f"Lightbox {commit.stdout.strip()}, Python {sys.version.split()[0]}"

    def _command(self) -> list[str]:
        return [self._pacs(), "serve"]

    @staticmethod
    def _pacs() -> str:
        return str(Path(sys.executable).parent / "pacs")

    def _environment(self) -> Mapping[str, str]:
        # With compiled modules, as on a machine of a user's: to compile them anew takes as long as all else of a start.
        outside = {
            name: value for name, value in os.environ.items() if not name.startswith("PACS_TEST") and name != "PYTHONDONTWRITEBYTECODE"
        }
        return {
            **outside,
            "PACS_DATA_DIR": str(self.home),
            "PACS_HTTP_PORT": str(self.http_port),
            "PACS_DIMSE_PORT": str(self.dimse_port),
            **self.settings,
        }

    def thumbnails(self) -> int:
        """How many thumbnails it has drawn and kept."""
        return sum(1 for one in self.home.rglob("copies/thumbnail/**/*") if one.is_file())

    def _prepare(self) -> None:
        command = [self._pacs(), "ae", "add", DESTINATION, "127.0.0.1", str(DESTINATION_PORT)]
        subprocess.run(command, env=self._environment(), check=True, stdout=subprocess.DEVNULL)

    def _ready_url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}/readyz"


class Orthanc(Server):
    """Orthanc with its DICOMweb plug-in, with the settings that make it fast: large PDUs, caches, files synced."""

    name, title, http_port, dimse_port = "Orthanc", "ORTHANC", 24382, 24383

    @staticmethod
    def program() -> str | None:
        """Where it is installed."""
        return shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

    def version(self) -> str:
        return f"Orthanc {httpx.get(self._ready_url()).json()['Version']}"

    def _command(self) -> list[str]:
        return [self.program() or "Orthanc", str(self._settings())]

    def _environment(self) -> Mapping[str, str]:
        # DCMTK inside it leaves Nagle's algorithm on unless it is told, which would be slower.
        return {**os.environ, "TCP_NODELAY": "1"}

    def _settings(self) -> Path:
        return self.home.parent / "orthanc.json"

    def _prepare(self) -> None:
        self._settings().write_text(json.dumps(self._configuration()), encoding="utf-8")

    def _configuration(self) -> dict[str, Any]:
        plugins = Path("/usr/share/orthanc/plugins")
        names = ("libOrthancDicomWeb.so", "libOrthancGdcm.so")
        return {
            "Name": "bench", "StorageDirectory": str(self.home), "IndexDirectory": str(self.home), "SyncStorageArea": True,
            "StorageCompression": False, "Plugins": [str(plugins / one) for one in names if (plugins / one).exists()],
            "HttpPort": self.http_port, "RemoteAccessAllowed": True, "AuthenticationEnabled": False, "HttpThreadsCount": 50,
            "KeepAlive": True, "KeepAliveTimeout": 30, "TcpNoDelay": True, "HttpCompressionEnabled": False, "DicomAet": self.title,
            "DicomPort": self.dimse_port, "DicomThreadsCount": 10, "DicomScpTimeout": 300, "DicomCheckCalledAet": False, "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowGet": True, "DicomAlwaysAllowMove": True, "UnknownSopClassAccepted": True, "MaximumPduLength": 131072,
            "MaximumStorageCacheSize": 512, "StableAge": 5, "SaveJobs": False, "StorageAccessOnFind": "Never",
            "DicomModalities": {DESTINATION: [DESTINATION, "127.0.0.1", DESTINATION_PORT]},
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "StudiesMetadata": "Full", "SeriesMetadata": "Full",
                         "EnableMetadataCache": True},
        }  # fmt: skip

    def _ready_url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}/system"
