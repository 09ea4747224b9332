"""The quality of a model on held-out rows, with intervals, by the figure of the kind of answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from duoserve.contract import Answer
from export.measures import RANKED_BY, Array, quality
from export.selection.statistics import Bin, Interval, bootstrap, calibration, gain, proportion


@dataclasses.dataclass(frozen=True, slots=True)
class Judged:
    """The answers of a model beside the right ones.

    Attributes:
        answer: The kind of answer.
        values: The answers, float32 array of shape (rows, labels).
        targets: The right ones, of the same shape.
        groups: The group of each row.
    """

    answer: Answer
    values: Array
    targets: Array
    groups: Sequence[str]

    def figure(self, rows: Any = slice(None)) -> float:
        """The figure on some rows, by their positions."""
        return quality(self.answer, self.values[rows], self.targets[rows])

    def interval(self) -> Interval:
        """The figure with its interval: a share of rows by Wilson, others by a bootstrap."""
        return proportion(self._right, self.groups) if self._is_share else bootstrap(self.figure, self.groups)

    def gain(self, other: Judged) -> Interval:
        """How much higher the figure is than that of another model on the same rows."""
        if self._is_share:
            return gain([self._right], [other._right], [self.groups])
        return bootstrap(lambda rows: self.figure(rows) - other.figure(rows), self.groups)

    def calibration(self) -> tuple[float | None, list[Bin]]:
        """See `statistics.calibration`; for tags over every decision, for scores empty."""
        if self.answer.decided is None:
            return None, []
        if self._is_share:
            return calibration(self.values, self.targets.argmax(axis=1))
        both = np.stack([1 - self.values.ravel(), self.values.ravel()], axis=1)
        return calibration(both, self.targets.ravel().astype(int))

    @property
    def _is_share(self) -> bool:
        return RANKED_BY[self.answer.kind] == "accuracy"

    @property
    def _right(self) -> Array:
        found: Array = self.values.argmax(axis=1) == self.targets.argmax(axis=1)
        return found
