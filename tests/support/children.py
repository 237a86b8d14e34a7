"""Server processes for tests: started on a free port, tied to the life of the tests, stopped by their own pid."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# Runs in the child before the server: gives up root where asked to, asks the kernel to end the server with its parent
# (Linux only, and only after the change of user, which would clear it), then becomes the server, keeping the pid.
_LAUNCH = """
import ctypes, os, sys
user, sign, *command = sys.argv[1:]
if user:
    import pwd
    entry = pwd.getpwnam(user)
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    os.environ.update(HOME=entry.pw_dir, USER=user, LOGNAME=user)
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, int(sign), 0, 0, 0)
os.chdir("/")
os.execv(command[0], command)
"""


class ServerFailed(RuntimeError):
    """A server that the tests started did not come up; the text ends with the last lines of its log."""


@dataclass(frozen=True)
class Child:
    """One running server process."""

    process: subprocess.Popen[bytes]
    log: Path
    stop_signal: int

    def log_tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def wait_until(self, ready: Callable[[], bool], seconds: float = 60.0) -> None:
        """Poll `ready` until it is true; raises ServerFailed when the process ends or the time is over."""
        deadline = time.monotonic() + seconds
        while not ready():
            if self.process.poll() is not None:
                raise ServerFailed(f"{self.log.name} ended with {self.process.returncode}:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise ServerFailed(f"{self.log.name} was not ready after {seconds:.0f} s:\n{self.log_tail()}")
            time.sleep(0.03)

    def stop(self, grace: float = 10.0) -> None:
        """Ask it to end, then make it; waits until it is gone."""
        if self.process.poll() is not None:
            return
        self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(grace)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start(
    command: Sequence[str],
    log: Path,
    *,
    user: str | None = None,
    stop_signal: int = signal.SIGTERM,
    environment: Mapping[str, str] | None = None,
) -> Child:
    """Start `command` (its program an absolute path) in the background, as `user` when given, logging to `log`.

    It is in a session of its own, so that Ctrl-C reaches the tests first and they stop it in order.
    """
    launch = [sys.executable, "-I", "-S", "-c", _LAUNCH, user or "", str(int(stop_signal)), *command]
    with log.open("ab") as output:
        process = subprocess.Popen(
            launch,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
    return Child(process, log, stop_signal)


def run(command: Sequence[str], *, user: str | None = None, timeout: float = 120.0) -> str:
    """Run `command` to its end, as `user` when given; returns what it printed, raises ServerFailed when it failed."""
    launch = [sys.executable, "-I", "-S", "-c", _LAUNCH, user or "", str(int(signal.SIGKILL)), *command]
    done = subprocess.run(launch, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode:
        raise ServerFailed(f"{Path(command[0]).name} failed with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


def free_port() -> int:
    """A port of 127.0.0.1 that is free now; another process may still take it first."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listening(port: int) -> bool:
    """Whether something accepts connections on `port` of 127.0.0.1."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def server_folder(name: str, owner: str | None = None) -> Iterator[Path]:
    """A temporary folder that `owner` can reach (pytest's own are closed to other users); removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix=f"lightbox-{name}-"))
    try:
        if owner is not None:
            entry = pwd.getpwnam(owner)
            os.chown(folder, entry.pw_uid, entry.pw_gid)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
