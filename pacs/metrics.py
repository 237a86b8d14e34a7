"""Figures for Prometheus, counted in every process and added up when one of them is asked.

prometheus_client keeps each process's numbers in mapped files when `PROMETHEUS_MULTIPROC_DIR` is set, which must be
before its first import; see `pacs.metrics_folder`. Without it (tests, the command line) numbers stay in the process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from pacs.metrics_folder import files_of_all
from storage.errors import LightboxError

_INGEST_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 15, 60)
_HTTP_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 60)
_ASSOCIATION_BUCKETS = (0.1, 1, 5, 15, 60, 300, 1800)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"})


class Metrics:
    """Every figure of this process. `run_folder` is given where several processes are added up."""

    def __init__(self, run_folder: Path | None = None) -> None:
        self.registry = registry = CollectorRegistry(auto_describe=False)
        # Where processes are added up, the files are what is read; the metrics themselves must not be counted twice.
        own = registry if run_folder is None else None
        if run_folder is not None:
            registry.register(_Processes(run_folder))
        self._ingest = Histogram(
            "lightbox_ingest_seconds", "Time from received to durable and found, by source and outcome.",
            ["kind", "outcome"], buckets=_INGEST_BUCKETS, registry=own,
        )  # fmt: skip
        self._ingest_bytes = Counter(
            "lightbox_ingest_bytes",
            "Bytes of instances received, by source and outcome.",
            ["kind", "outcome"],
            registry=own,
        )
        self._active = Gauge(
            "lightbox_associations_active",
            "DIMSE associations at this moment.",
            multiprocess_mode="livesum",
            registry=own,
        )
        self._associations = Counter(
            "lightbox_associations", "DIMSE associations by how they ended or why they were refused.",
            ["result", "reason"], registry=own,
        )  # fmt: skip
        self._association_seconds = Histogram(
            "lightbox_association_seconds",
            "How long DIMSE associations lasted.",
            buckets=_ASSOCIATION_BUCKETS,
            registry=own,
        )
        self._dimse = Histogram(
            "lightbox_dimse_seconds",
            "Time to answer DIMSE requests, by operation and status.",
            ["operation", "status"],
            buckets=_INGEST_BUCKETS,
            registry=own,
        )
        self._http = Histogram(
            "lightbox_http_seconds", "Time to answer HTTP requests, by route.",
            ["method", "route", "status"], buckets=_HTTP_BUCKETS, registry=own,
        )  # fmt: skip
        self._jobs = Histogram(
            "lightbox_job_seconds", "Time that jobs took, by kind and how they ended.",
            ["kind", "outcome"], buckets=_HTTP_BUCKETS, registry=own,
        )  # fmt: skip
        self._orders = Histogram(
            "lightbox_hl7_seconds", "Time to answer HL7 messages, by type and acknowledgement.",
            ["message", "code"], buckets=_HTTP_BUCKETS, registry=own,
        )  # fmt: skip
        self._store_errors = Counter(
            "lightbox_store_errors", "Failures of the object store.", ["operation", "error"], registry=own
        )
        self._database_errors = Counter(
            "lightbox_database_errors",
            "Failures of the database, lost races excluded.",
            ["error"],
            registry=own,
        )

    def ingested(self, kind: str, outcome: str, seconds: float, size: int) -> None:
        """One ingest is over (an `Observer` of storage.ingest)."""
        self._ingest.labels(kind, outcome).observe(seconds)
        self._ingest_bytes.labels(kind, outcome).inc(size)

    def association_accepted(self) -> None:
        """See `pacs.scp.settings.Observer`, and the following ones too."""
        self._active.inc()

    def association_rejected(self, reason: str) -> None:
        """An A-ASSOCIATE-RQ was answered with no."""
        self._associations.labels("rejected", reason).inc()

    def association_ended(self, how: str, seconds: float) -> None:
        """An accepted association is over."""
        self._active.dec()
        self._associations.labels("released" if how == "released" else "aborted", how).inc()
        self._association_seconds.observe(seconds)

    def connection_dropped(self, reason: str) -> None:
        """A socket was closed before it came to an association."""
        self._associations.labels("dropped", reason).inc()

    def stored(self, status: int, seconds: float, size: int) -> None:
        """One C-STORE was answered."""
        self._dimse.labels("C-STORE", f"0x{status:04X}").observe(seconds)

    def found(self, level: str, status: int, seconds: float, answers: int) -> None:
        """One C-FIND was answered."""
        self._dimse.labels("C-FIND", f"0x{status:04X}").observe(seconds)

    def retrieved(self, operation: str, status: int, seconds: float, completed: int) -> None:
        """One C-GET or C-MOVE was answered."""
        self._dimse.labels(operation, f"0x{status:04X}").observe(seconds)

    def requested(self, method: str, route: str, status: int, seconds: float) -> None:
        """One HTTP request is answered. `route` is its template, never its path."""
        self._http.labels(method if method in _METHODS else "other", route, str(status)).observe(seconds)

    def worked(self, kind: str, outcome: str, seconds: float) -> None:
        """A worker has run a job (see `pacs.worker.Observer`)."""
        self._jobs.labels(kind, outcome).observe(seconds)

    def acknowledged(self, message: str, code: str, seconds: float) -> None:
        """An HL7 message was answered (see `pacs.hl7.receiving.Observer`)."""
        self._orders.labels(message, code).observe(seconds)

    def store_failed(self, operation: str, error: BaseException) -> None:
        """An operation of the object store failed."""
        self._store_errors.labels(operation, type(error).__name__).inc()

    def database_failed(self, error: BaseException) -> None:
        """A statement or connection failed in the database (a watcher of storage.index)."""
        self._database_errors.labels(type(error).__name__).inc()

    def page(self) -> bytes:
        """Everything in Prometheus's text format."""
        return generate_latest(self.registry)


