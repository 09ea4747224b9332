"""Inputs on which two versions are compared, and how far their answers are apart."""

from __future__ import annotations

import csv
import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from duoserve import Prediction
from duoserve.samples import GoldenSample
from serving.rollout.errors import SettingsError

__all__ = ["Comparison", "Input", "compare", "from_samples", "read_inputs"]

Input = tuple[bytes, str]
"""An encoded image and a text."""


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """How two versions answered the same inputs.

    Attributes:
        inputs: How many.
        agreement: Share of them with the same class from both.
        drift: Total variation between the mean probabilities of the classes, 0 to 1.
        moved: Most frequent changes, "old class -> new class" with their number.
    """

    inputs: int
    agreement: float
    drift: float
    moved: tuple[tuple[str, int], ...] = ()


def read_inputs(path: Path, most: int) -> list[Input]:
    """Inputs from a CSV file with the columns image (path relative to it) and text, at most `most`, evenly chosen.

    Raises:
        SettingsError: The file or an image can't be read, or there are none.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [(row["image"], row["text"]) for row in csv.DictReader(file)]
        step = max(1, -(-len(rows) // most))
        found = [((path.parent / image).read_bytes(), text or "") for image, text in rows[::step]]
    except KeyError as error:
        raise SettingsError(f"Expected the columns image and text in {path}. Received: no {error}") from error
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise SettingsError(f"Expected {path} to be a CSV file with readable images. Received: {error}") from error
    if not found:
        raise SettingsError(f"Expected inputs in {path}. Received: none")
    return found


def from_samples(*groups: Iterable[GoldenSample]) -> list[Input]:
    """The inputs of golden samples, each once."""
    return list(dict.fromkeys((sample.image_bytes, sample.text) for group in groups for sample in group))


def compare(pairs: Sequence[tuple[Prediction, Prediction]]) -> Comparison:
    """Compares answers, old and new, to the same inputs. Classes are matched by name, so their order may change."""
    if not pairs:
        return Comparison(0, 1.0, 0.0)
    old, new = ([pair[side] for pair in pairs] for side in (0, 1))
    means = [_mean(side) for side in (old, new)]
    names = means[0].keys() | means[1].keys()
    moved = Counter(f"{was.label} -> {now.label}" for was, now in pairs if was.label != now.label)
    return Comparison(
        inputs=len(pairs),
        agreement=1 - moved.total() / len(pairs),
        drift=sum(abs(means[0].get(name, 0.0) - means[1].get(name, 0.0)) for name in names) / 2,
        moved=tuple(moved.most_common(5)),
    )


def _mean(predictions: Sequence[Prediction]) -> dict[str, float]:
    total: dict[str, float] = {}
    for prediction in predictions:
        for label, probability in zip(prediction.labels, prediction.probabilities.tolist(), strict=True):
            total[label] = total.get(label, 0.0) + probability
    return {label: value / len(predictions) for label, value in total.items()}
