"""Inputs on which two versions are compared, and how far their answers are apart."""

from __future__ import annotations

import csv
import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from duoserve import Clip, Prediction
from duoserve.artifact.samples import GoldenSample
from serving.rollout.errors import SettingsError

__all__ = ["Answers", "Comparison", "Input", "compare", "from_samples", "read_inputs"]

_Z: Final = 1.645  # one-sided 95 %: of twenty versions that just keep to a limit, one is stopped by chance


class Input(NamedTuple):
    """An encoded image or Clip, a text and, where it is known, the true class."""

    image: bytes | Clip
    text: str
    label: str | None = None


class Answers(NamedTuple):
    """What both versions answered to one input, and the true class where it is known."""

    old: Prediction
    new: Prediction
    true: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """How two versions answered the same inputs.

    Attributes:
        inputs: How many.
        agreement: Share of them with the same class from both.
        drift: Total variation between the mean probabilities of the classes, 0 to 1.
        moved: Most frequent changes, "old class -> new class" with their number.
        labelled: Inputs whose true class is known.
        old_accuracy: Share of the labelled ones that the old version gets right.
        new_accuracy: The same of the new version.
        lost: Labelled inputs that only the old version gets right.
        gained: Those that only the new version has right.
    """

    inputs: int
    agreement: float
    drift: float
    moved: tuple[tuple[str, int], ...] = ()
    labelled: int = 0
    old_accuracy: float = 0.0
    new_accuracy: float = 0.0
    lost: int = 0
    gained: int = 0

    @property
    def agreement_at_most(self) -> float:
        """What the agreement may be at most, going by these inputs: Wilson's bound."""
        if not self.inputs:
            return 1.0
        share, n = self.agreement, self.inputs
        centre = share + _Z**2 / (2 * n)
        spread = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
        return (centre + spread) / (1 + _Z**2 / n)

    @property
    def drop_at_least(self) -> float:
        """By how much the accuracy falls at least, going by these inputs: of paired answers, only those count
        that one version has right and the other has not."""
        if not self.labelled:
            return 0.0
        n, drop = self.labelled, self.lost - self.gained
        spread = _Z * math.sqrt(max(self.lost + self.gained - drop**2 / n, 0.0))
        return (drop - spread) / n


def read_inputs(path: Path, most: int) -> list[Input]:
    """Inputs from a CSV file with the columns image or audio (a path relative to it) and text, at most `most` of them.

    They are evenly chosen. A column `label` names the true class. Where there is a column `split`, only its rows `test`
    are taken: a version does too well on what it was trained with.

    Raises:
        SettingsError: The file or an image can't be read, or there are none.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row.get("split", "test") == "test"]
        step = max(1, -(-len(rows) // most))
        found = [Input(_medium(path.parent, row), row["text"] or "", row.get("label") or None) for row in rows[::step]]
    except KeyError as error:
        raise SettingsError(f"Expected the columns image and text in {path}. Received: no {error}") from error
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise SettingsError(
            f"Expected {path} to be a CSV file with readable images or clips. Received: {error}"
        ) from error
    if not found:
        raise SettingsError(f"Expected inputs in {path}. Received: none")
    return found


def from_samples(*groups: Iterable[GoldenSample]) -> list[Input]:
    """The inputs of golden samples, each once. Those with a missing input are left out: one version may need both."""
    found = {}
    for sample in (sample for group in groups for sample in group):
        image, text = sample.pair
        if image is not None and text is not None:
            found[sample.encoded, text] = Input(image, text)
    return list(found.values())


def _medium(folder: Path, row: Mapping[str, str]) -> bytes | Clip:
    return Clip((folder / row["audio"]).read_bytes()) if row.get("audio") else (folder / row["image"]).read_bytes()


def compare(pairs: Sequence[Answers]) -> Comparison:
    """Compares answers to the same inputs. Classes are matched by name, so their order may change."""
    if not pairs:
        return Comparison(0, 1.0, 0.0)
    old, new = [pair.old for pair in pairs], [pair.new for pair in pairs]
    means = [_mean(side) for side in (old, new)]
    names = means[0].keys() | means[1].keys()
    moved = Counter(f"{was.label} -> {now.label}" for was, now in zip(old, new, strict=True) if was.label != now.label)
    right = [(pair.old.label == pair.true, pair.new.label == pair.true) for pair in pairs if pair.true is not None]
    return Comparison(
        inputs=len(pairs),
        agreement=1 - moved.total() / len(pairs),
        drift=sum(abs(means[0].get(name, 0.0) - means[1].get(name, 0.0)) for name in names) / 2,
        moved=tuple(moved.most_common(5)),
        labelled=len(right),
        old_accuracy=sum(before for before, _ in right) / max(len(right), 1),
        new_accuracy=sum(after for _, after in right) / max(len(right), 1),
        lost=sum(before and not after for before, after in right),
        gained=sum(after and not before for before, after in right),
    )


def _mean(predictions: Sequence[Prediction]) -> dict[str, float]:
    total: dict[str, float] = {}
    for prediction in predictions:
        for label, probability in zip(prediction.labels, prediction.probabilities.tolist(), strict=True):
            total[label] = total.get(label, 0.0) + probability
    return {label: value / len(predictions) for label, value in total.items()}
