"""Confidence intervals. Rows of one group (variants of one emoji, say) tend to be right or wrong together, so they
count for less than independent rows.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np

from export.measures import Array

_Z: Final = 1.959964  # of the normal distribution, two-sided 95 %
_DRAWS: Final = 10_000
_FIGURE_DRAWS: Final = 1000  # for figures that take longer to compute than a sum
_BINS: Final = 10


class Interval(NamedTuple):
    """A value with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    @property
    def within_an_error(self) -> bool:
        """Whether the value is no further from 0 than its standard error."""
        return abs(self.value) <= (self.high - self.low) / (2 * _Z)


class Bin(NamedTuple):
    """A bin of answers of similar probability: mean probability, share that is right, number of rows."""

    confidence: float
    accuracy: float
    rows: int


def proportion(right: Array, groups: Sequence[str]) -> Interval:
    """The share that is right, with Wilson's interval for the effective number of rows, from the variance over groups.

    Takes a bool array of shape (rows,), at least one row, and the group of each row.
    """
    rows = len(right)
    share = float(np.mean(right))
    codes, count = _codes(groups)
    residuals = np.bincount(codes, right - share, count)
    worth = float(rows)
    if count > 1 and 0 < share < 1:
        variance = float(residuals @ residuals) / rows**2 * count / (count - 1)
        worth = min(worth, 1 + share * (1 - share) / variance) if variance else worth
    elif count < rows:
        worth = float(count)
    centre = (share + _Z**2 / (2 * worth)) / (1 + _Z**2 / worth)
    reach = _Z / (1 + _Z**2 / worth) * np.sqrt(share * (1 - share) / worth + _Z**2 / (4 * worth**2))
    return Interval(share, max(0.0, float(centre - reach)), min(1.0, float(centre + reach)))


def gain(one: Sequence[Array], other: Sequence[Array], groups: Sequence[Sequence[str]]) -> Interval:
    """How much more often `one` is right than `other`, on the same rows: a paired bootstrap.

    Every draw takes runs at random, then groups at random, so the interval covers the chance in
    the training and the chance in what was held out.

    Args:
        one: A bool array of shape (rows,) for each run.
        other: The same rows in the same runs.
        groups: The group of each row, for each run. A group of several runs counts as one group.
    """
    codes, count = _codes([group for run in groups for group in run])
    ends = np.cumsum([len(run) for run in groups])[:-1]
    differences = np.zeros((len(one), count))
    rows = np.zeros((len(one), count))
    for run, (ours, theirs, code) in enumerate(zip(one, other, np.split(codes, ends), strict=True)):
        differences[run] = np.bincount(code, ours.astype(float) - theirs, count)
        rows[run] = np.bincount(code, minlength=count)
    draw = np.random.default_rng(0)
    runs = draw.multinomial(len(one), np.full(len(one), 1 / len(one)), _DRAWS)
    members = draw.multinomial(count, np.full(count, 1 / count), _DRAWS)
    # A run without any drawn group has no value; the other runs replace it.
    drawn_rows = ((members @ rows.T) * runs).sum(axis=1)
    drawn = ((members @ differences.T) * runs).sum(axis=1)[drawn_rows > 0] / drawn_rows[drawn_rows > 0]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(float(differences.sum() / rows.sum()), float(low), float(high))


def bootstrap(figure: Callable[[Array], float], groups: Sequence[str]) -> Interval:
    """A figure, computed from positions of rows, which may repeat, with the interval of a bootstrap over groups."""
    codes, count = _codes(groups)
    members = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    draw = np.random.default_rng(0)
    found = [
        figure(np.concatenate([members[group] for group in draw.integers(count, size=count)]))
        for _ in range(_FIGURE_DRAWS)
    ]
    low, high = np.quantile(found, [0.025, 0.975])
    return Interval(figure(np.arange(len(codes))), float(low), float(high))


def resampled(values: Sequence[float], share: float) -> Interval:
    """The mean over splits of one data set, with the corrected resampled t interval.

    Splits share most of their rows, so their results vary less than those of separate data sets. The
    correction multiplies the variance by 1/n + test/train instead of 1/n (Nadeau and Bengio,
    "Inference for the Generalization Error", Machine Learning 52, 2003).

    Args:
        values: The result of each split, at least two.
        share: The share of the rows that each split holds out, above 0 and below 1.
    """
    mean = float(np.mean(values))
    variance = float(np.var(values, ddof=1)) * (1 / len(values) + share / (1 - share))
    reach = _student(len(values) - 1) * variance**0.5
    return Interval(mean, mean - reach, mean + reach)


def _student(freedom: int) -> float:
    """The two-sided 95 % quantile: with t = sqrt(freedom) * tan(x) the density is cos(x) ** (freedom - 1)."""
    angles = np.linspace(0, np.pi / 2, 200_001)
    density = np.cos(angles) ** (freedom - 1)
    below = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return float(freedom**0.5 * np.tan(np.interp(0.95 * below[-1], below, angles)))


def calibration(probabilities: Array, classes: Array) -> tuple[float, list[Bin]]:
    """Expected calibration error, and its bins.

    The error is the distance between the mean probability of the answers and the share that is right,
    averaged over the rows, in ten bins of equal width. Takes a float array of shape (rows, classes), and the true
    class of each row.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == classes
    position = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    bins = [
        Bin(float(confidence[inside].mean()), float(right[inside].mean()), int(inside.sum()))
        for inside in (position == number for number in range(_BINS))
        if inside.any()
    ]
    error = sum(each.rows * abs(each.confidence - each.accuracy) for each in bins) / len(classes)
    return float(error), bins


def _codes(groups: Sequence[str]) -> tuple[Array, int]:
    names, codes = np.unique(np.asarray(groups), return_inverse=True)
    return codes, len(names)
