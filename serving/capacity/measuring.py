"""Measures one replica through its gRPC API: one caller, many callers, and requests of many rows."""

import concurrent.futures
import dataclasses
import functools
import itertools
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import numpy as np

from duoserve import Client, DuoserveError, RequestRejected
from duoserve.contract import SERVING_DEFAULT

CALLERS: Final = (1, 2, 4, 8, 16, 32, 64)
SIZES: Final = (1, 2, 4, 8, 16, 32)
"""The batch sizes that an export warms up."""

_BUSY = 0.8
_GROWTH = 1.05  # if more callers bring less than this, the CPUs are full
_TEXT = "a photo of a small red heart and three grinning faces over the green sea " * 64

T = TypeVar("T")
Progress = Callable[[str, float], None]
"""Called with the current measurement, and the share of the time that has passed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Level:
    """The result for a number of callers, each with one call of one row at a time.

    Attributes:
        calls: Answered calls.
        throughput: Answered calls a second.
        p50: Median latency in milliseconds.
        p99: 99th percentile in milliseconds.
        errors: Calls that failed.
    """

    callers: int
    calls: int
    throughput: float
    p50: float
    p99: float
    errors: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Measurement:
    """The measurements of a running server.

    Attributes:
        version: The version that answered.
        levels: Results by number of callers, until more callers brought no more throughput.
        cpus: CPUs of the server.
        curve: Milliseconds of a request by its rows, with as many requests at once as CPUs; never falling.
        empty_calls: Calls a second that run no graph, from as many callers as fill the server.
        client_busy: Share of a core that this program used; near 1, this program was the bottleneck.
        seconds: Time of the measurement.
    """

    version: int
    levels: tuple[Level, ...]
    cpus: int
    curve: Mapping[int, float]
    empty_calls: float
    client_busy: float
    seconds: float

    @property
    def full(self) -> Level:
        """The smallest number of callers with nearly the highest throughput."""
        most = max(level.throughput for level in self.levels)
        return next(level for level in self.levels if level.throughput * _GROWTH >= most)

    def __str__(self) -> str:
        """A table of the callers, and one of the rows."""
        lines = [f"version {self.version}, measured for {self.seconds:.0f} s", ""]
        lines.append("callers   calls/s   p50 ms    p99 ms   failed")
        lines += [
            f"{level.callers:>7}   {level.throughput:>7.0f}  {level.p50:>7.1f}   {level.p99:>7.1f}   {level.errors:>6}"
            for level in self.levels
        ]
        lines += ["", f"rows in a request ({self.cpus} at once)        ms   rows/s"]
        lines += [
            f"{rows:>29}   {time:>7.1f}   {1000 * rows * self.cpus / time:>6.0f}" for rows, time in self.curve.items()
        ]
        lines += ["", f"calls that run no graph: {self.empty_calls:.0f}/s"]
        if self.client_busy > _BUSY:
            used = f"{self.client_busy:.0%} of a core"
            lines.append(f"This program used {used}: the server may do more. Use a faster machine")
        return "\n".join(lines)


class Rows:
    """Requests of any number of rows to the model of a client: noise as the image, and a text of full length.

    Raises:
        DuoserveError: The server does not answer, or the model has other inputs.
    """

    def __init__(self, client: Client) -> None:
        preprocessor = client.preprocessor()
        spec = preprocessor.spec
        shape = (spec.image_height, spec.image_width, 3)
        self._image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        self._tokens = preprocessor.tokens(_TEXT)
        self._outputs = [spec.answer.output]
        self._client = client

    def ask(self, rows: int = 1) -> int:
        """Sends one request; returns the version that answered."""
        row: dict[str, Any] = {"image": self._image, "tokens": self._tokens}
        inputs = {name: np.broadcast_to(value, (rows, *value.shape)) for name, value in row.items()}
        return self._client.run(SERVING_DEFAULT, inputs, outputs=self._outputs).version


def load(ask: Callable[[], object], callers: int, seconds: float) -> Level:
    """Calls `ask` from `callers` threads, one after the other in each, for some seconds and at least once.

    Raises:
        DuoserveError: Every call failed.
    """
    times: list[float] = []
    errors: list[DuoserveError] = []
    end = time.perf_counter() + seconds

    def call() -> None:
        while True:
            begin = time.perf_counter()
            try:
                ask()
            except DuoserveError as error:
                errors.append(error)
            else:
                times.append(time.perf_counter() - begin)
            if time.perf_counter() > end:
                return

    begin = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(callers) as pool:
        list(pool.map(lambda _: call(), range(callers)))
    passed = time.perf_counter() - begin
    if not times:
        raise errors[0]
    p50, p99 = (float(value) * 1000 for value in np.percentile(times, (50, 99)))
    return Level(callers, len(times), len(times) / passed, p50, p99, len(errors))


def measure(client: Client, cpus: int, seconds: float, progress: Progress = lambda what, share: None) -> Measurement:
    """Measures latency, saturation and batch curve of the model of a client.

    Args:
        client: The client.
        cpus: The server's CPUs.
        seconds: Approximate time: half for the callers, the rest for empty calls and the curve.
        progress: Called with the current measurement.

    Raises:
        DuoserveError: The server does not answer, or the model has other inputs.
    """
    begin = time.perf_counter()

    def report(what: str) -> None:
        progress(what, min((time.perf_counter() - begin) / seconds, 1.0))

    report("warmup")
    rows = Rows(client)
    version = rows.ask()
    load(rows.ask, 2, min(1.0, seconds / 20))
    levels, busy = _busy(lambda: saturation(rows, seconds / 2, report))
    most = max(levels, key=lambda level: level.throughput)
    report("empty calls")
    empty = load(client.status, most.callers, seconds / 16)
    curve, also = _busy(lambda: _curve(rows, cpus, begin + seconds, report))
    report("done")
    return Measurement(version, levels, cpus, curve, empty.throughput, max(busy, also), time.perf_counter() - begin)


def _busy(work: Callable[[], T]) -> tuple[T, float]:
    """What `work` returns, and the share of a core that this program used meanwhile."""
    start, used = time.perf_counter(), time.process_time()
    found = work()
    return found, (time.process_time() - used) / (time.perf_counter() - start)


def saturation(
    rows: Rows, seconds: float, report: Callable[[str], None] = lambda what: None, most: int = CALLERS[-1]
) -> tuple[Level, ...]:
    """More and more callers, until two successive steps brought no more throughput."""
    levels: list[Level] = []
    for callers in (count for count in CALLERS if count <= most):
        report(f"{callers} callers")
        levels.append(load(rows.ask, callers, seconds / len(CALLERS)))
        best = max(level.throughput for level in levels[:-2]) if levels[2:] else 0.0
        if best and max(level.throughput for level in levels[-2:]) < _GROWTH * best:
            break
    return tuple(levels)


def _curve(rows: Rows, cpus: int, end: float, report: Callable[[str], None]) -> dict[int, float]:
    """Median milliseconds by rows; sizes take turns, so that other load affects all equally; at least one round."""
    times: dict[int, list[float]] = {size: [] for size in SIZES}
    while time.perf_counter() < end or not all(times.values()):
        for size in list(times):
            report(f"requests of {size} rows")
            try:
                times[size].append(load(functools.partial(rows.ask, size), cpus, 0).p50)
            except RequestRejected:
                if size == 1:
                    raise
                for larger in [other for other in times if other >= size]:  # over the server's largest batch
                    del times[larger]
                break
    # A larger batch takes no less time; where it seems to, other load is the cause.
    medians = (round(statistics.median(found), 3) for found in times.values())
    return dict(zip(times, itertools.accumulate(medians, max), strict=True))
