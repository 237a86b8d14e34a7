"""A few worker processes for foreign streams, started when first needed, replaced when they die or hang."""

from __future__ import annotations

import atexit
import functools
import os
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from storage.codecs.decoding import DECODERS, MEMORY_SAFE, decode_here
from storage.codecs.encoding import described_as
from storage.codecs.pixels import PixelDescription
from storage.codecs.samples import Array
from storage.codecs.worker import COUNTED, FAILED, conversion_bytes, request_bytes
from storage.errors import CannotDecode, Unavailable

# Decoding a 60-megapixel mammogram or slide tile in JPEG 2000 takes some seconds; nothing honest takes this long.
TIME_LIMIT = 20.0
MEMORY_LIMIT = 2 << 30
# How long a frame may wait for a free worker before the request is told to come again.
WAIT_LIMIT = 30.0

_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from storage.codecs.worker import main; "
    "main(int(sys.argv[2]), int(sys.argv[3]))"
)
_ROOT = str(Path(__file__).resolve().parents[2])
# The child needs nothing of our environment, and shall not see its secrets.
_KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "SYSTEMROOT")

Answered = TypeVar("Answered")


class DecoderPool:
    """Decodes frames, and encodes them anew, where a crash cannot hurt. Safe under threads; after a fork the child starts its own workers."""

    def __init__(
        self,
        size: int | None = None,
        *,
        time_limit: float = TIME_LIMIT,
        memory_limit: int = MEMORY_LIMIT,
        wait_limit: float = WAIT_LIMIT,
    ) -> None:
        self._size = size or max(1, min(4, os.cpu_count() or 1))
        self._time_limit = time_limit
        self._memory_limit = memory_limit
        self._wait_limit = wait_limit
        self._idle: list[_Worker] = []
        self._forget()

    def decode(self, frame: bytes, pixels: PixelDescription, *, bit_offset: int = 0) -> Array:
        """As `decode_here`, in a worker unless the decoder is memory-safe. Also raises Unavailable when all are busy."""
        coding = pixels.syntax.coding
        if coding in MEMORY_SAFE or coding not in DECODERS:
            return decode_here(frame, pixels, bit_offset=bit_offset)
        pixels.check()
        return self._in_worker(request_bytes(frame, pixels), lambda worker, end: worker.samples(pixels.shape, pixels.dtype, end))

    def encode(self, frame: bytes, pixels: PixelDescription, target: str, *, bit_offset: int = 0) -> bytes:
        """As `encode_here`, in a worker always: codecs take long, and not all let other threads run meanwhile."""
        described_as(pixels, target)
        return self._in_worker(request_bytes(frame, pixels, target, bit_offset), _Worker.codestream)

    def convert(self, picture: Array, source: bytes, target: bytes) -> Array:
        """As `convert_here`, in a worker always: profiles come from outside."""
        request = conversion_bytes(picture, source, target)
        return self._in_worker(request, lambda worker, end: worker.samples(picture.shape, picture.dtype, end))

    def encode_all(
        self, frames: Iterable[tuple[bytes, int]], pixels: PixelDescription, target: str
    ) -> Iterator[bytes]:
        """`encode` of each (frame, bit offset), in their order, as many at a time as there are workers."""
        with ThreadPoolExecutor(self._size, "encode") as threads:
            begun: deque[Future[bytes]] = deque()
            try:
                for frame, bit_offset in frames:
                    begun.append(threads.submit(self.encode, frame, pixels, target, bit_offset=bit_offset))
                    # One more than can be worked on, so that no worker waits for the next to be read.
                    if len(begun) > self._size:
                        yield begun.popleft().result()
                while begun:
                    yield begun.popleft().result()
            finally:
                for future in begun:
                    future.cancel()

    def close(self) -> None:
        """End the idle workers. The pool can be used again afterwards."""
        with self._lock:
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.end()

    def _forget(self) -> None:
        """Begin without workers: those of the process that forked us are not ours to talk to."""
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._free = threading.BoundedSemaphore(self._size)
        self._idle = []

    def _in_worker(self, request: tuple[bytes, bytes], receive: Callable[[_Worker, float], Answered]) -> Answered:
        """What a worker answers to `request`; one that dies or hangs over it costs this frame and no other."""
        if os.getpid() != self._process:
            self._forget()
        free = self._free
        if not free.acquire(timeout=self._wait_limit):
            raise Unavailable(f"every decoder has been busy for {self._wait_limit:g} s; ask again later")
        try:
            return self._answered(request, receive)
        finally:
            free.release()

    def _answered(self, request: tuple[bytes, bytes], receive: Callable[[_Worker, float], Answered]) -> Answered:
        deadline = time.monotonic() + self._time_limit
        worker = self._sent(request, deadline)
        try:
            answer = receive(worker, deadline)
        except BaseException as error:
            if not isinstance(error, CannotDecode) or worker.broken:
                worker.end()
            else:
                self._put_back(worker)
            raise
        self._put_back(worker)
        return answer

    def _sent(self, request: tuple[bytes, bytes], deadline: float) -> _Worker:
        """A worker that has been given the frame; one that had died while idle is replaced."""
        while True:
            with self._lock:
                reused = self._idle.pop() if self._idle else None
            worker = reused or _Worker(self._memory_limit)
            try:
                worker.send(request, deadline)
            except OSError as error:
                worker.end()
                if reused is None:
                    raise CannotDecode(f"the decoder did not take the frame ({error})") from error
            else:
                return worker

    def _put_back(self, worker: _Worker) -> None:
        with self._lock:
            self._idle.append(worker)


