"""What asks the servers: DCMTK's command-line tools, wrk and curl where they are the real thing, and small HTTP clients.

Every function raises `Trouble` unless all that it asked for was answered as it should be: a fast error is no result.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pydicom.dataset import Dataset

from tests.bench.made import Made
from tests.bench.servers import DESTINATION, DESTINATION_PORT, Server

NEEDED: Final = {"storescu": "dcmtk", "findscu": "dcmtk", "getscu": "dcmtk", "movescu": "dcmtk", "wrk": "wrk", "curl": "curl"}
JSON: Final = {"Accept": "application/dicom+json"}
_BOUNDARY: Final = "bench-7f3a0c51"
# The line end before the first delimiter is an empty preamble (RFC 2046 5.1.1).
_PART_HEAD: Final = f"\r\n--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
_CLOSING: Final = f"\r\n--{_BOUNDARY}--\r\n".encode()
_MAX_PDU: Final = ("--max-pdu", "131072")
_SECONDS: Final = 600
# Without the environment that we run in: pynetdicom installs programs of the same names as DCMTK's there.
_PATH: Final = os.pathsep.join(
    one for one in os.environ.get("PATH", os.defpath).split(os.pathsep) if Path(one) != Path(sys.executable).parent
)


class Trouble(Exception):
    """A server did not answer as it should have."""


def missing() -> list[str]:
    """The Debian packages of the programs that are not installed."""
    return sorted({package for program, package in NEEDED.items() if shutil.which(program, path=_PATH) is None})


def storescu(server: Server, files: Sequence[Made], associations: int, *, nodelay: bool) -> None:
    """C-STORE with DCMTK, the files shared out; with `nodelay` False as it comes: with Nagle's algorithm."""
    shares = [[str(one.path) for one in files[first::associations]] for first in range(associations)]
    _storescu(server, shares, nodelay=nodelay)


def storescu_alike(server: Server, made: Made, associations: int) -> None:
    """C-STORE of one file by each association at once, each under a SOP Instance UID of its own."""
    _storescu(server, [["--invent-instance", str(made.path)]] * associations, nodelay=True)


def _storescu(server: Server, shares: Sequence[Sequence[str]], *, nodelay: bool) -> None:
    """One association for each share."""
    program = ("storescu", "-aec", server.title, "-xe", "--max-send-pdu", "131072", *_MAX_PDU, *_address(server))
    running = [_start([*program, *share], nodelay=nodelay) for share in shares]
    for process in running:
        output = process.communicate(timeout=_SECONDS)[0]
        if process.returncode or "E: " in output:
            raise Trouble(f"storescu to {server.name}: {output[-500:]}")


def stow(server: Server, parts: Iterable[bytes | Path], *, batch: int, clients: int) -> None:
    """STOW-RS of these instances, bytes or files, `batch` to a POST."""
    batches = _batches(parts, batch)
    turn, troubles = threading.Lock(), list[str]()

    def work() -> None:
        with closing(_connection(server)) as connection:
            while not troubles:
                with turn:
                    some = next(batches, None)
                if some is None:
                    return
                status, answer = _post(connection, server, some)
                if status != 200:
                    troubles.append(f"STOW-RS to {server.name}: {status} {answer[:300]!r}")

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if troubles:
        raise Trouble(troubles[0])


def _batches(parts: Iterable[bytes | Path], batch: int) -> Iterator[list[bytes | Path]]:
    rest = iter(parts)
    while some := list(islice(rest, batch)):
        yield some


def _post(connection: http.client.HTTPConnection, server: Server, parts: Sequence[bytes | Path]) -> tuple[int, bytes]:
    """One POST. Nothing is put together and files are not read: what the client takes of the machine, the server has not got."""
    size = sum(len(_PART_HEAD) + _size(part) for part in parts) + len(_CLOSING)
    connection.putrequest("POST", f"{urlsplit(server.url).path}/studies", skip_accept_encoding=True)
    connection.putheader("Content-Type", f'multipart/related; type="application/dicom"; boundary={_BOUNDARY}')
    connection.putheader("Content-Length", str(size))
    connection.putheader("Accept", JSON["Accept"])
    connection.endheaders()
    for part in parts:
        connection.sock.sendall(_PART_HEAD, socket.MSG_MORE)
        if isinstance(part, Path):
            with part.open("rb") as file:
                connection.sock.sendfile(file)
        else:
            connection.sock.sendall(part, socket.MSG_MORE)
    connection.sock.sendall(_CLOSING)
    response = connection.getresponse()
    return response.status, response.read()


def _size(part: bytes | Path) -> int:
    return part.stat().st_size if isinstance(part, Path) else len(part)


def latencies(server: Server, paths: Iterable[str], headers: Mapping[str, str] = JSON) -> list[float]:
    """Seconds until each of these was answered whole, one after the other on one connection."""
    taken = []
    with closing(_connection(server)) as connection:
        for path in paths:
            begun = time.perf_counter()
            connection.request("GET", urlsplit(server.url).path + path, headers=dict(headers))
            response = connection.getresponse()
            body = response.read()
            taken.append(time.perf_counter() - begun)
            if response.status not in (200, 204):
                raise Trouble(f"{server.name}: {response.status} for {path}: {body[:300]!r}")
    return taken


