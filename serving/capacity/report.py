"""The command's output: measurements, plans and settings, as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from serving.capacity.patches import batching_lines
from serving.capacity.plan import CapacityPlan

if TYPE_CHECKING:  # they load gRPC, which a plan from numbers does not need
    from serving.capacity.measuring import Measurement
    from serving.capacity.tuning import Tuned

__all__ = ["measurement_text", "plan_text", "tuned_text"]

_BUSY = 0.8


def measurement_text(found: Measurement) -> str:
    """A table of the callers, and one of the rows."""
    lines = [f"version {found.version}, measured for {found.seconds:.0f} s", ""]
    lines.append("callers   calls/s   p50 ms    p99 ms   failed")
    lines += [
        f"{level.callers:>7}   {level.throughput:>7.0f}  {level.p50:>7.1f}   {level.p99:>7.1f}   {level.errors:>6}"
        for level in found.levels
    ]
    lines += ["", "rows in a request   ms       rows/s"]
    lines += [f"{rows:>15}   {time:>7.1f}  {1000 * rows / time:>6.0f}" for rows, time in found.curve.items()]
    lines += ["", f"calls that run no graph: {found.empty_calls:.0f}/s"]
    if found.client_busy > _BUSY:
        lines.append(
            f"This program used {found.client_busy:.0%} of a core: the server may do more. Use a faster machine"
        )
    return "\n".join(lines)


def plan_text(made: CapacityPlan, cpus: int) -> str:
    """The plan."""
    memory = "unknown (--store or --model-mb)" if made.memory_mb is None else f"{made.memory_mb}Mi"
    lines = [
        f"load                   {made.rate:g} calls/s",
        f"replicas at the peak   {made.replicas}  ({made.per_replica:g} calls/s each)",
        f"busy without the spare {made.busy:.0%}",
        f"autoscaler             minReplicas {made.minimum}, maxReplicas {made.maximum}",
        f"a replica              cpu {cpus}, memory {memory} (requests = limits)",
        f"mean time at the peak  {made.expected_ms:g} ms",
        "flags                  " + " ".join(f"--{name}={value}" for name, value in made.flags.items()),
    ]
    for number, entry in enumerate(batching_lines(made.batching)):
        lines.append(f"{'' if number else 'batching.config':<23}{entry}")
    if not made.batching:
        lines.append("batching               off")
    return "\n".join([*lines, "", *(f"- {note}" for note in made.notes)])


def tuned_text(found: Sequence[Tuned], chosen: Tuned | None, target_ms: float) -> str:
    """Every setting with its best level within the target, the best setting first."""
    lines = [f"calls/s   p99 ms   callers   setting (p99 within {target_ms:g} ms)"]
    levels = [(tuned.within(target_ms), tuned) for tuned in found]
    for level, tuned in sorted(levels, key=lambda pair: -(pair[0].throughput if pair[0] else 0.0)):
        figures = (
            f"{level.throughput:>7.0f}  {level.p99:>7.1f}  {level.callers:>8}" if level else f"{'over the target':>26}"
        )
        lines.append(f"{figures}   {tuned.setting.name}{'  <- best' if tuned is chosen else ''}")
    return "\n".join(lines)
