"""Callers that keep calling during a fault, and count."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from duoserve import DuoserveError, PreprocessingSpec, Preprocessor
from tests.client.conftest import encoded, photo
from tests.client.fake import Version


class Load:
    """Runs predictions from several threads; as a context manager it stops at the end and holds the counts.

    Attributes:
        calls: Calls that ended.
        failures: The errors of those that failed.
        wrong: Answers that are not the model's.
    """

    def __init__(self, client: Any, spec: PreprocessingSpec, *, callers: int = 4, timeout: float = 10.0) -> None:
        self.calls = 0
        self.failures: list[DuoserveError] = []
        self.wrong = 0
        self._client = client
        self._timeout = timeout
        self._stop = threading.Event()
        self._lock = threading.Lock()
        preprocessor, version = Preprocessor(spec), Version(spec)
        self._inputs = []
        for i in range(5):
            image, text = encoded(photo(40, 50 + i, seed=i)), f"red heart {i}"
            row = preprocessor.image(image)[None], preprocessor.tokens(text)[None]
            self._inputs.append((image, text, version.probabilities(*row)[0]))
        self._pool = ThreadPoolExecutor(callers)
        self._workers = [self._pool.submit(self._work, i) for i in range(callers)]

    def _work(self, worker: int) -> None:
        i = worker
        while not self._stop.is_set():
            image, text, expected = self._inputs[i % len(self._inputs)]
            try:
                answer = self._client.predict(image, text, timeout=self._timeout)
            except DuoserveError as error:
                with self._lock:
                    self.failures.append(error)
            else:
                good = np.allclose(answer.probabilities, expected, rtol=1e-6)
                with self._lock:
                    self.wrong += not good
            with self._lock:
                self.calls += 1
            i += 1
            time.sleep(0.002)

    def run_until(self, condition: Callable[[], bool], within: float = 20.0) -> None:
        """Keeps calling until the condition holds; fails if it does not in time."""
        end = time.monotonic() + within
        while not condition():
            assert time.monotonic() < end, f"not within {within} s: {self}"
            time.sleep(0.01)

    def more(self, calls: int) -> None:
        """Keeps calling for this many further calls."""
        target = self.calls + calls
        self.run_until(lambda: self.calls >= target)

    def __repr__(self) -> str:
        return f"{self.calls} calls, {len(self.failures)} failed, {self.wrong} wrong, first: {self.failures[:1]}"

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._pool.shutdown()
        for worker in self._workers:
            worker.result()

    def assert_clean(self) -> None:
        """No call failed, no answer was wrong."""
        assert self.calls and not self.failures and not self.wrong, repr(self)
