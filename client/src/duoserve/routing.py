"""Canary and shadow: the labels or versions that calls go to beside the main one."""

import collections
import dataclasses
import hashlib
import random
from collections.abc import Mapping
from typing import Any

from duoserve._checks import Target, expect_kind, expect_number, expect_whole, resolve_target
from duoserve._transport.fork import Lock, forget_in_child
from duoserve.errors import InvalidInput
from duoserve.results import Prediction

__all__ = ["Canary", "Shadow", "ShadowReport"]


@dataclasses.dataclass(frozen=True, slots=True)
class _Share:
    """A share of the calls, and the label or version that they go to."""

    label: str | None = None
    version: int | None = None
    percent: float = 100.0

    def __post_init__(self) -> None:
        if resolve_target(self.label, self.version) is None:
            raise InvalidInput("Expected a label or a version. Received: neither")
        expect_number("percent", self.percent, 0, 100)

    @property
    def target(self) -> Target:
        """The label or version."""
        return self.label if self.label is not None else self.version


@dataclasses.dataclass(frozen=True, slots=True)
class Canary(_Share):
    """Sends a share of the `predict` and `predict_batch` calls to another label or version.

    Attributes:
        label: The label of the canary, or
        version: its version.
        percent: Share of the calls, 0 to 100. Sticky by the `key` of a call: raising the
            percentage adds keys to the canary and removes none. Without a key: at random.
        fallback: Answer from the main version when the canary fails; in a batch, row by row.
    """

    percent: float = 5.0
    fallback: bool = True

    def __post_init__(self) -> None:
        _Share.__post_init__(self)
        expect_kind("fallback", self.fallback, bool, "True or False")

    def takes(self, key: str | None) -> bool:
        """Whether a call with this key goes to the canary."""
        if key is None:
            return random.random() * 100 < self.percent  # noqa: S311 -- a share, not a secret
        bucket = int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:8], "big")
        return bucket * 100 < self.percent * 2**64


@dataclasses.dataclass(frozen=True, slots=True)
class Shadow(_Share):
    """Sends copies of the answered rows of `predict` and `predict_batch` to another label or version, and compares.

    Attributes:
        label: The label of the shadow, or
        version: its version.
        percent: Share of the rows to copy, 0 to 100.
        max_pending: Requests with copies that may wait or run; further ones are dropped and
            counted. A batch's requests are copied whole: up to max_batch_size rows each.
    """

    max_pending: int = 32

    def __post_init__(self) -> None:
        _Share.__post_init__(self)
        expect_whole("max_pending", self.max_pending, 1, 1 << 20)


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
        self._counts: dict[str, Any] = dict.fromkeys(("compared", "agreed", "failed", "dropped", "same_version"), 0)
        self._disagreements = collections.Counter[tuple[str, str]]()
        self._largest = 0.0
        self._decides = True
        self._pending = 0
        self._closed = False
        forget_in_child(self)

    def after_fork(self) -> None:
        """The pending copies stayed in the parent."""
        self._pending = 0

    def sent(self, count: int) -> None:
        """Copies are on their way."""
        with self._lock:
            self._pending += count

    def ended(self, outcome: str, copies: int = 1) -> None:
        """Counts copies as `outcome`, a field of ShadowReport."""
        with self._lock:
            self._count(outcome, copies)

    def _count(self, outcome: str, copies: int = 1) -> bool:
        """Call it under the lock. Returns False after `close`: the copies were counted there."""
        if not self._closed:
            self._pending -= copies
            self._counts[outcome] += copies
        return not self._closed

    def compare(self, main: Prediction, shadow: Prediction) -> None:
        """Counts one pair of answers."""
        if main.version == shadow.version:
            self.ended("same_version")
            return
        theirs = dict(zip(shadow.labels, shadow.values.tolist(), strict=True))
        ours = zip(main.labels, main.values.tolist(), strict=True)
        largest = max((abs(value - theirs[label]) for label, value in ours if label in theirs), default=1.0)
        pair = main.decision, shadow.decision
        with self._lock:
            if not self._count("compared"):
                return
            self._largest = max(self._largest, largest)
            self._decides = main.kind.decided is not None
            if self._decides and pair[0] == pair[1]:
                self._counts["agreed"] += 1
            elif self._decides:
                self._disagreements[pair] += 1

    def close(self) -> None:
        """Copies in progress will not be compared."""
        with self._lock:
            self._count("dropped", self._pending)
            self._closed = True

    def report(self) -> ShadowReport:
        """The counts so far."""
        with self._lock:
            return ShadowReport(
                **self._counts,
                largest_difference=self._largest,
                disagreements=dict(self._disagreements),
                decides=self._decides,
            )
