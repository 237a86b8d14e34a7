"""A forked process has what it was given and nothing else of its parent's, and says how it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pacs.serve.forking import Forked, fork


def said(run: Callable[[int], None], keep: tuple[int, ...] = ()) -> str:
    """What `run`, in a forked process, writes to the descriptor that it is given."""
    reading, writing = os.pipe()

    def child() -> int:
        run(writing)
        return 0

    process = fork(child, [writing, *keep])
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    assert process.wait() == 0
    return text


def test_it_has_only_the_descriptors_that_it_is_given(tmp_path: Path) -> None:
    def tell(out: int) -> None:
        found = [number for number in range(256) if _is_open(number)]
        os.write(out, " ".join(map(str, found)).encode())

    with (tmp_path / "kept").open("w") as kept, (tmp_path / "other").open("w") as other:
        open_there = set(map(int, said(tell, (kept.fileno(),)).split()))
        assert kept.fileno() in open_there
        assert other.fileno() not in open_there
    assert len(open_there - {0, 1, 2}) == 2


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def test_it_has_a_group_of_its_own_and_the_usual_signals() -> None:
    def tell(out: int) -> None:
        os.write(out, f"{os.getpgid(0) == os.getpid()} {signal.getsignal(signal.SIGTERM) is signal.SIG_DFL}".encode())

    before = signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    try:
        assert said(tell) == "True True"
    finally:
        signal.signal(signal.SIGTERM, before)


def _never() -> int:
    time.sleep(60)
    return 0


@pytest.mark.parametrize("status", [0, 78])
def test_its_status_is_what_it_returns(status: int) -> None:
    process = fork(lambda: status, [])
    assert process.wait() == status
    assert process.poll() == status


def test_an_exception_is_told_and_ends_it_alone() -> None:
    program = "from pacs.serve.forking import fork\ndef fails(): raise ValueError('a sentence')\nprint(fork(fails, []).wait(), 'once')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "ValueError: a sentence" in done.stderr
    assert done.stdout == "1 once\n"


def test_signals_reach_it_until_it_is_gone() -> None:
    process = fork(_never, [])
    assert process.poll() is None
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.send_signal(signal.SIGTERM)


def test_a_signal_never_reaches_a_pid_that_is_not_ours_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Forked(2**22 + 1)
    process.returncode = 0
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("a signal was sent"))
    process.kill()


def test_what_processes_load_is_what_they_need() -> None:
    """Loaded when they are used, and not for a start: libraries that a server with SQLite and no pictures asked for does without."""
    program = (
        "import os, sys, tempfile; os.environ['PROMETHEUS_MULTIPROC_DIR'] = tempfile.mkdtemp()\n"
        "from pacs.serve import process; from pacs.serve.kinds import Kind; process.load(Kind)\n"
        "print([name for name in ('pynetdicom', 'psycopg', 'httpx', 'boto3', 'av', 'pypdfium2', 'highdicom', 'alembic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_web_process_loads_nothing_more_for_its_first_answer() -> None:
    """It would have it in memory of its own, and the first client would wait for it."""
    done = subprocess.run([sys.executable, "-c", _FIRST_ANSWER], capture_output=True, text=True, check=True)
    assert done.stdout == "HTTP/1.1 200 OK []\n"


_FIRST_ANSWER = """
import os, socket, sys, tempfile, threading
os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp()
from pacs.serve import process
from pacs.serve.kinds import Kind

process.load([Kind.WEB])
loaded = set(sys.modules)

from anyio import to_thread
from dicomweb.app import _compressing
from pacs.serve.loads import Loads, shared
from pacs.serve.web import HttpLimits, WebServer

async def answer(scope, receive, send):
    await to_thread.run_sync(int)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/dicom+json")]})
    await send({"type": "http.response.body", "body": b"[]" * 1000})

def ask():
    with socket.create_connection(listener.getsockname()) as client:
        client.sendall(b"GET / HTTP/1.1\\r\\nHost: localhost\\r\\nAccept-Encoding: gzip\\r\\n\\r\\n")
        said.append(client.recv(15).decode())
    server.should_exit = True

said = []
listener = socket.create_server(("127.0.0.1", 0))
server = WebServer(_compressing(answer), HttpLimits(), lambda: threading.Thread(target=ask).start(), Loads(shared(1), 0))
server.run([listener])
print(*said, sorted(set(sys.modules) - loaded))
"""
