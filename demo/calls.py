"""The demo's calls through the client."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter, defaultdict

from demo.pairs import Pair
from duoserve import Client, DuoserveError

_LONGEST_WAIT = 60.0


def predict_held_out(address: str, name: str, pairs: list[Pair]) -> None:
    """Prints a table of two rows of each class, and the accuracy over all rows."""
    by_class = defaultdict(list)
    for pair in pairs:
        by_class[pair.label].append(pair)
    shown = [pair for members in by_class.values() for pair in members[:: max(len(members) // 2, 1)][:2]]
    with Client(address, model=name) as client:
        print(f"{'text':<32}  {'true class':<18}  {'predicted class':<18}  probability  version")
        for pair in shown:
            answer = client.predict(pair.image, pair.text)
            text = pair.text if len(pair.text) <= 32 else pair.text[:31] + "…"
            row = f"{text:<32}  {pair.label:<18}  {answer.label:<18}  {answer.probability:>11.1%}  {answer.version:>7}"
            print(row if answer.label == pair.label else row + "  wrong")
        answers = client.predict_batch([(pair.image, pair.text) for pair in pairs], timeout=_LONGEST_WAIT)
    right = sum(answer.label == pair.label for answer, pair in zip(answers, pairs, strict=True))
    print(f"{right} of {len(pairs)} held-out rows are right: {right / len(pairs):.1%}")


class Caller:
    """Keeps calling from a thread and counts which version answered. A context manager."""

    def __init__(self, address: str, name: str, pairs: list[Pair]) -> None:
        self._client = Client(address, model=name)
        self._pairs = pairs
        self._answers: Counter[int] = Counter()
        self._failures: list[DuoserveError] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="caller")

    @property
    def version(self) -> int:
        """The newest version that has answered; 0 before the first answer."""
        return max(self._answers, default=0)

    def wait_for_version_after(self, version: int) -> None:
        """Returns a second after a newer version has answered."""
        deadline = time.monotonic() + _LONGEST_WAIT
        while self.version <= version:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"Expected a version after {version} within {_LONGEST_WAIT} s. Received: {self.report()}"
                )
            time.sleep(0.05)
        time.sleep(1.0)

    def report(self) -> str:
        """The number of calls that each version answered, and of failed calls."""
        counts = ", ".join(f"version {version}: {count}" for version, count in sorted(self._answers.items()))
        return f"Calls answered meanwhile by {counts}; failed: {len(self._failures)}"

    def _run(self) -> None:
        for pair in itertools.cycle(self._pairs):
            if self._stop.is_set():
                return
            try:
                answer = self._client.predict(pair.image, pair.text)
            except DuoserveError as error:
                self._failures.append(error)
            else:
                self._answers[answer.version] += 1
            self._stop.wait(0.02)

    def __enter__(self) -> Caller:
        self._thread.start()
        deadline = time.monotonic() + _LONGEST_WAIT
        while not self._answers and not self._failures and time.monotonic() < deadline:
            time.sleep(0.01)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._client.close()
        if self._failures and kind is None:
            raise self._failures[0]
