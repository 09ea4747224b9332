"""The cost of smaller number types: how far answers are from the Keras model's, and the limits."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from duoserve.contract import PreprocessingSpec
from duoserve.preprocessing.preprocessor import Preprocessor
from export.dataset.data import encode, encode_pairs, load_dataset, load_held_out
from export.dataset.rows import Row
from export.errors import ExportError
from export.measures import FIGURES, RANKED_BY, Array, as_text, quality

Run = Callable[[Array, Array], Array]
"""(image, tokens) -> the answer, float32 array of shape (batch, columns)."""

_AT_ONCE: Final = 32


@dataclasses.dataclass(frozen=True, slots=True)
class Limit:
    """The limits for a type of number.

    Attributes:
        difference: Of a probability, on any row; of a score, in standard deviations of the Keras model's scores.
        quality: Largest loss of the figure that ranks models (`export.measures`) on rows with known answers:
            accuracy, mean average precision or R².
    """

    difference: float
    quality: float


LIMITS: Final[Mapping[str, Limit]] = {
    "float16": Limit(difference=0.02, quality=0.005),
    "int8": Limit(difference=0.25, quality=0.01),
    "bfloat16": Limit(difference=0.1, quality=0.005),
}
"""Limits by type of the weights; "bfloat16" is for computing on a server with `--mixed_precision=bfloat16`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Cost:
    """The measured cost of a number type, compared with the Keras model with its own weights.

    Attributes:
        kind: A key of LIMITS.
        rows: Number of rows that both answered.
        difference: The largest; see `Limit.difference`.
        agreement: Share of the rows with the same decision from both: the class, or all tags; None for scores.
        figure: The figure of `quality`, one of `export.measures`.
        quality: With this type; None if the right answers are not known.
        keras_quality: The same of the Keras model.
    """

    kind: str
    rows: int
    difference: float
    agreement: float | None
    figure: str
    quality: float | None = None
    keras_quality: float | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """For the card."""
        measured = {"rows": self.rows, "difference": self.difference, "agreement": self.agreement}
        return {**measured, self.figure: self.quality, f"keras_{self.figure}": self.keras_quality}

    def findings(self) -> Iterator[str]:
        """The figures over their limits."""
        limit = LIMITS[self.kind]
        if not self.difference <= limit.difference:  # NaN is over it
            yield (
                f"expected answers within {limit.difference} of the Keras model's. Received: {self.difference:.2g} off"
            )
        if self.quality is not None and self.keras_quality is not None:
            lost = self.keras_quality - self.quality
            if not lost <= limit.quality:
                most, received = as_text(self.figure, limit.quality), as_text(self.figure, lost)
                yield (
                    f"expected to lose at most {most} of {FIGURES[self.figure]} on {self.rows} rows."
                    f" Received: {received} ({self._qualities()})"
                )

    def __str__(self) -> str:
        limit = LIMITS[self.kind]
        found = f"{self.kind}, {self.rows} rows: {self.difference:.1g} off at most (limit {limit.difference})"
        if self.agreement is not None:
            found += f", {self.agreement:.1%} the same decision"
        if self.quality is None:
            return found
        return f"{found}, {FIGURES[self.figure]} {self._qualities()} (limit -{as_text(self.figure, limit.quality)})"

    def _qualities(self) -> str:
        assert self.quality is not None and self.keras_quality is not None
        return f"{as_text(self.figure, self.keras_quality)} to {as_text(self.figure, self.quality)}"


def held_out_rows(folder: Path, facts: Mapping[str, Any]) -> tuple[Row, ...]:
    """The rows of a folder with `manifest.csv` that a model, with these facts of its training, has not seen.

    Raises:
        DataError: Invalid rows.
        ExportError: Other data than the training's: its held-out rows may have been trained on.
    """
    if "data_digest" not in facts:
        return load_held_out(folder, answer=facts.get("answer"), progress=False).rows
    dataset = load_dataset(folder, answer=facts.get("answer"), seed=facts["seed"], progress=False)
    if dataset.digest != facts["data_digest"]:
        raise ExportError(f"Expected the data that the model was trained on. Received: other rows in {folder}")
    return dataset.select("test")


def measure_cost(
    kind: str, spec: PreprocessingSpec, rows: Sequence[Row] | Sequence[tuple[bytes, str]], model: Run, packed: Run
) -> Cost:
    """Compares a model with its own weights and with another number type (`packed`).

    Args:
        kind: The type, a key of LIMITS.
        spec: The spec of both.
        rows: Rows of a data set, or encoded images and texts without known answers; at least one.
        model: With its own weights.
        packed: With the other type.

    Raises:
        DataError: A row's image has changed since it was checked, or its label is not one of the model's.
    """
    preprocessor = Preprocessor(spec)
    expected, received, known = [], [], list[Array]()
    for start in range(0, len(rows), _AT_ONCE):
        part: Any = rows[start : start + _AT_ONCE]
        if isinstance(part[0], Row):
            arrays = encode(part, preprocessor, progress=False)
            image, tokens = arrays.images, arrays.tokens
            known.append(arrays.targets)
        else:
            image, tokens = encode_pairs(part, preprocessor)
        expected.append(model(image, tokens))
        received.append(packed(image, tokens))
    answer = spec.answer
    wanted, found = np.concatenate(expected), np.concatenate(received)
    truth = np.concatenate(known) if known else None
    decisions = [[answer.decision(row, spec.labels) for row in answers] for answers in (wanted, found)]
    agreed = float(np.mean([one == other for one, other in zip(*decisions, strict=True)]))
    # Differences of probabilities are absolute, those of scores in standard deviations.
    unit = 1.0 if answer.decided else np.maximum(wanted.std(axis=0), 1e-6 * np.abs(wanted).max(axis=0) + 1e-30)
    return Cost(
        kind,
        rows=len(wanted),
        difference=float((np.abs(wanted - found) / unit).max()),
        agreement=agreed if answer.decided else None,
        figure=RANKED_BY[answer.kind],
        quality=None if truth is None else quality(answer, found, truth),
        keras_quality=None if truth is None else quality(answer, wanted, truth),
    )