class _Worker:
    """One child process and the socket to it."""

    def __init__(self, memory_limit: int) -> None:
        self.broken = False
        self._socket, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-s", "-c", _START, _ROOT, str(theirs.fileno()), str(memory_limit)]
            self._child = subprocess.Popen(  # noqa: S603 - our own interpreter, our own words
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env={name: os.environ[name] for name in _KEPT if name in os.environ}
                | {"OPENBLAS_NUM_THREADS": "1"},
                start_new_session=True,
            )

    def send(self, request: tuple[bytes, bytes], deadline: float) -> None:
        """Hand over a frame. Raises OSError when the child is not there to take it."""
        self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
        for part in request:
            self._socket.sendall(part)

    def samples(self, shape: tuple[int, ...], dtype: np.dtype[Any], deadline: float) -> Array:
        """The frame's samples, or CannotDecode: the child's own, or ours with `broken` set when it died or hung."""
        self._succeeded(deadline)
        values = np.empty(shape, dtype)
        self._fill(values.reshape(-1).view(np.uint8).data, deadline)
        return values

    def codestream(self, deadline: float) -> bytes:
        """The frame encoded anew; raises as `samples`."""
        self._succeeded(deadline)
        return self._read(self._length(deadline), deadline)

    def _succeeded(self, deadline: float) -> None:
        if self._read(1, deadline)[0] == FAILED:
            text = self._read(min(self._length(deadline), 4096), deadline)
            raise CannotDecode(text.decode("utf-8", "replace"))

    def _length(self, deadline: float) -> int:
        return int.from_bytes(self._read(COUNTED.size - 1, deadline), "little")

    def end(self) -> None:
        """Kill the child, whatever it is doing, and leave nothing of it behind."""
        self._socket.close()
        self._child.kill()
        self._child.wait()

    def _read(self, length: int, deadline: float) -> bytes:
        buffer = bytearray(length)
        self._fill(memoryview(buffer), deadline)
        return bytes(buffer)

    def _fill(self, view: memoryview, deadline: float) -> None:
        while view:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                count = self._socket.recv_into(view)
            except TimeoutError as error:
                self.broken = True
                raise CannotDecode(
                    "decoding the frame took longer than is allowed; the stream is probably damaged"
                ) from error
            except OSError:
                count = 0
            if not count:
                self.broken = True
                raise CannotDecode("the decoder crashed on the frame; the stream is damaged")
            view = view[count:]


@functools.cache
def shared_pool() -> DecoderPool:
    """The pool of this process that `storage.codecs.decode` uses."""
    pool = DecoderPool()
    atexit.register(pool.close)
    return pool
