"""Compares cases fairly: they take turns, round by round, and ratios are taken within a round."""

import itertools
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tqdm import tqdm

SLICES = 10
Timings = dict[str, dict[str, list[float]]]
Seen = dict[tuple[str, int], list[dict[str, float]]]
"""By name and number (of rows or callers): the figures of each round."""


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


def spread(values: Iterable[float]) -> dict[str, float]:
    """Median, least and most."""
    values = list(values)
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


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
    return spread(one / other for one, other in zip(timings[case][which], timings[to][which], strict=True))


def microseconds(timings: Timings) -> dict[str, dict[str, float]]:
    """Median over the rounds of each case's p50 and p95."""
    return {
        name: {which: statistics.median(values) * 1e6 for which, values in kinds.items()}
        for name, kinds in timings.items()
    }


def alternate(
    ways: Mapping[str, Callable[[int, float], dict[str, float]]], numbers: Iterable[int], rounds: int, seconds: float
) -> Seen:
    """The figures that each way returns for each number and the length of the measurement."""
    seen: Seen = defaultdict(list)
    turns = list(itertools.product(range(rounds), numbers, ways.items()))
    for _, number, (name, measure) in tqdm(turns, "Measuring", disable=None):
        seen[name, number].append(measure(number, seconds))
    return seen


def medians(seen: Seen, name: str, gain: str, of: Callable[[Mapping[str, float]], float], to: str) -> dict[str, Any]:
    """By number: the median of each figure over the rounds, and under `gain` the spread of `of(ours) / of(theirs)`.

    Args:
        seen: From `alternate`.
        name: Whose figures.
        gain: Name of the ratio.
        of: What is compared; more is better.
        to: The name to compare with.
    """
    found = {}
    for number in dict.fromkeys(number for _, number in seen):
        ours, theirs = seen[name, number], seen[to, number]
        figures = {key: statistics.median(each[key] for each in ours) for key in ours[0]}
        found[str(number)] = figures | {
            gain: spread(of(one) / of(other) for one, other in zip(ours, theirs, strict=True))
        }
    return found


def row(
    what: str, to: str, found: dict[str, float], aim: float | None, *, more_is_better: bool = False
) -> dict[str, Any]:
    """One line of the result: a ratio with its spread, and whether its median meets the aim."""
    met = None if aim is None else (found["median"] >= aim if more_is_better else found["median"] <= aim)
    return {"what": what, "to": to, "ratio": found, "aim": aim, "more_is_better": more_is_better, "met": met}


def versus(timings: Timings, what: str, to: str, aim: float | None, which: str = "p50") -> dict[str, Any]:
    """The line that compares the case `duoserve` with another one."""
    return row(what, to, ratio(timings, "duoserve", to, which), aim)
