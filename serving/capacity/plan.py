"""Computes a plan from one replica's performance and the load; assumptions are stated where they are used."""

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import cast

Batching = dict[str, int | list[int]]
"""The entries of a batching.config."""

SERVER_MB = 350
"""Memory of the server without a model: binary, gRPC, threads."""

RESTORE_FACTOR = 1.2
"""The stock server's own estimate of a version's memory, from its size on disk."""

VERSIONS = 2
"""A rollout loads the new version beside the old."""

HEADROOM = 1.25
"""Of memory, for what the allocator keeps."""

_LARGEST_ROW_MB = 1024


class PlanError(ValueError):
    """Numbers without a possible plan."""


@dataclasses.dataclass(frozen=True, slots=True)
class Measured:
    """The performance of one replica, measured under its CPU limit.

    Attributes:
        latency_ms: Median time of a call of one row from one caller, in the server.
        cpus: The CPU limit of the measurement.
        model_mb: Size of a version on disk, in megabytes; None: memory is not planned.
        curve: Time of a run in ms by rows in the batch, in their order, with as many runs at once as CPUs; empty
            without batching.
        row_mb: Memory that one row takes while it is computed, in megabytes; at most 1024.
        throughput: Calls of one row a second from many callers, when the CPUs are full; None: that of the curve, or
            else of one caller, as if calls did not overlap.
        overhead_ms: Time of a call beside the run of the graph, which batching does not save; 0: not known.

    Raises:
        PlanError: A number out of its range, rows that do not increase, or times that fall as they do.
    """

    latency_ms: float
    cpus: int
    model_mb: float | None = None
    curve: Mapping[int, float] = dataclasses.field(default_factory=dict)
    row_mb: float = 4.0
    throughput: float | None = None
    overhead_ms: float = 0.0

    @property
    def plain(self) -> float:
        """Calls a second without batching."""
        return self.throughput or (self.batched(1) if 1 in self.curve else 1000 / self.latency_ms)

    def batched(self, rows: int) -> float:
        """Calls a second with batches of this number of rows."""
        return 1000 / (self.overhead_ms + self.curve[rows] / (rows * self.cpus))

    def __post_init__(self) -> None:
        for name in ("latency_ms", "cpus", "row_mb", "model_mb", "throughput"):
            _positive(name, getattr(self, name))
        for rows, time in self.curve.items():
            _positive("rows of the batch curve", rows)
            _positive(f"time of {rows} rows", time)
        if self.row_mb > _LARGEST_ROW_MB:
            raise PlanError(f"Expected row_mb of at most {_LARGEST_ROW_MB} (megabytes). Received: {self.row_mb:g}")
        for (fewer, before), (rows, time) in itertools.pairwise(self.curve.items()):
            if rows <= fewer:
                raise PlanError(f"Expected rows of the curve to increase. Received: {rows} after {fewer}")
            if time < before:
                raise PlanError(
                    f"Expected the time of {rows} rows to be at least that of {fewer}, {before:g} ms. Received: "
                    f"{time:g} ms (measure again: something else took the CPUs)"
                )


@dataclasses.dataclass(frozen=True, slots=True)
class Load:
    """The load on all replicas.

    Attributes:
        rate: Calls of one row a second at the peak; None: what one replica carries, beside the spare ones.
        quiet_rate: The same at the quietest time; 0 keeps the smallest size.
        target_ms: Time limit for nearly every call.
        utilization: Share of a replica's throughput to plan with, 0.1 to 0.9.
        spare: Replicas that may be missing at the peak: a node, a roll, a zone's worth.
    """

    rate: float | None = None
    quiet_rate: float = 0.0
    target_ms: float = 200.0
    utilization: float = 0.6
    spare: int = 1

    def __post_init__(self) -> None:
        _positive("target_ms", self.target_ms)
        _positive("rate", self.rate)
        if not 0 <= self.quiet_rate <= (self.rate or math.inf):
            raise PlanError(f"Expected quiet_rate between 0 and rate, {self.rate}. Received: {self.quiet_rate:g}")
        if not 0.1 <= self.utilization <= 0.9:
            raise PlanError(f"Expected utilization between 0.1 and 0.9. Received: {self.utilization:g}")
        if self.spare < 0:
            raise PlanError(f"Expected spare of at least 0. Received: {self.spare}")


