"""Latency of two versions for the same inputs, measured in turns so that other load affects both equally."""

import dataclasses
import time
from collections.abc import Callable, Sequence

import numpy as np

from serving.rollout.settings import Limits

_WARM = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of a call, preparation of the input included: of as many `calls` to the old and the new version."""

    calls: int
    old_median: float
    new_median: float
    old_p99: float
    new_p99: float

    def findings(self, limits: Limits) -> list[str]:
        """The figures over their limits, one line each."""
        slack = limits.slack_ms
        return [
            f"latency: expected a {name} of at most {old * ratio + slack:.1f} ms"
            f" ({ratio:g} x {old:.1f} + {slack:g}). Received: {new:.1f} ms"
            for name, old, new, ratio in (
                ("median", self.old_median, self.new_median, limits.median_ratio),
                ("p99", self.old_p99, self.new_p99, limits.p99_ratio),
            )
            if new > old * ratio + slack
        ]


def measure(old: Sequence[Callable[[], object]], new: Sequence[Callable[[], object]], calls: int) -> Latency:
    """Calls both versions `calls` times, in turn; the first one alternates. Each has one function for each input."""
    for _ in range(_WARM):
        old[0]()
        new[0]()
    times = np.empty((2, calls))
    for turn in range(calls):
        sides = ((0, old), (1, new)) if turn % 2 else ((1, new), (0, old))
        for side, functions in sides:
            begin = time.perf_counter()
            functions[turn % len(functions)]()
            times[side, turn] = time.perf_counter() - begin
    return Latency(calls, *(1000 * np.percentile(times, (50, 99), axis=1)).ravel().tolist())
