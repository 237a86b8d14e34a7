"""A whole Lightbox in processes of its own, as an administrator starts it: `pacs serve` with settings in the environment."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

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
                answer = client.post("/dicom-web/studies", **_multipart(path.read_bytes()))  # type: ignore[arg-type]
                assert answer.status_code == 200, f"{path.name}: {answer.status_code} {answer.text[:300]}"

    def command(self, *arguments: str) -> str:
        """Run `pacs ...` with this server's settings; returns what it printed."""
        done = subprocess.run(
            [str(PACS), *arguments], env=self.environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, f"pacs {' '.join(arguments)}: {done.stdout}\n{done.stderr}"
        return done.stdout


def free_port() -> int:
    """A TCP port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
    log = data_folder.parent / f"{data_folder.name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen([str(PACS), "serve"], env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            url = f"http://127.0.0.1:{http_port}"
            _wait_until_ready(url, process, log)
            yield Lightbox(url, dimse_port, data_folder, environment)
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, f"pacs serve ended: {log.read_text(errors='replace')[-3000:]}"
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        time.sleep(0.2)
    raise AssertionError(f"pacs serve was not ready in {START_SECONDS} s: {log.read_text(errors='replace')[-3000:]}")


def _multipart(content: bytes) -> dict[str, object]:
    boundary = uuid.uuid4().hex
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    media_type = f'multipart/related; type="application/dicom"; boundary={boundary}'
    return {
        "content": head + content + f"\r\n--{boundary}--\r\n".encode(),
        "headers": {"Content-Type": media_type, "Accept": "application/dicom+json"},
    }