@dataclasses.dataclass(frozen=True, slots=True)
class CapacityPlan:
    """The settings.

    Attributes:
        rate: Calls a second at the peak.
        per_replica: Calls a second that one full replica answers.
        replicas: Replicas at the peak, spare ones included.
        minimum: `minReplicas` of the autoscaler.
        maximum: `maxReplicas`: half again as many as the peak needs.
        busy: Share of a replica in use at the peak, with the spare ones missing.
        expected_ms: Mean time of a call then, waiting included.
        memory_mb: Request and limit of a replica, a multiple of 256; None when the size of a version is not known.
        flags: Flags of the server.
        batching: batching.config; empty when batching does not pay.
        notes: Remarks on these numbers.
    """

    rate: float
    per_replica: float
    replicas: int
    minimum: int
    maximum: int
    busy: float
    expected_ms: float
    memory_mb: int | None
    flags: dict[str, int]
    batching: Batching
    notes: tuple[str, ...]

    def text(self, cpus: int) -> str:
        """The plan for replicas with some CPUs, for people."""
        memory = "unknown (--store or --model-mb)" if self.memory_mb is None else f"{self.memory_mb}Mi"
        lines = [
            f"load                   {self.rate:g} calls/s",
            f"replicas at the peak   {self.replicas}  ({self.per_replica:g} calls/s each)",
            f"busy without the spare {self.busy:.0%}",
            f"autoscaler             minReplicas {self.minimum}, maxReplicas {self.maximum}",
            f"a replica              cpu {cpus}, memory {memory} (requests = limits)",
            f"mean time at the peak  {self.expected_ms:g} ms",
            "flags                  " + " ".join(f"--{name}={value}" for name, value in self.flags.items()),
        ]
        for number, entry in enumerate(batching_lines(self.batching)):
            lines.append(f"{'' if number else 'batching.config':<23}{entry}")
        if not self.batching:
            lines.append("batching               off")
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes)])


def batching_lines(batching: Batching) -> list[str]:
    """The entries of a batching.config."""
    lines: list[str] = []
    for name, value in batching.items():
        lines += [f"{name}: {size}" for size in value] if isinstance(value, list) else [f"{name} {{ value: {value} }}"]
    return lines


def plan(measured: Measured, load: Load) -> CapacityPlan:
    """The plan for a load.

    Raises:
        PlanError: One call alone takes longer than the target.
    """
    if measured.latency_ms > load.target_ms:
        raise PlanError(
            f"Expected a call alone to take at most target_ms, {load.target_ms:g} ms. Received: "
            f"{measured.latency_ms:g} ms (more CPUs a replica, a smaller model, or another target)"
        )
    size = _batch(measured, load)
    batched = measured.batched(size) if size else 0.0
    # Less than 10 % is lost again in waiting for batches to fill.
    use_batching = batched > 1.1 * measured.plain
    per_replica = batched if use_batching else measured.plain
    used = per_replica * load.utilization
    rate = load.rate or used
    replicas = max(2, math.ceil(rate / used - 1e-9) + load.spare)
    working = max(1, replicas - load.spare)
    busy = rate / (working * per_replica)
    run = measured.curve[size] if use_batching else measured.curve.get(1, measured.latency_ms)
    rows = size if use_batching else 1
    # Microseconds to wait for a batch to fill: no longer than filling takes, nor than half a run.
    timeout = int(min(1e6 * size * replicas / rate, 500 * run)) if use_batching else 0
    # Fixed service time, random arrivals (M/D/1, of the time between the ends of runs); a batch also waits to fill.
    expected = run + 1000 * rows / per_replica * busy / (2 * (1 - busy)) + timeout / 1000
    batching = _batching(measured, load, size, timeout) if use_batching else {}
    return CapacityPlan(
        rate=round(rate, 1),
        per_replica=round(per_replica, 1),
        replicas=replicas,
        minimum=max(2, math.ceil(load.quiet_rate / used) + load.spare),
        maximum=math.ceil(1.5 * replicas),
        busy=round(busy, 2),
        expected_ms=round(expected, 1),
        memory_mb=memory_mb(measured, batching),
        flags=_flags(measured, rate / working, expected),
        batching=batching,
        notes=_notes(measured, load, use_batching, batched, expected),
    )


