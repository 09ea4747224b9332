"""The quality of candidates on the same held-out rows, with intervals, by the figure of the kind of answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from duoserve.contract import Answer
from export.measures import RANKED_BY, quality
from export.selection.statistics import Bin, Interval, bootstrap, calibration, gain, proportion

__all__ = ["Judge"]

Array = npt.NDArray[Any]


class Judge:
    """Compares answers with the right ones.

    Args:
        answer: The kind of answer.
        targets: The right answers for each candidate, float32 array of shape (rows, labels), in the order of its
            labels.
        groups: The group of each row.
    """

    def __init__(self, answer: Answer, targets: Sequence[Array], groups: Sequence[str]) -> None:
        self._answer = answer
        self._targets = targets
        self._groups = groups
        self._is_share = RANKED_BY[answer.kind] == "accuracy"

    def figure(self, position: int, values: Array, rows: Any = slice(None)) -> float:
        """The figure of a candidate on some rows.

        Args:
            position: Position of the candidate.
            values: Its answers.
            rows: Their positions.
        """
        return quality(self._answer, values[rows], self._targets[position][rows])

    def interval(self, position: int, values: Array) -> Interval:
        """The figure with its interval: a share of rows by Wilson, others by a bootstrap."""
        if self._is_share:
            return proportion(self._right(position, values), self._groups)
        return bootstrap(lambda rows: self.figure(position, values, rows), self._groups)

    def gain(self, values: Sequence[Array], one: int, other: int) -> Interval:
        """How much higher the figure of one candidate is than that of another on the same rows.

        Args:
            values: Answers of every candidate.
            one: Position of the one.
            other: Position of the other.
        """
        if self._is_share:
            ours, theirs = (self._right(position, values[position]) for position in (one, other))
            return gain([ours], [theirs], [self._groups])
        return bootstrap(
            lambda rows: self.figure(one, values[one], rows) - self.figure(other, values[other], rows), self._groups
        )

    def calibration(self, position: int, values: Array) -> tuple[float | None, list[Bin]]:
        """See `statistics.calibration`; for tags over every decision, for scores empty."""
        targets = self._targets[position]
        if self._answer.decided is None:
            return None, []
        if self._is_share:
            return calibration(values, targets.argmax(axis=1))
        both = np.stack([1 - values.ravel(), values.ravel()], axis=1)
        return calibration(both, targets.ravel().astype(int))

    def _right(self, position: int, values: Array) -> Array:
        found: Array = values.argmax(axis=1) == self._targets[position].argmax(axis=1)
        return found
