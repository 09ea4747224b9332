"""Which label or version a call goes to, beside the main one: canary and shadow."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections.abc import Mapping

from duoserve._fork import Lock
from duoserve.errors import InvalidInput
from duoserve.results import Prediction

__all__ = ["Canary", "Shadow", "ShadowReport"]


def _check_share(label: str | None, version: int | None, percent: float) -> None:
    if (label is None) == (version is None):
        raise InvalidInput("Expected a label or a version. Received: both or neither")
    if not 0 <= percent <= 100:
        raise InvalidInput(f"Expected percent between 0 and 100. Received: {percent!r}")


@dataclasses.dataclass(frozen=True, slots=True)
class Canary:
    """Sends a share of the `predict` calls to another label or version.

    Attributes:
        label: The label of the canary, or
        version: its version.
        percent: Share of the calls, 0 to 100. Sticky by the `key` of a call: raising the
            percentage adds keys to the canary and takes none away. Without a key: at random.
        fallback: Answer from the main version when the canary fails.
    """

    label: str | None = None
    version: int | None = None
    percent: float = 5.0
    fallback: bool = True

    def __post_init__(self) -> None:
        _check_share(self.label, self.version, self.percent)

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
    """Sends copies of `predict` calls to another label or version, and compares after the caller was answered.

    Attributes:
        label: The label of the shadow, or
        version: its version.
        percent: Share of the calls that are copied, 0 to 100.
        max_pending: Copies that may wait or run; further ones are dropped and counted.
    """

    label: str | None = None
    version: int | None = None
    percent: float = 100.0
    max_pending: int = 32

    def __post_init__(self) -> None:
        _check_share(self.label, self.version, self.percent)
        if self.max_pending < 1:
            raise InvalidInput(f"Expected max_pending of at least 1. Received: {self.max_pending!r}")

    @property
    def target(self) -> int | str | None:
        """The label or version."""
        return self.label if self.label is not None else self.version


@dataclasses.dataclass(frozen=True, slots=True)
class ShadowReport:
    """How far the shadow agrees with the version that answered.

    Attributes:
        compared: Pairs of answers.
        agreed: Pairs with the same most probable class.
        failed: Copies that the shadow did not answer.
        dropped: Copies that were not sent because too many were pending.
        same_version: Answers that came from the main version itself: nothing was compared.
        largest_difference: Largest difference of a probability of a class that both know.
        disagreements: Count by (class of the main version, class of the shadow).
    """

    compared: int
    agreed: int
    failed: int
    dropped: int
    same_version: int
    largest_difference: float
    disagreements: Mapping[tuple[str, str], int]

    @property
    def agreement(self) -> float | None:
        """Share of `compared` that agreed, None before the first."""
        return self.agreed / self.compared if self.compared else None


class ShadowTally:
    """Counts for a ShadowReport. Safe for many threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._compared = self._agreed = self._failed = self._dropped = self._same = 0
        self._largest = 0.0
        self._disagreements: dict[tuple[str, str], int] = {}

    def compare(self, main: Prediction, shadow: Prediction) -> None:
        """Takes in one pair of answers."""
        if main.version == shadow.version:
            with self._lock:
                self._same += 1
            return
        theirs = dict(zip(shadow.labels, shadow.probabilities.tolist(), strict=True))
        ours = zip(main.labels, main.probabilities.tolist(), strict=True)
        largest = max((abs(value - theirs[label]) for label, value in ours if label in theirs), default=1.0)
        with self._lock:
            self._compared += 1
            self._largest = max(self._largest, largest)
            if main.label == shadow.label:
                self._agreed += 1
            else:
                pair = main.label, shadow.label
                self._disagreements[pair] = self._disagreements.get(pair, 0) + 1

    def failed(self) -> None:
        """The shadow did not answer."""
        with self._lock:
            self._failed += 1

    def dropped(self) -> None:
        """A copy was not sent."""
        with self._lock:
            self._dropped += 1

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
            )
