"""Counters and histograms under the stock server's names, as a Prometheus page.

Its names have colons and its counters no `_total`, which `prometheus_client` will not write.
"""

import bisect
import itertools
import threading
import time
from collections.abc import Sequence
from typing import Final

Labels = tuple[str, ...]

MAX_CELLS: Final = 1000
"""Most combinations of label values. Further ones, such as invented model names, share one with empty labels."""


class Metric:
    """One metric with fixed label names; a cell for each combination of their values."""

    def __init__(self, name: str, kind: str, labels: Sequence[str] = (), limits: Sequence[float] = ()) -> None:
        self.name = name
        self._kind = kind
        self._labels = tuple(labels)
        self._limits = list(limits)
        self._lock = threading.Lock()
        # For each combination the counts of all buckets and the sum of all values; counters have the sum only.
        self._cells: dict[Labels, list[float]] = {}

    def add(self, *labels: str, by: int = 1) -> None:
        """Counts."""
        self.observe(*labels, value=by)

    def observe(self, *labels: str, value: float) -> None:
        """Puts a value into its bucket."""
        with self._lock:
            cell = self._cells.get(labels)
            if cell is None:
                labels = labels if len(self._cells) < MAX_CELLS else ("",) * len(labels)
                cell = self._cells.setdefault(labels, [0] * (len(self._limits) + 2))
            cell[bisect.bisect_right(self._limits, value)] += 1
            cell[-1] += value

    def lines(self) -> list[str]:
        with self._lock:
            cells = sorted((self._text(labels), cell[:-1], cell[-1]) for labels, cell in self._cells.items())
        lines = [f"# TYPE {self.name} {self._kind}"]
        for text, counts, total in cells:
            if self._kind == "histogram":
                running = list(itertools.accumulate(counts))
                prefix = f"{self.name}_bucket{{{text}{',' if text else ''}"
                limits = [*(f"{limit:g}" for limit in self._limits), "+Inf"]
                lines += [f'{prefix}le="{limit}"}} {count}' for limit, count in zip(limits, running, strict=True)]
                lines += [f"{self.name}_sum{{{text}}} {total:g}", f"{self.name}_count{{{text}}} {running[-1]}"]
            else:
                lines.append(f"{self.name}{{{text}}} {total}")
        return lines

    def _text(self, labels: Labels) -> str:
        escaped = (value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for value in labels)
        return ",".join(f'{name}="{value}"' for name, value in zip(self._labels, escaped, strict=True))


# TensorFlow's exponential buckets; the last upper limit, infinity, is left out.
_MICROSECONDS: Final = [10 * 1.8**power for power in range(32)]
_POWERS_OF_TWO: Final = [2.0**power for power in range(14)]


class Metrics:
    """All metrics of one server. Latencies are in microseconds."""

    def __init__(self) -> None:
        self._all: list[Metric] = []
        made = self._made
        self.request_count = made("request_count", "model_name", "status")
        self.request_latency = made("request_latency", "model_name", "API", "entrypoint", limits=_MICROSECONDS)
        self.runtime_latency = made("runtime_latency", "model_name", "API", "runtime", limits=_MICROSECONDS)
        self.example_counts = made("request_example_counts", "model", limits=_POWERS_OF_TWO)
        self.example_count_total = made("request_example_count_total", "model")
        self.warmup_latency = made("model_warmup_latency", "model_path", "status", limits=_MICROSECONDS)
        self.warmup_records = made("model_warmup_records_read", "model_path")
        self.queuing_latency = made("batching_session:queuing_latency", "thread_pool_name", limits=_MICROSECONDS)
        self.wrapped_runs = made("batching_session:wrapped_run_count")
        self.padding = made("batching:padding_size_v2", "model_name", "execution_batch_size", limits=_POWERS_OF_TWO)
        self.batch_sizes = made("batching:processed_batch_size_v2", "model_name", "batch_size")
        # Exported by the stock server, and never set there without request logging, ML metadata
        # or priorities, which neither server has in our set-ups.
        made("request_log_count", "model_name", "status")
        made("batching:mixed_priority_batching_policy", kind="gauge")
        made("mlmd_map", kind="gauge")

    def _made(self, name: str, *labels: str, limits: Sequence[float] = (), kind: str = "counter") -> Metric:
        self._all.append(Metric(f":tensorflow:serving:{name}", "histogram" if limits else kind, labels, limits))
        return self._all[-1]

    def all(self) -> list[Metric]:
        """By name."""
        return sorted(self._all, key=lambda metric: metric.name)

    def count_call(self, model: str, api: str, entrypoint: str, status: str, started: float) -> None:
        """Counts a call that started at a point in monotonic time; times it if it was one of `api` and answered."""
        self.request_count.add(model, status)
        if api and status == "OK":
            self.request_latency.observe(model, api, entrypoint, value=(time.monotonic() - started) * 1e6)

    def page(self) -> str:
        """Everything, in Prometheus' text format."""
        return "\n".join(line for metric in self.all() for line in metric.lines()) + "\n"
