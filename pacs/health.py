"""What machines ask of a server: is it alive, can it serve, and its figures."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import orjson
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from pacs.logs import described
from pacs.metrics import Metrics
from storage.errors import LightboxError

# Raises, saying why the server cannot serve.
Check = Callable[[], None]

_log = structlog.get_logger(__name__)
_SECONDS = 5.0
# However often it is asked: a load balancer's question costs the database at most one ping a second.
_BELIEVED_SECONDS = 1.0
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class NotReady(LightboxError):
    """A check found why the server should not be sent anything."""


def disk(folder: Path, min_free_bytes: int) -> Check:
    """A check that `folder` can be written to and that its disk has at least `min_free_bytes` left."""

    def check() -> None:
        try:
            with tempfile.TemporaryFile(dir=folder) as probe:
                probe.write(b"ready?")
            free = shutil.disk_usage(folder).free
        except OSError as error:
            raise NotReady(f"the folder cannot be written to ({error.strerror}); look at its disk") from error
        if free < min_free_bytes:
            raise NotReady(
                f"only {free >> 20} MiB of disk are free; free space, or lower PACS_MIN_FREE_BYTES"
            )

    return check


def routes(checks: Mapping[str, Check], metrics: Metrics) -> list[BaseRoute]:
    """`/healthz` (the process is alive), `/readyz` (every check passes, or 503 and why not), `/metrics` (Prometheus)."""
    readiness = _Readiness(checks)

    async def alive(_request: Request) -> Response:
        return _json(200, {"status": "alive"})

    async def ready(_request: Request) -> Response:
        found = await readiness()
        good = not any(found.values())
        shown = {name: reason or "ok" for name, reason in found.items()}
        return _json(200 if good else 503, {"status": "ready" if good else "not ready", "checks": shown})

    async def figures(_request: Request) -> Response:
        page = await asyncio.to_thread(metrics.page)
        return Response(page, headers=_HEADERS, media_type="text/plain; version=0.0.4; charset=utf-8")

    return [
        Route("/healthz", alive, name="healthz"),
        Route("/readyz", ready, name="readyz"),
        Route("/metrics", figures, name="metrics"),
    ]


class _Readiness:
    """Runs every check in a thread, side by side, at most once a second, and waits for none longer than 5 s."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks
        self._lock = asyncio.Lock()
        self._until = 0.0
        self._found: dict[str, str | None] = {}
        self._running: dict[str, asyncio.Task[None]] = {}

    async def __call__(self) -> dict[str, str | None]:
        """The reason why not, or None, by check."""
        async with self._lock:
            if time.monotonic() >= self._until:
                reasons = await asyncio.gather(*map(self._reason, self._checks))
                self._tell(dict(zip(self._checks, reasons, strict=True)))
                self._until = time.monotonic() + _BELIEVED_SECONDS
            return self._found

    async def _reason(self, name: str) -> str | None:
        # A check that hangs (a network file system, a database behind a dead route) keeps one thread, and not us.
        task = self._running.get(name) or asyncio.create_task(asyncio.to_thread(self._checks[name]))
        self._running[name] = task
        try:
            await asyncio.wait_for(asyncio.shield(task), _SECONDS)
        except TimeoutError:
            if not task.done():
                return f"no answer within {_SECONDS:.0f} s"
            return "a connection timed out"
        except LightboxError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - whatever is wrong, the answer is "not ready", and why
            return described(error)
        finally:
            if task.done():
                del self._running[name]
        return None

    def _tell(self, found: dict[str, str | None]) -> None:
        for name, reason in found.items():
            before = self._found.get(name)
            if reason and not before:
                _log.warning("readiness.lost", check=name, reason=reason)
            elif before and not reason:
                _log.info("readiness.regained", check=name)
        self._found = found


def _json(status: int, content: object) -> Response:
    return Response(orjson.dumps(content), status, headers=_HEADERS, media_type="application/json")