class _Processes:
    """The numbers of all processes of all kinds, added up."""

    def __init__(self, run_folder: Path) -> None:
        self._run_folder = run_folder

    def collect(self) -> Iterable[Metric]:
        files = [str(path) for path in files_of_all(self._run_folder)]
        try:
            return _merged(files)
        except Exception:  # noqa: BLE001 - a process that was killed in mid-write leaves a file that cannot be read
            return _merged([file for file in files if _readable(file)])


def _merged(files: list[str]) -> Iterable[Metric]:
    merged: Iterable[Metric] = MultiProcessCollector.merge(files, accumulate=True)  # type: ignore[no-untyped-call]
    return list(merged)


def _readable(file: str) -> bool:
    try:
        _merged([file])
    except Exception:  # noqa: BLE001 - whatever is wrong with it, the others' figures are still good
        return False
    return True


class Gauges:
    """Figures that are looked up when asked for: `read` gives (name, meaning, labels, value) rows.

    What it gave is believed for `seconds`, so that being asked often costs the database nothing.
    """

    def __init__(
        self, read: Callable[[], Iterable[tuple[str, str, dict[str, str], float]]], seconds: float = 5.0
    ) -> None:
        self._read = read
        self._seconds = seconds
        self._rows: list[tuple[str, str, dict[str, str], float]] = []
        self._until = 0.0

    def collect(self) -> Iterator[Metric]:
        """Called by the registry. An archive that does not answer has no figures; its other metrics still show."""
        if time.monotonic() >= self._until:
            try:
                self._rows = list(self._read())
            except LightboxError:
                self._rows = []
            self._until = time.monotonic() + self._seconds
        families: dict[str, GaugeMetricFamily] = {}
        for name, meaning, labels, value in self._rows:
            family = families.setdefault(name, GaugeMetricFamily(name, meaning, labels=list(labels)))
            family.add_metric(list(labels.values()), value)
        yield from families.values()
