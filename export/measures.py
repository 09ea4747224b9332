"""The quality of answers, by kind of answer: figures on held-out rows, and the one that ranks models.

Definitions are those of scikit-learn: average precision without interpolation, ROC AUC with ties counted half,
R² of a constant score 1 if every answer is right, else 0.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from duoserve.contract import Answer, OneClass, Scores, Tags, YesNo

Array = npt.NDArray[Any]

RANKED_BY: Final[Mapping[str, str]] = {
    OneClass.kind: "accuracy",
    YesNo.kind: "accuracy",
    Tags.kind: "mean_average_precision",
    Scores.kind: "r2",
}
"""By kind of answer, the figure of `measure` that ranks models: higher is better."""

FIGURES: Final[Mapping[str, str]] = {
    "accuracy": "accuracy",
    "mean_average_precision": "mean average precision",
    "r2": "R²",
}
"""The names of figures in sentences."""

_GRID: Final = np.arange(1, 100) / 100


def as_text(figure: str, value: float) -> str:
    """A figure as text: shares of rows in per cent, others as numbers."""
    return f"{value:.1%}" if figure == "accuracy" else f"{value:.3f}"


def measure(answer: Answer, labels: Sequence[str], values: Array, targets: Array) -> dict[str, Any]:
    """The figures on held-out rows, at least one, as JSON's types.

    Args:
        answer: The kind of answer.
        labels: Names of the columns.
        values: The answers, float array of shape (rows, labels).
        targets: The right ones, of the same shape, as from `export.dataset.targets.targets`.
    """
    return _MEASURES[answer.kind](labels, values.astype(np.float64), targets.astype(np.float64))


def quality(answer: Answer, values: Array, targets: Array) -> float:
    """Only the figure that ranks models, of the same arrays."""
    if isinstance(answer, Tags):
        return _mean_average_precision(values, targets)
    if isinstance(answer, Scores):
        return float(np.mean([r2(*each) for each in zip(values.T, targets.T, strict=True)]))
    return float((values.argmax(axis=1) == targets.argmax(axis=1)).mean())


def shown(answer: Answer, metrics: Mapping[str, Any]) -> str:
    """The figures as one line of text."""
    if isinstance(answer, Tags):
        precision = f"mean average precision {metrics['mean_average_precision']:.3f}"
        return f"{precision}, F1 {metrics['f1']:.3f} at the thresholds"
    if isinstance(answer, Scores):
        return "; ".join(
            f"{name} {error:.4g} off on average, R² {metrics['r2_of'][name]:.3f}"
            for name, error in metrics["mean_absolute_error"].items()
        )
    area = metrics.get("roc_auc")
    return f"{metrics['accuracy']:.1%} right" + (f", ROC AUC {area:.3f}" if area is not None else "")


def average_precision(values: Array, truth: Array) -> float:
    """Area under precision over recall, in steps: the sum of (R_n - R_(n-1)) P_n over the distinct values.

    Takes two float arrays of shape (rows,); `truth` is 1 where the tag is right, at least once.
    """
    hits, rows = _cumulated(values, truth)
    precision, recall = hits / rows, hits / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def roc_auc(values: Array, truth: Array) -> float | None:
    """How often a "yes" row has a higher value than a "no" row, equal ones counted half; None without such pairs."""
    hits, rows = _cumulated(values, truth)
    misses = rows - hits
    if not hits[-1] or not misses[-1]:
        return None
    rate, false_rate = np.append(0.0, hits / hits[-1]), np.append(0.0, misses / misses[-1])
    return float(np.sum(np.diff(false_rate) * (rate[1:] + rate[:-1]) / 2))


def r2(values: Array, truth: Array) -> float:
    """The coefficient of determination: 1 is perfect, 0 as good as the mean of the truth."""
    wrong = float(np.sum((truth - values) ** 2))
    spread = float(np.sum((truth - truth.mean()) ** 2))
    return 1 - wrong / spread if spread else float(wrong == 0)


def f1(chosen: Array, truth: Array) -> float:
    """Harmonic mean of precision and recall: 2 TP / (2 TP + FP + FN), of arrays of 0 and 1; truth has a 1."""
    return float(2 * np.sum(chosen * truth) / (np.sum(chosen) + np.sum(truth)))


def fitted(answer: Answer, values: Array, targets: Array) -> Answer:
    """The answer with thresholds of tags chosen on held-out rows. Takes the arguments of `measure`."""
    return Tags(choose_thresholds(values, targets)) if isinstance(answer, Tags) else answer


def choose_thresholds(values: Array, targets: Array) -> tuple[float, ...]:
    """For each tag the threshold with the best F1 on these rows, of 0.01 to 0.99; of equal ones that nearest to 0.5.

    A tag that no row has keeps 0.5. Takes two float arrays of shape (rows, tags).
    """
    order = _GRID[np.argsort(np.abs(_GRID - 0.5), kind="stable")]
    found = []
    for column, truth in zip(values.T, targets.T, strict=True):
        if not truth.any():
            found.append(0.5)
            continue
        chosen = column[:, None] >= order.astype(np.float32)
        hits = (chosen * truth[:, None]).sum(axis=0)
        found.append(float(order[np.argmax(2 * hits / (chosen.sum(axis=0) + truth.sum()))]))
    return tuple(found)


def _cumulated(values: Array, truth: Array) -> tuple[Array, Array]:
    """Right rows and all rows from the highest value down to each distinct one."""
    order = np.argsort(-values, kind="stable")
    last = np.flatnonzero(np.append(np.diff(values[order]) != 0, True))
    return np.cumsum(truth[order])[last], last + 1.0


def _classes(labels: Sequence[str], values: Array, targets: Array) -> dict[str, Any]:
    """Accuracy, mean recall of the classes, cross-entropy, and the share of the largest class."""
    classes = targets.argmax(axis=1)
    right = values.argmax(axis=1) == classes
    return {
        "accuracy": float(right.mean()),
        "balanced_accuracy": float(np.mean([right[classes == each].mean() for each in np.unique(classes)])),
        "loss": _entropy(values[targets > 0]),
        "largest_class": float(np.bincount(classes).max() / len(right)),
    }


def _yes_no(labels: Sequence[str], values: Array, targets: Array) -> dict[str, Any]:
    return {**_classes(labels, values, targets), "roc_auc": roc_auc(values[:, 1], targets[:, 1])}


def _tags(labels: Sequence[str], values: Array, targets: Array) -> dict[str, Any]:
    """Mean average precision and mean F1 over the tags that a row has; the thresholds are chosen on other rows."""
    f1s = [_crossed_f1(*each) for each in zip(values.T, targets.T, strict=True) if each[1].any()]
    return {
        "mean_average_precision": _mean_average_precision(values, targets),
        "f1": float(np.mean(f1s)) if f1s else 0.0,
        "loss": _entropy(np.where(targets > 0, values, 1 - values)),
        "rows_with_tag": {label: int(column.sum()) for label, column in zip(labels, targets.T, strict=True)},
    }


def _scores(labels: Sequence[str], values: Array, targets: Array) -> dict[str, Any]:
    """Mean absolute error and R² of each score, R² over all, and the squared error over the variance."""
    each = {label: r2(*pair) for label, *pair in zip(labels, values.T, targets.T, strict=True)}
    mean = float(np.mean(list(each.values())))
    errors = np.abs(values - targets).mean(axis=0).tolist()
    return {"r2": mean, "r2_of": each, "mean_absolute_error": dict(zip(labels, errors, strict=True)), "loss": 1 - mean}


def _crossed_f1(values: Array, truth: Array) -> float:
    """F1 of one tag with each half of the rows at the threshold that is best on the other half."""
    chosen = np.zeros(len(values))
    half = np.arange(len(values)) % 2 == 0
    for here in (half, ~half):
        (threshold,) = choose_thresholds(values[~here, None], truth[~here, None])
        chosen[here] = values[here] >= np.float32(threshold)
    return f1(chosen, truth)


def _mean_average_precision(values: Array, targets: Array) -> float:
    found = [average_precision(*each) for each in zip(values.T, targets.T, strict=True) if each[1].any()]
    return float(np.mean(found)) if found else 0.0


def _entropy(probabilities: Array) -> float:
    """Mean cross-entropy, from the probabilities of the right answers."""
    return abs(float(np.log(np.maximum(probabilities, 1e-12)).mean()))


_MEASURES: Final[Mapping[str, Callable[[Sequence[str], Array, Array], dict[str, Any]]]] = {
    OneClass.kind: _classes,
    YesNo.kind: _yes_no,
    Tags.kind: _tags,
    Scores.kind: _scores,
}
