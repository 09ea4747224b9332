"""Prometheus metrics by served version and label. Needs `pip install duoserve[prometheus]`.

client = Client(…, observers=[PrometheusMetrics()])  # one object serves any number of clients
"""

from collections.abc import Sequence
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram

from duoserve.observe import CallRecord

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class PrometheusMetrics:
    """An observer that counts calls, rows, bytes and time.

    Every metric has the labels model, operation, target (label or version asked for, empty for the latest) and version
    (the one that answered, empty when none did):

    - duoserve_client_calls_total, with the label outcome too ("OK" or the error's class)
    - duoserve_client_call_seconds, a histogram
    - duoserve_client_rows_total and duoserve_client_row_errors_total: rows, and rows of batches that failed
    - duoserve_client_request_bytes_total, with the label sent too ("tensors" or "bytes")
    - duoserve_client_attempts_total: requests, with retries and hedges; duoserve_client_hedges_total
    - duoserve_client_reprepared_total: inputs prepared again because another version answered
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        names = ("model", "operation", "target", "version")

        def counter(name: str, text: str, *more: str) -> Counter:
            return Counter(f"duoserve_client_{name}", text, (*names, *more), registry=registry)

        self.calls = counter("calls", "Calls of the client.", "outcome")
        self.rows = counter("rows", "Rows that were asked for.")
        self.row_errors = counter("row_errors", "Rows of batches that failed.")
        self.request_bytes = counter("request_bytes", "Bytes of requests.", "sent")
        self.attempts = counter("attempts", "Requests sent, retries and hedges included.")
        self.hedges = counter("hedges", "Requests sent because an answer was slow.")
        self.reprepared = counter("reprepared", "Inputs prepared again because another version answered.")
        self.seconds = Histogram(
            "duoserve_client_call_seconds", "Time of a call.", names, buckets=_BUCKETS, registry=registry
        )

    def started(self, record: CallRecord) -> tuple[None, Sequence[tuple[str, str]]]:
        """Nothing to do yet: the version is not known."""
        return None, ()

    def finished(self, state: Any, record: CallRecord) -> None:
        """Counts the call."""
        target = "" if record.target is None else str(record.target)
        version = "" if record.version is None else str(record.version)
        labels = (record.model, record.operation, target, version)
        self.calls.labels(*labels, record.outcome).inc()
        self.seconds.labels(*labels).observe(record.seconds)
        self.rows.labels(*labels).inc(record.rows)
        self.attempts.labels(*labels).inc(record.attempts)
        if record.request_bytes:
            self.request_bytes.labels(*labels, record.sent or "").inc(record.request_bytes)
        for name in ("row_errors", "hedges", "reprepared"):
            if amount := getattr(record, name):
                getattr(self, name).labels(*labels).inc(amount)
