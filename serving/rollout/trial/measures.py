"""The comparison of two versions, by kind of answer: quality of each answer, agreement, and drift."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt

from duoserve import Prediction
from duoserve.contract import BAR, OneClass, Scores, Tags, YesNo, normal_name

Truth = str | Mapping[str, float]
"""The right answer: the class, the tags separated by bars, or the scores by name."""

Array = npt.NDArray[np.float64]

_NEAR: Final = 0.5  # standard deviations of the old version's scores: the usual distance of two trainings


class Measure:
    """The measures for one class. Base of the kinds.

    Attributes:
        name: The name of the mean of `qualities`.
        same: What two versions give if they agree, for messages.
    """

    name = "accuracy"
    same = "the same class"

    def knows(self, true: Truth | None) -> bool:
        """Whether answers of the kind can be compared with this."""
        return isinstance(true, str)

    def qualities(self, answers: Sequence[Prediction], true: Sequence[Truth]) -> Array:
        """The quality of each answer: 1 if it is right, else less. Their mean is the figure `name`."""
        pairs = zip(answers, true, strict=True)
        return np.array([float(normal_name(answer.decision) == truth) for answer, truth in pairs])

    def agreements(self, old: Sequence[Prediction], new: Sequence[Prediction]) -> Array:
        """The agreement of each pair of answers, 0 to 1."""
        return np.array([float(was.decision == now.decision) for was, now in zip(old, new, strict=True)])

    def drift(self, old: Sequence[Prediction], new: Sequence[Prediction]) -> float:
        """Total variation between the mean probabilities, 0 to 1."""
        return min(1.0, float(np.abs(_shift(old, new)).sum() / 2))


class TagMeasure(Measure):
    """Sets of tags: F1 of each answer, the overlap of two."""

    name = "mean F1"
    same = "the same tags"

    def qualities(self, answers: Sequence[Prediction], true: Sequence[Truth]) -> Array:
        found = []
        for answer, truth in zip(answers, true, strict=True):
            given, right = set(map(normal_name, answer.tags)), _tags(truth)
            found.append(2 * len(given & right) / (len(given) + len(right)) if given or right else 1.0)
        return np.array(found)

    def agreements(self, old: Sequence[Prediction], new: Sequence[Prediction]) -> Array:
        sets = [(set(was.tags), set(now.tags)) for was, now in zip(old, new, strict=True)]
        return np.array([len(was & now) / len(was | now) if was | now else 1.0 for was, now in sets])

    def drift(self, old: Sequence[Prediction], new: Sequence[Prediction]) -> float:
        """The largest change of a tag's mean probability."""
        return float(np.abs(_shift(old, new)).max())


class ScoreMeasure(Measure):
    """Numbers: the coefficient of determination, nearness, and the distance of distributions."""

    name = "R²"
    same = "the same scores"

    def knows(self, true: Truth | None) -> bool:
        return isinstance(true, Mapping)

    def qualities(self, answers: Sequence[Prediction], true: Sequence[Truth]) -> Array:
        names = [name for name in answers[0].labels if all(name in truth for truth in true)]
        right = np.array([[dict(truth)[name] for name in names] for truth in true if isinstance(truth, Mapping)])
        given = np.array([[answer.scores[name] for name in names] for answer in answers])
        errors: Array = (given - right) ** 2 / np.maximum(right.var(axis=0), np.finfo(float).tiny)
        found: Array = 1 - errors.mean(axis=1)
        return found

    def agreements(self, old: Sequence[Prediction], new: Sequence[Prediction]) -> Array:
        was, now = _both(old, new)
        return np.asarray((np.abs(was - now) <= _NEAR * was.std(axis=0)).all(axis=1), float)

    def drift(self, old: Sequence[Prediction], new: Sequence[Prediction]) -> float:
        """The largest distance of two distributions of a score (Kolmogorov and Smirnov), 0 to 1."""
        return max(_distance(*columns) for columns in zip(*(side.T for side in _both(old, new)), strict=True))


_MEASURES: Final[Mapping[str, Measure]] = MappingProxyType(
    {OneClass.kind: Measure(), YesNo.kind: Measure(), Tags.kind: TagMeasure(), Scores.kind: ScoreMeasure()}
)


def measure_for(old: Prediction, new: Prediction) -> Measure:
    """The measures for two versions; if their kinds of answer differ, their decisions as texts."""
    kinds = {old.kind.kind, new.kind.kind}
    return _MEASURES[kinds.pop()] if len(kinds) == 1 and set(old.labels) & set(new.labels) else Measure()


def _shift(old: Sequence[Prediction], new: Sequence[Prediction]) -> Array:
    """The change of the mean value of each column. Columns are matched by name; a missing one counts as 0."""
    means = [
        dict(zip(side[0].labels, np.mean([one.values for one in side], axis=0, dtype=float), strict=True))
        for side in (old, new)
    ]
    return np.array([means[1].get(name, 0.0) - means[0].get(name, 0.0) for name in means[0] | means[1]])


def _both(old: Sequence[Prediction], new: Sequence[Prediction]) -> tuple[Array, Array]:
    """The scores that both versions have: two arrays of shape (inputs, scores)."""
    names = [name for name in old[0].labels if name in new[0].labels]
    was, now = (np.array([[one.scores[name] for name in names] for one in side]) for side in (old, new))
    return was, now


def _distance(one: Array, other: Array) -> float:
    values = np.concatenate([one, other])
    below = [np.searchsorted(np.sort(side), values, side="right") / len(side) for side in (one, other)]
    return float(np.abs(below[0] - below[1]).max())


def _tags(truth: Truth) -> set[str]:
    return {normal_name(tag) for tag in str(truth).split(BAR)} - {""}
