"""A whole Lightbox in processes of its own, as an administrator starts it: `pacs serve` with settings in the environment."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.support.children import free_port, start

PACS = Path(sys.executable).parent / "pacs"
START_SECONDS = 60
STOP_SECONDS = 30


@dataclass(frozen=True)
class Lightbox:
    """Where a running server is."""

    url: str
    dimse_port: int
    data_folder: Path
    environment: dict[str, str]

    def store(self, paths: Iterable[Path]) -> None:
        """Send files by STOW-RS, one request a file, and insist that each is stored."""
        with httpx.Client(base_url=self.url, timeout=60) as client:
            for path in paths:
                answer = client.post("/dicom-web/studies", **multipart(path.read_bytes()))  # type: ignore[arg-type]
                assert answer.status_code == 200, f"{path.name}: {answer.status_code} {answer.text[:300]}"

    def command(self, *arguments: str) -> str:
        """Run `pacs ...` with this server's settings; returns what it printed."""
        done = subprocess.run(
            [str(PACS), *arguments], env=self.environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, f"pacs {' '.join(arguments)}: {done.stdout}\n{done.stderr}"
        return done.stdout


@contextlib.contextmanager
def running(data_folder: Path, **settings: str) -> Iterator[Lightbox]:
    """`pacs serve` on free ports of 127.0.0.1 with its data in `data_folder`, ready when this yields, stopped after."""
    http_port, dimse_port = free_port(), free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PACS_")},
        "PACS_DATA_DIR": str(data_folder),
        "PACS_HTTP_PORT": str(http_port),
        "PACS_DIMSE_PORT": str(dimse_port),
        **settings,
    }
    # What is set for these tests (PACS_TEST_S3) is no setting of the server's, and would stop its start.
    foreign = [f"-u{name}" for name in os.environ if name.startswith("PACS_") and name not in environment]
    command = [shutil.which("env") or "/usr/bin/env", *foreign, str(PACS), "serve"]
    child = start(command, data_folder.parent / f"{data_folder.name}.log", environment=environment)
    try:
        url = f"http://127.0.0.1:{http_port}"
        child.wait_until(lambda: _is_ready(url), START_SECONDS)
        yield Lightbox(url, dimse_port, data_folder, environment)
    finally:
        child.stop(STOP_SECONDS)


def _is_ready(url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{url}/readyz").status_code == 200
    return False


def multipart(content: bytes) -> dict[str, object]:
    """What httpx needs to POST one instance by STOW-RS."""
    boundary = uuid.uuid4().hex
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    media_type = f'multipart/related; type="application/dicom"; boundary={boundary}'
    return {
        "content": head + content + f"\r\n--{boundary}--\r\n".encode(),
        "headers": {"Content-Type": media_type, "Accept": "application/dicom+json"},
    }
