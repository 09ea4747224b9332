"""Counters and histograms under the stock server's names, as a Prometheus page.

Its names have colons and its counters no `_total`, which `prometheus_client` will not write.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import threading
from collections.abc import Sequence
from typing import Final

Labels = tuple[str, ...]

MAX_CELLS: Final = 1000
"""Most combinations of label values. Further ones, such as invented model names, share one with empty labels."""


def exponential(scale: float, factor: float, count: int) -> list[float]:
    """Upper limits of TensorFlow's exponential buckets; the last one, infinity, is left out."""
    return [scale * factor**power for power in range(count - 1)]


@dataclasses.dataclass(slots=True)
class _Histogram:
    counts: list[int]
    total: float = 0.0


class Metric:
    """One metric with fixed label names; a cell for each combination of their values."""

    def __init__(self, name: str, kind: str, labels: Sequence[str] = (), limits: Sequence[float] = ()) -> None:
        self.name = name
        self._kind = kind
        self._labels = tuple(labels)
        self._limits = list(limits)
        self._lock = threading.Lock()
        self._values: dict[Labels, int] = {}
        self._histograms: dict[Labels, _Histogram] = {}

    def add(self, *labels: str, by: int = 1) -> None:
        """Count."""
        with self._lock:
            if labels not in self._values and len(self._values) >= MAX_CELLS:
                labels = ("",) * len(labels)
            self._values[labels] = self._values.get(labels, 0) + by

    def observe(self, *labels: str, value: float) -> None:
        """Put a value into its bucket."""
        with self._lock:
            if labels not in self._histograms and len(self._histograms) >= MAX_CELLS:
                labels = ("",) * len(labels)
            cell = self._histograms.get(labels)
            if cell is None:
                cell = self._histograms[labels] = _Histogram([0] * (len(self._limits) + 1))
            cell.counts[bisect.bisect_right(self._limits, value)] += 1
            cell.total += value

    def lines(self) -> list[str]:
        with self._lock:
            values = dict(self._values)
            histograms = {labels: (list(cell.counts), cell.total) for labels, cell in self._histograms.items()}
        lines = [f"# TYPE {self.name} {self._kind}"]
        lines += [f"{self.name}{{{self._text(labels)}}} {value}" for labels, value in sorted(values.items())]
        for labels, (counts, total) in sorted(histograms.items()):
            text = self._text(labels)
            prefix = text + "," if text else ""
            running = list(itertools.accumulate(counts))
            limits = [*(f"{limit:g}" for limit in self._limits), "+Inf"]
            lines += [
                f'{self.name}_bucket{{{prefix}le="{limit}"}} {count}'
                for limit, count in zip(limits, running, strict=True)
            ]
            lines += [f"{self.name}_sum{{{text}}} {total:g}", f"{self.name}_count{{{text}}} {running[-1]}"]
        return lines

    def _text(self, labels: Labels) -> str:
        escaped = (value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for value in labels)
        return ",".join(f'{name}="{value}"' for name, value in zip(self._labels, escaped, strict=True))


_SERVING: Final = ":tensorflow:serving:"
_MICROSECONDS = exponential(10, 1.8, 33)
_POWERS_OF_TWO = exponential(1, 2, 15)


class Metrics:
    """All metrics of one server. Latencies are in microseconds."""

    def __init__(self) -> None:
        self.request_count = Metric(_SERVING + "request_count", "counter", ("model_name", "status"))
        self.request_latency = Metric(
            _SERVING + "request_latency", "histogram", ("model_name", "API", "entrypoint"), _MICROSECONDS
        )
        self.runtime_latency = Metric(
            _SERVING + "runtime_latency", "histogram", ("model_name", "API", "runtime"), _MICROSECONDS
        )
        self.example_counts = Metric(_SERVING + "request_example_counts", "histogram", ("model",), _POWERS_OF_TWO)
        self.example_count_total = Metric(_SERVING + "request_example_count_total", "counter", ("model",))
        self.warmup_latency = Metric(
            _SERVING + "model_warmup_latency", "histogram", ("model_path", "status"), _MICROSECONDS
        )
        self.warmup_records = Metric(_SERVING + "model_warmup_records_read", "counter", ("model_path",))
        self.queuing_latency = Metric(
            _SERVING + "batching_session:queuing_latency", "histogram", ("thread_pool_name",), _MICROSECONDS
        )
        self.wrapped_runs = Metric(_SERVING + "batching_session:wrapped_run_count", "counter")
        self.padding = Metric(
            _SERVING + "batching:padding_size_v2", "histogram", ("model_name", "execution_batch_size"), _POWERS_OF_TWO
        )
        self.batch_sizes = Metric(
            _SERVING + "batching:processed_batch_size_v2", "counter", ("model_name", "batch_size")
        )
        # Exported by the stock server, and never set there without request logging, ML metadata
        # or priorities, which neither server has in our set-ups.
        self._empty = (
            Metric(_SERVING + "batching:mixed_priority_batching_policy", "gauge"),
            Metric(_SERVING + "mlmd_map", "gauge"),
            Metric(_SERVING + "request_log_count", "counter", ("model_name", "status")),
        )

    def all(self) -> list[Metric]:
        """By name."""
        own = [metric for metric in vars(self).values() if isinstance(metric, Metric)]
        return sorted([*own, *self._empty], key=lambda metric: metric.name)

    def page(self) -> str:
        """Everything, in Prometheus' text format."""
        return "\n".join(line for metric in self.all() for line in metric.lines()) + "\n"
