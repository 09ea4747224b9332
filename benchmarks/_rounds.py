"""Compares cases fairly: interleaved, round by round, ratios taken within a round."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

SLICES = 10
Timings = dict[str, dict[str, list[float]]]


def times(function: Callable[[], Any], count: int) -> list[float]:
    """Seconds of each of `count` calls."""
    clock, found = time.perf_counter, []
    for _ in range(count):
        began = clock()
        function()
        found.append(clock() - began)
    return found


def quantile(values: list[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def interleave(cases: Mapping[str, Callable[[], list[float]]], rounds: int) -> Timings:
    """p50 and p95 (seconds) of every case and round.

    A round runs every case in `SLICES` short turns, in random order, so that other load on
    the machine affects all of them equally.
    """
    found: Timings = {name: {"p50": [], "p95": []} for name in cases}
    for case in cases.values():
        case()  # warm
    for _ in range(rounds):
        values: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(SLICES):
            for name in random.sample(list(cases), len(cases)):
                values[name] += cases[name]()
        for name, each in values.items():
            found[name]["p50"].append(quantile(each, 0.5))
            found[name]["p95"].append(quantile(each, 0.95))
    return found


def ratio(timings: Timings, case: str, to: str, which: str = "p50") -> dict[str, float]:
    """How many times as long `case` takes as `to`: median, least and most over the rounds."""
    pairs = zip(timings[case][which], timings[to][which], strict=True)
    return spread([one / other for one, other in pairs])


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and most."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def microseconds(timings: Timings) -> dict[str, dict[str, float]]:
    """Median over the rounds of each case's p50 and p95."""
    return {
        name: {which: statistics.median(values) * 1e6 for which, values in kinds.items()}
        for name, kinds in timings.items()
    }


def row(
    what: str, to: str, found: dict[str, float], aim: float | None, *, more_is_better: bool = False
) -> dict[str, Any]:
    """One line of the result: a ratio with its spread, and whether its median meets the aim."""
    met = None if aim is None else (found["median"] >= aim if more_is_better else found["median"] <= aim)
    return {"what": what, "to": to, "ratio": found, "aim": aim, "more_is_better": more_is_better, "met": met}