def _positive(name: str, value: float | None) -> None:
    if value is not None and not 0 < value < math.inf:
        raise PlanError(f"Expected {name} above 0. Received: {value!r}")


def _batch(measured: Measured, load: Load) -> int:
    """The smallest batch size with nearly the most rows a second whose calls meet the time limit; 0 without one.

    A call that arrives just after a run began waits for that run, and then for its own.
    """
    good = [rows for rows, time in measured.curve.items() if 2 * time + time / 2 <= load.target_ms]
    most = max(map(measured.batched, good), default=0.0)
    return next((rows for rows in good if measured.batched(rows) > 0.95 * most), 0)


def memory_mb(measured: Measured, batching: Batching) -> int | None:
    """Request and limit of a replica; None without the size of a version."""
    if measured.model_mb is None:
        return None
    rows = measured.cpus**2  # more calls overlap than there are CPUs
    if batching:
        rows = cast(int, batching["max_batch_size"]) * cast(int, batching["num_batch_threads"])
    amount = SERVER_MB + VERSIONS * RESTORE_FACTOR * measured.model_mb + rows * measured.row_mb
    return 256 * math.ceil(amount * HEADROOM / 256)


def _flags(measured: Measured, rate: float, expected_ms: float) -> dict[str, int]:
    concurrent = rate * expected_ms / 1000  # Little's law; bursts are several times the mean
    return {
        "tensorflow_intra_op_parallelism": 1,
        "tensorflow_inter_op_parallelism": measured.cpus,
        "grpc_max_threads": max(64, 16 * math.ceil(4 * concurrent / 16)),
        "rest_api_num_threads": 8,
    }


def _batching(measured: Measured, load: Load, size: int, timeout: int) -> Batching:
    run = measured.curve[size]
    return {
        "max_batch_size": size,
        "batch_timeout_micros": timeout,
        # Calls that would wait longer than the target are refused.
        "max_enqueued_batches": max(1, measured.cpus * int((load.target_ms - run) / run)),
        "num_batch_threads": measured.cpus,
        "allowed_batch_sizes": [rows for rows in measured.curve if rows <= size],
    }


def _notes(measured: Measured, load: Load, use_batching: bool, batched: float, expected: float) -> tuple[str, ...]:
    notes = [
        f"One replica has {measured.cpus} CPUs, as in the measurement: measure again to plan with another number.",
        "Calls of one row each. A call with more rows counts as that many calls.",
        "Arrivals are independent; for clients that call in bursts, plan with a lower utilization.",
        f"{load.spare} replica{'s' if load.spare != 1 else ''} may be missing at the peak.",
    ]
    if use_batching:
        notes.append(f"Batching on: {batched:.0f} rows a second for each replica, {measured.plain:.0f} without.")
    elif measured.curve:
        most = f"{batched:.0f} rows a second within the time limit, {measured.plain:.0f} without."
        notes.append(f"Batching off: at most {most}")
    if expected > load.target_ms:
        notes.append(f"The mean at the peak, {expected:.0f} ms, is over the target: lower the utilization.")
    return tuple(notes)
