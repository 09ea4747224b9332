"""Canary and shadow: the labels or versions that calls go to beside the main one."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections.abc import Mapping

from duoserve._checks import expect_flag, expect_number, expect_whole, resolve_target
from duoserve._transport.fork import Lock, forget_in_child
from duoserve.errors import InvalidInput
from duoserve.results import Prediction

__all__ = ["Canary", "Shadow", "ShadowReport"]


def _check_share(label: str | None, version: int | None, percent: float) -> None:
    if resolve_target(label, version) is None:
        raise InvalidInput("Expected a label or a version. Received: neither")
    expect_number("percent", percent, 0, 100)


@dataclasses.dataclass(frozen=True, slots=True)
class Canary:
    """Sends a share of the `predict` and `predict_batch` calls to another label or version.

    Attributes:
        label: The label of the canary, or
        version: its version.
        percent: Share of the calls, 0 to 100. Sticky by the `key` of a call: raising the
            percentage adds keys to the canary and removes none. Without a key: at random.
        fallback: Answer from the main version when the canary fails; in a batch, row by row.
    """

    label: str | None = None
    version: int | None = None
    percent: float = 5.0
    fallback: bool = True

    def __post_init__(self) -> None:
        _check_share(self.label, self.version, self.percent)
        expect_flag("fallback", self.fallback)

    @property
    def target(self) -> int | str | None:
        """The label or version."""
        return self.label if self.label is not None else self.version

    def takes(self, key: str | None) -> bool:
        """Whether a call with this key goes to the canary."""
        if key is None:
            return random.random() * 100 < self.percent  # noqa: S311 -- a share, not a secret
        bucket = int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:8], "big")
        return bucket * 100 < self.percent * 2**64


@dataclasses.dataclass(frozen=True, slots=True)
class Shadow:
    """Sends copies of the answered rows of `predict` and `predict_batch` to another label or version, and compares.

    Attributes:
        label: The label of the shadow, or
        version: its version.
        percent: Share of the rows to copy, 0 to 100.
        max_pending: Requests with copies that may wait or run; further ones are dropped and
            counted. A batch's requests are copied whole: up to max_batch_size rows each.
    """

    label: str | None = None
    version: int | None = None
    percent: float = 100.0
    max_pending: int = 32

    def __post_init__(self) -> None:
        _check_share(self.label, self.version, self.percent)
        expect_whole("max_pending", self.max_pending, 1, 1 << 20)

    @property
    def target(self) -> int | str | None:
        """The label or version."""
        return self.label if self.label is not None else self.version


@dataclasses.dataclass(frozen=True, slots=True)
class ShadowReport:
    """How far the shadow agrees with the version that answered.

    Attributes:
        compared: Pairs of answers.
        agreed: Pairs with the same decision: the same class, or the same tags.
        failed: Copies that the shadow did not answer.
        dropped: Copies that were not compared: too many were pending, or the client was closed.
        same_version: Answers that came from the main version itself: nothing was compared.
        largest_difference: Largest difference of a probability, or score, for a label that both have.
        disagreements: Count by (decision of the main version, decision of the shadow).
        decides: Whether the versions decide at all. Scores do not: `agreed` is 0 then.
    """

    compared: int
    agreed: int
    failed: int
    dropped: int
    same_version: int
    largest_difference: float
    disagreements: Mapping[tuple[str, str], int]
    decides: bool = True

    @property
    def agreement(self) -> float | None:
        """Share of `compared` that agreed; None before the first, and for scores."""
        return self.agreed / self.compared if self.compared and self.decides else None


class ShadowTally:
    """Counts for a ShadowReport. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._compared = self._agreed = self._failed = self._dropped = self._same = self._pending = 0
        self._closed = False
        self._largest = 0.0
        self._decides = True
        self._disagreements: dict[tuple[str, str], int] = {}
        forget_in_child(self)

    def after_fork(self) -> None:
        """The pending copies stayed in the parent."""
        self._pending = 0

    def sent(self, count: int) -> None:
        """Copies are on their way."""
        with self._lock:
            self._pending += count

    def close(self) -> None:
        """Copies in progress will not be compared."""
        with self._lock:
            self._dropped += self._pending
            self._pending, self._closed = 0, True

    def _arrived(self) -> bool:
        """Whether a copy that ends still counts. Call it under the lock."""
        self._pending -= not self._closed
        return not self._closed

    def compare(self, main: Prediction, shadow: Prediction) -> None:
        """Counts one pair of answers."""
        if main.version == shadow.version:
            with self._lock:
                self._same += self._arrived()
            return
        theirs = dict(zip(shadow.labels, shadow.values.tolist(), strict=True))
        ours = zip(main.labels, main.values.tolist(), strict=True)
        largest = max((abs(value - theirs[label]) for label, value in ours if label in theirs), default=1.0)
        with self._lock:
            if not self._arrived():
                return
            self._compared += 1
            self._largest = max(self._largest, largest)
            pair = main.decision, shadow.decision
            self._decides = main.kind.decided is not None
            if not self._decides:
                return
            if pair[0] == pair[1]:
                self._agreed += 1
            else:
                self._disagreements[pair] = self._disagreements.get(pair, 0) + 1

    def failed(self) -> None:
        """The shadow did not answer."""
        with self._lock:
            self._failed += self._arrived()

    def dropped(self, count: int) -> None:
        """Copies were not sent."""
        with self._lock:
            for _ in range(count):
                self._dropped += self._arrived()

    def report(self) -> ShadowReport:
        """The counts so far."""
        with self._lock:
            return ShadowReport(
                self._compared,
                self._agreed,
                self._failed,
                self._dropped,
                self._same,
                self._largest,
                dict(self._disagreements),
                self._decides,
            )
