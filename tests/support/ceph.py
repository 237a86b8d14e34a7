"""A real S3 for tests: Ceph's RADOS gateway over one monitor and one object store that lives in memory."""

from __future__ import annotations

import contextlib
import http.client
import secrets
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.children import Child, ServerFailed, free_port, run, server_folder, start

_PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")

# No manager daemon (it only counts), one copy of everything, one placement group to a pool, no background upkeep;
# the monitor decides at once instead of collecting proposals for a second.
_CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{monitor_port}/0]
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
ms bind msgr1 = false
keyring = {folder}/keyring
mon data = {folder}/mon
osd data = {folder}/osd
run dir = {folder}
admin socket =
pid file =
log file =
log to stderr = true
err to stderr = true
mon cluster log file =
mon cluster log to stderr = false
debug rocksdb = 0
debug mon = 0
osd objectstore = memstore
memstore device bytes = 4294967296
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon data avail warn = 1
mon data avail crit = 0
paxos propose interval = 0.05
paxos min wait = 0.01
rgw override bucket index max shards = 1
rgw thread pool size = 32
rgw dynamic resharding = false
rgw enable gc threads = false
rgw enable lc threads = false
rgw enable quota threads = false
rgw run sync thread = false
"""


@dataclass(frozen=True)
class CephGateway:
    """A running gateway: where it listens, the keys of its one user, and its process for tests that stop it."""

    port: int
    access_key: str
    secret_key: str
    version: str
    child: Child


def why_not() -> str | None:
    """Why no gateway can be started here, or None when one can."""
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"{', '.join(missing)} not installed: apt-get install ceph-mon ceph-osd radosgw"
    return None


@contextlib.contextmanager
def running() -> Iterator[CephGateway]:
    """A new cluster of one, ready in about three seconds; stopped and removed afterwards."""
    with contextlib.ExitStack() as stack:
        for attempt in range(3):
            try:
                gateway = _start(stack)
            except ServerFailed as error:
                if attempt == 2 or "in use" not in str(error):
                    raise
            else:
                yield gateway
                return


def _start(stack: contextlib.ExitStack) -> CephGateway:
    folder = stack.enter_context(server_folder("ceph"))
    configuration = folder / "ceph.conf"
    fsid = str(uuid.uuid4())
    monitor_port, port = free_port(), free_port()
    configuration.write_text(_CONFIGURATION.format(fsid=fsid, monitor_port=monitor_port, folder=folder))
    _make_keys(folder / "keyring")
    monitor = _start_monitor(configuration, fsid, monitor_port)
    stack.callback(monitor.stop)
    run([_program("ceph"), "--conf", str(configuration), "--connect-timeout", "20", "osd", "new", fsid])
    stack.callback(_start_osd(configuration, fsid).stop)
    access_key, secret_key = secrets.token_hex(10), secrets.token_hex(20)
    user = ["user", "create", "--uid=lightbox", "--display-name=Lightbox"]
    user += [f"--access-key={access_key}", f"--secret-key={secret_key}"]
    run([_program("radosgw-admin"), "--conf", str(configuration), *user], timeout=60)
    gateway = _start_gateway(configuration, port)
    stack.callback(gateway.stop)
    version = run([_program("radosgw"), "--version"]).split()[2]
    return CephGateway(port, access_key, secret_key, version, gateway)


def _make_keys(keyring: Path) -> None:
    """Keys and rights for the three daemons; making the monitor's store takes them over."""
    everything = ["--cap", "mon", "allow *", "--cap", "osd", "allow *"]
    for index, name in enumerate(("mon.", "client.admin", "osd.0")):
        create = [] if index else ["--create-keyring"]
        run([_program("ceph-authtool"), str(keyring), *create, "--gen-key", "-n", name, *everything])


def _start_monitor(configuration: Path, fsid: str, port: int) -> Child:
    folder = configuration.parent
    (folder / "mon").mkdir()
    initial = str(folder / "monmap")
    run([_program("monmaptool"), "--create", "--addv", "a", f"[v2:127.0.0.1:{port}]", "--fsid", fsid, initial])
    monitor = [_program("ceph-mon"), "-i", "a", "--conf", str(configuration)]
    run([*monitor, "--mkfs", "--monmap", initial, "--keyring", str(folder / "keyring")])
    return start([*monitor, "-f"], folder / "ceph-mon.log")


def _start_osd(configuration: Path, fsid: str) -> Child:
    folder = configuration.parent
    (folder / "osd").mkdir()
    osd = [_program("ceph-osd"), "-i", "0", "--conf", str(configuration)]
    # The monitor lets only the OSD boot whose UUID it was told of.
    run([*osd, "--mkfs", "--osd-uuid", fsid])
    return start([*osd, "-f"], folder / "ceph-osd.log")


def _start_gateway(configuration: Path, port: int) -> Child:
    # tcp_nodelay: without it each small answer waits 40 ms for the client's delayed acknowledgement.
    frontend = f"beast endpoint=127.0.0.1:{port} tcp_nodelay=1"
    command = [_program("radosgw"), "-f", "-n", "client.admin", "--conf", str(configuration)]
    gateway = start([*command, "--rgw-frontends", frontend], configuration.parent / "radosgw.log")
    gateway.wait_until(lambda: answers_http(port))
    return gateway


def answers_http(port: int) -> bool:
    """Whether an HTTP server answers at all on `port` of 127.0.0.1."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/")
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def _program(name: str) -> str:
    found = shutil.which(name)
    assert found is not None, f"{name} is not installed"
    return found
