"""The load generator behind `duoserve bench`."""

import argparse
import asyncio
import collections
import dataclasses
import io
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping

import numpy as np

from duoserve._checks import expect_number, expect_whole
from duoserve.aio import AsyncClient
from duoserve.errors import DuoserveError
from duoserve.preprocessing.audio import Clip, encode_wav
from duoserve.preprocessing.sources import read_bytes

_MOST_IN_FLIGHT = 10_000  # open loop: with more, the generator itself would be measured
Progress = Callable[[float, str], None]


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """The measurements of a run. In the open loop, latencies count from the time when a call was due, so that a
    stalled server shows."""

    load: str  # "8 callers" or "100 calls/s, open loop"
    sent: str  # "tensors" or "bytes"
    seconds: float
    calls: int  # that were answered
    throughput: float  # answered calls a second
    milliseconds: dict[str, float]  # latencies: mean, p50, p90, p95, p99, max
    errors: Mapping[str, int]  # failed calls by the class of their error
    versions: Mapping[int, int]  # answers by the version that gave them
    late: int  # open loop: calls that were not sent because too many were in flight

    def lines(self) -> Iterator[str]:
        """For a terminal."""
        yield f"{self.load}, sent as {self.sent}, {self.seconds:.1f} s"
        yield f"{self.calls} calls answered, {self.throughput:.1f} a second"
        yield "  ".join(f"{name} {value:.2f} ms" for name, value in self.milliseconds.items()) or "no latencies"
        for title, counts in ("versions", self.versions), ("errors", self.errors):
            yield f"{title}: " + (", ".join(f"{name} ({n})" for name, n in counts.items()) or "none")
        if self.late:
            yield f"not sent, too many in flight: {self.late}"


class _Load:
    """The calls of a run, and what came of those that were made after the warmup."""

    def __init__(self, call: Callable[[], Awaitable[int]], warmup: float, duration: float) -> None:
        self.call = call
        self.begin = time.perf_counter()
        self.start = self.begin + warmup
        self.end = self.start + duration
        self.latencies: list[float] = []
        self.errors = collections.Counter[str]()
        self.versions = collections.Counter[int]()
        self.late = 0

    async def closed_loop(self) -> None:
        """One caller, who waits for each answer."""
        while (began := time.perf_counter()) < self.end:
            await self._one(began)

    async def open_loop(self, rate: float) -> None:
        """Calls at this rate, whether or not earlier ones were answered."""
        running: set[asyncio.Task[None]] = set()
        for i in range(math.ceil(rate * (self.end - self.begin))):
            due = self.begin + i / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if len(running) >= _MOST_IN_FLIGHT:
                self.late += due >= self.start
                continue
            task = asyncio.ensure_future(self._one(due))
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.gather(*running)

    async def _one(self, began: float) -> None:
        try:
            version = await self.call()
        except DuoserveError as error:
            if began >= self.start:
                self.errors[type(error).__name__] += 1
            await asyncio.sleep(0.01)  # do not hammer a server that refuses at once
            return
        if began >= self.start:
            self.latencies.append(time.perf_counter() - began)
            self.versions[version] += 1

    async def watch(self, progress: Progress) -> None:
        """Reports progress until the end."""
        share = 0.0
        while share < 1:
            share = min(max((time.perf_counter() - self.start) / (self.end - self.start), 0.0), 1.0)
            progress(share, f"{len(self.latencies)} calls, {sum(self.errors.values())} errors")
            await asyncio.sleep(0.2 if share < 1 else 0)


async def run(client: AsyncClient, options: argparse.Namespace, progress: Progress | None) -> Report:
    """Loads the server for `warmup` and then `duration` seconds, as the options of `duoserve bench` ask.

    Raises:
        InvalidInput: A number out of range, or a file that can't be read.
        DuoserveError: The first call failed: there is nothing to measure.
    """
    concurrency, rate, text = options.concurrency or 8, options.rate, options.text
    expect_whole("concurrency", concurrency, 1, 10_000)
    expect_number("duration", options.duration, 0.01, 86400)
    expect_number("warmup", options.warmup, 0, 86400)
    if rate is not None:
        expect_number("rate", rate, 0.001, 1e6)
    data = await _input(client, options.image, options.audio)
    first = await client.predict(data, text)
    sent: str = first.sent
    if options.prepared:
        preprocessor, sent = await client.preprocessor(), "tensors, prepared once"
        image, tokens = preprocessor.image(data)[None], preprocessor.tokens(text)[None]

    async def call() -> int:
        if options.prepared:
            return (await client.predict_tensors(image, tokens, preprocessor)).version
        return (await client.predict(data, text)).version

    load = _Load(call, options.warmup, options.duration)
    tasks = [load.closed_loop() for _ in range(concurrency)] if rate is None else [load.open_loop(rate)]
    if progress is not None:
        watch = asyncio.ensure_future(load.watch(progress))
    await asyncio.gather(*tasks)
    seconds = time.perf_counter() - load.start
    if progress is not None:
        await watch
    return Report(
        load=f"{concurrency} callers" if rate is None else f"{rate:g} calls/s, open loop",
        sent=sent,
        seconds=seconds,
        calls=len(load.latencies),
        throughput=len(load.latencies) / seconds,
        milliseconds=percentiles(load.latencies),
        errors=dict(load.errors),
        versions=dict(sorted(load.versions.items())),
        late=load.late,
    )


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Mean, p50, p90, p95, p99 and max in milliseconds; empty for no values."""
    if not seconds:
        return {}
    values = np.sort(np.array(seconds)) * 1000
    found = {"mean": float(values.mean())}
    for share in (50, 90, 95, 99):
        found[f"p{share}"] = float(values[max(0, math.ceil(len(values) * share / 100) - 1)])
    return {**found, "max": float(values[-1])}


async def _input(client: AsyncClient, image: str | None, audio: str | None) -> bytes | Clip:
    """The content of the files, read once; without a file, generated input that fits the served version."""
    for name, path in (("image", image), ("audio", audio)):
        if path:
            data = await asyncio.to_thread(read_bytes, path, name, "")
            return Clip(data) if audio else data
    return _noise() if (await client.describe()).audio else await asyncio.to_thread(_photo)


def _noise() -> Clip:
    """A second of noise, of 16-bit samples at 16 kHz."""
    return Clip(encode_wav(Clip(np.random.default_rng(0).integers(-9999, 9999, 16_000, np.int16), 16_000)))


def _photo() -> bytes:
    """A JPEG of 640x480 with about the detail of a photo."""
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(noise).resize((640, 480), Image.Resampling.BICUBIC).save(data, "JPEG", quality=85)
    return data.getvalue()