def wrk(server: Server, paths: Sequence[str], connections: int, seconds: float, headers: Mapping[str, str]) -> int:
    """Ask for these paths in turn over `connections` kept open, for so many seconds; returns how many were answered."""
    root = urlsplit(server.url).path
    script = _SCRIPT.replace("PATHS", ",".join(json.dumps(root + path) for path in paths)).replace(
        "HEADERS", ",".join(f"[{json.dumps(name)}]={json.dumps(value)}" for name, value in headers.items())
    )
    with tempfile.NamedTemporaryFile("w", suffix=".lua", encoding="utf-8") as file:
        file.write(script)
        file.flush()
        options = ["-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "60s", "-s", file.name]
        output = _run(["wrk", *options, server.url])
    found = re.search(r"RESULT (\d+) (\d+)", output)
    if not found:
        raise Trouble(f"wrk of {server.name}: {output[-500:]}")
    if int(found[2]) or not int(found[1]):
        raise Trouble(f"{found[2]} errors in {found[1]} answers" if int(found[1]) else f"no answer in {seconds:g} s")
    return int(found[1])


_SCRIPT: Final = """
local paths, headers, requests, at = {PATHS}, {HEADERS}, {}, 0
function init(args)
  for number, path in ipairs(paths) do requests[number] = wrk.format("GET", path, headers) end
  at = math.random(#paths)
end
function request() at = at % #requests + 1 return requests[at] end
function done(summary, latency, all)
  local e = summary.errors
  io.write(string.format("RESULT %d %d\\n", summary.requests, e.status + e.connect + e.read + e.write + e.timeout))
end
"""


def download(server: Server, path: str, accept: str, clients: int) -> int:
    """Fetch it whole with curl, by `clients` at the same time; returns the bytes that came, together."""
    command = ["curl", "-sf", "-o", "/dev/null", "-w", "%{size_download}", "-H", f"Accept: {accept}", server.url + path]
    running = [_start(command) for _ in range(clients)]
    sizes = [process.communicate(timeout=_SECONDS)[0] for process in running]
    if any(process.returncode for process in running):
        raise Trouble(f"curl of {server.name}{path}: exit status {[process.returncode for process in running]}")
    return sum(map(int, sizes))


def findscu(server: Server, keys: Sequence[tuple[str, ...]]) -> None:
    """C-FIND at study level with DCMTK: each of these queries in turn, on one association."""
    with tempfile.TemporaryDirectory() as folder:
        files = list(_queries(Path(folder), keys))
        _run(["findscu", "-q", "-S", "-aec", server.title, *_MAX_PDU, *_address(server), *files])


def _queries(folder: Path, keys: Sequence[tuple[str, ...]]) -> Iterator[str]:
    for number, pairs in enumerate(keys):
        query = Dataset()
        query.QueryRetrieveLevel = "STUDY"
        for keyword in ("StudyInstanceUID", "PatientID", "PatientName", "StudyDate", "AccessionNumber", "StudyDescription"):
            setattr(query, keyword, "")
        for pair in pairs:
            setattr(query, *pair.split("=", 1))
        path = folder / f"{number:04d}.dcm"
        query.save_as(path, implicit_vr=True, little_endian=True)
        yield str(path)


def getscu(server: Server, made: Made) -> int:
    """C-GET of a series with DCMTK, written to files; returns how many came."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        options = ["-aec", server.title, "+B", "-S", "-od", folder, *_MAX_PDU]
        _run(["getscu", *options, *_of_series(made), *_address(server)])
        return len(list(Path(folder).iterdir()))


def movescu(server: Server, made: Made) -> None:
    """C-MOVE of a series to a storescp that drops what it gets."""
    with _storescp():
        _run(["movescu", "-aec", server.title, "-aem", DESTINATION, "-S", *_of_series(made), *_address(server)])


@contextmanager
def _storescp() -> Iterator[None]:
    command = ["storescp", "--ignore", "-aet", DESTINATION, *_MAX_PDU, "+xe", str(DESTINATION_PORT)]
    process = _start(command)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", DESTINATION_PORT)) == 0:
                    break
            time.sleep(0.02)
        yield
    finally:
        process.kill()
        process.communicate()


def _of_series(made: Made) -> list[str]:
    keys = ("QueryRetrieveLevel=SERIES", f"StudyInstanceUID={made.study}", f"SeriesInstanceUID={made.series}")
    return [word for key in keys for word in ("-k", key)]


def _connection(server: Server) -> http.client.HTTPConnection:
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_SECONDS)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _address(server: Server) -> tuple[str, str]:
    return "127.0.0.1", str(server.dimse_port)


def _start(command: Sequence[str], *, nodelay: bool = True) -> subprocess.Popen[str]:
    """DCMTK's tools leave Nagle's algorithm on unless they are told."""
    environment = {**os.environ, "PATH": _PATH, "TCP_NODELAY": "1" if nodelay else "0"}
    program = shutil.which(command[0], path=_PATH) or command[0]
    return subprocess.Popen([program, *command[1:]], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _run(command: Sequence[str]) -> str:
    process = _start(command)
    output = process.communicate(timeout=_SECONDS)[0]
    if process.returncode:
        raise Trouble(f"{command[0]} failed with {process.returncode}: {output[-500:]}")
    return output
