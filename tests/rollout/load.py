"""Constant load from the production client, to see what users would see during a rollout."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from duoserve import Canary, Client, DuoserveError
from duoserve.artifact.samples import GOLDEN_PATH, GoldenSample, load_samples
from serving.models_config import modelfile
from tests.rollout import models


@dataclasses.dataclass(frozen=True)
class Call:
    """One call: when it began (seconds since the load's start), how long it took, what was asked for, and what came."""

    at: float
    seconds: float
    label: str
    version: int | None
    error: str = ""
    right: bool = True


class Load:
    """Calls label `stable` all the time, and `canary` one time in five; a context manager.

    Attributes:
        calls: Every call so far.
    """

    def __init__(
        self, addresses: Sequence[str], store: Path, config: Path, *, threads: int = 2, rate: float = 20
    ) -> None:
        self._client = Client(
            addresses, model=models.MODEL, label="stable", canary=Canary(label="canary", percent=20), timeout=20
        )
        self._config = config
        self._pause = threads / rate
        self._golden: Mapping[int, Sequence[GoldenSample]] = {
            int(path.name): load_samples((path / GOLDEN_PATH).read_bytes())
            for path in (store / models.MODEL).glob("[1-7]")
        }
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(number,)) for number in range(threads)]
        self._threads.append(threading.Thread(target=self._watch))
        self.began = time.monotonic()
        self.calls: list[Call] = []
        self.labels: dict[str, list[tuple[float, int]]] = {"stable": [], "canary": []}

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self._client.close()

    def _work(self, number: int) -> None:
        turn = number
        while not self._ended.wait(self._pause):
            position = turn % len(models.SAMPLES)
            turn += 1
            image, text = models.SAMPLES[position]
            begin = time.monotonic()
            try:
                answer = self._client.predict(image, text)
            except DuoserveError as error:
                self.calls.append(Call(begin - self.began, time.monotonic() - begin, "stable", None, str(error)))
                continue
            expected = np.array(self._golden[answer.version][position].values)
            right = expected.shape == answer.values.shape and bool(np.abs(expected - answer.values).max() < 1e-3)
            label = str(answer.target)
            self.calls.append(Call(begin - self.began, time.monotonic() - begin, label, answer.version, right=right))

    def _watch(self) -> None:
        """What the labels are in the file, by time."""
        while not self._ended.wait(0.05):
            config = next(one for one in modelfile.parse(self._config.read_text()) if one.name == models.MODEL)
            for label, times in self.labels.items():
                now = config.labels.get(label)
                if now is not None and (not times or times[-1][1] != now):
                    times.append((time.monotonic() - self.began, now))

    def failed(self) -> list[Call]:
        """Calls without an answer."""
        return [call for call in self.calls if call.error]

    def wrong(self, grace: float = 5.0) -> list[Call]:
        """Answers that are not what the version answers, or of a version that the label was not at.

        Args:
            grace: Seconds that the replicas may take to follow the file.
        """
        return [call for call in self.calls if not call.error and not (call.right and self._due(call, grace))]

    def _due(self, call: Call, grace: float) -> bool:
        begin, end = call.at - grace, call.at + call.seconds
        times = self.labels[call.label]
        spans = zip(times, [*times[1:], (float("inf"), 0)], strict=True)
        return any(
            version == call.version and since <= end + 0.1 and until >= begin for (since, version), (until, _) in spans
        )
