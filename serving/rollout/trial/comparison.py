"""Inputs for comparing two versions, and the differences of their answers."""

import contextlib
import csv
import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from duoserve import Clip, Prediction
from duoserve.artifact.samples import GoldenSample
from duoserve.contract import normal_name, score_of_column
from serving.rollout.errors import SettingsError
from serving.rollout.trial.measures import Measure, Truth, measure_for

_NO_SCORES: Final = frozenset(("image", "audio", "text", "split", "group"))
_Z: Final = 1.645  # one-sided 95 %: of twenty versions exactly at a limit, one is stopped by chance


class Input(NamedTuple):
    """An encoded image or Clip, a text and, if known, the right answer."""

    image: bytes | Clip
    text: str
    true: Truth | None = None


class Answers(NamedTuple):
    """The answers of both versions to one input, and the right answer if known."""

    old: Prediction
    new: Prediction
    true: Truth | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """How two versions answered the same inputs.

    Attributes:
        inputs: Number of inputs.
        agreement: Share with the same class from both; for tags the mean overlap, for scores the share that is near.
        drift: Between the distributions of the answers, 0 to 1: see `serving.rollout.trial.measures`.
        moved: Most frequent changes, "old decision -> new decision" with their number.
        labelled: Number of inputs with a known right answer.
        measure: The measure of quality: accuracy, mean F1 or R².
        old_quality: Quality of the old version on the labelled inputs.
        new_quality: The same of the new version.
        squares: Sum over them of the squared difference of quality.
        same: What both versions give if they agree, for messages.
    """

    inputs: int
    agreement: float
    drift: float
    moved: tuple[tuple[str, int], ...] = ()
    labelled: int = 0
    measure: str = Measure.name
    old_quality: float = 0.0
    new_quality: float = 0.0
    squares: float = 0.0
    same: str = Measure.same

    @property
    def agreement_at_most(self) -> float:
        """The upper bound of the agreement for these inputs (Wilson)."""
        if not self.inputs:
            return 1.0
        share, n = self.agreement, self.inputs
        spread = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
        return (share + _Z**2 / (2 * n) + spread) / (1 + _Z**2 / n)

    @property
    def drop_at_least(self) -> float:
        """The lower bound of the loss of quality for these inputs: of paired answers, only those
        of different quality count."""
        if not self.labelled:
            return 0.0
        n = self.labelled
        drop = (self.old_quality - self.new_quality) * n
        spread = _Z * math.sqrt(max(self.squares - drop**2 / n, 0.0))
        return (drop - spread) / n

    @property
    def qualities(self) -> str:
        """Both qualities as text."""
        form = ".1%" if self.measure == Measure.name else ".3f"
        return f"{self.old_quality:{form}} -> {self.new_quality:{form}}"


def read_inputs(path: Path, most: int) -> list[Input]:
    """Inputs from a CSV file with the columns image or audio (a path relative to it) and text, at most `most` of them.

    They are evenly chosen. A column `label` names the true class, or tags separated by bars; without it, columns
    of numbers are the true scores. With a column `split`, only rows of `test` are used: a version does too
    well on its training rows.

    Raises:
        SettingsError: The file or an image can't be read, or there are none.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row.get("split", "test") == "test"]
        step = max(1, -(-len(rows) // most))
        found = [Input(_medium(path.parent, row), row["text"] or "", _truth(row)) for row in rows[::step]]
    except KeyError as error:
        raise SettingsError(f"Expected the columns image and text in {path}. Received: no {error}") from error
    except (OSError, ValueError, TypeError, csv.Error) as error:
        told = f"Expected {path} to be a CSV file with readable images or clips. Received: {error}"
        raise SettingsError(told) from error
    if not found:
        raise SettingsError(f"Expected inputs in {path}. Received: none")
    return found


def from_samples(*groups: Iterable[GoldenSample]) -> list[Input]:
    """The distinct inputs of golden samples, without those with a missing input: one version may need both."""
    found = {}
    for sample in itertools.chain(*groups):
        image, text = sample.pair
        if image is not None and text is not None:
            found[sample.encoded, text] = Input(image, text)
    return list(found.values())


def _medium(folder: Path, row: Mapping[str, str]) -> bytes | Clip:
    return Clip((folder / row["audio"]).read_bytes()) if row.get("audio") else (folder / row["image"]).read_bytes()


def _truth(row: Mapping[str, str]) -> Truth | None:
    if "label" in row:
        return normal_name(row["label"] or "") or None
    scores = {}
    for column in row.keys() - _NO_SCORES:
        with contextlib.suppress(TypeError, ValueError):
            scores[score_of_column(column)[0]] = float(row[column])
    return scores or None


def compare(pairs: Sequence[Answers]) -> Comparison:
    """Compares answers to the same inputs. Labels are matched by name, so their order may change."""
    if not pairs:
        return Comparison(0, 1.0, 0.0)
    old, new = [pair.old for pair in pairs], [pair.new for pair in pairs]
    by = measure_for(old[0], new[0])
    decisions = [(was.decision, now.decision) for was, now in zip(old, new, strict=True)]
    moved = Counter(f"{was or 'none'} -> {now or 'none'}" for was, now in decisions if was != now)
    labelled = [pair for pair in pairs if by.knows(pair.true)]
    true = [pair.true for pair in labelled if pair.true is not None]
    sides = ([pair.old for pair in labelled], [pair.new for pair in labelled])
    was, now = (by.qualities(side, true) if labelled else np.zeros(1) for side in sides)
    return Comparison(
        inputs=len(pairs),
        agreement=float(by.agreements(old, new).mean()),
        drift=by.drift(old, new),
        moved=tuple(moved.most_common(5)),
        labelled=len(labelled),
        measure=by.name,
        old_quality=float(was.mean()),
        new_quality=float(now.mean()),
        squares=float(((was - now) ** 2).sum()),
        same=by.same,
    )
