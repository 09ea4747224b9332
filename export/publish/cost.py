"""What numbers of fewer bytes cost: how far the answers are from the Keras model's, and what is accepted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from duoserve.contract import PreprocessingSpec
from duoserve.preprocessing.preprocessor import Preprocessor
from export.dataset.data import Row, encode, encode_pairs, load_dataset, load_held_out
from export.errors import ExportError

__all__ = ["LIMITS", "Cost", "Limit", "held_out_rows", "measure_cost"]

Array = npt.NDArray[Any]
Run = Callable[[Array, Array], Array]
"""(image, tokens) -> probabilities, float32 array of shape (batch, classes)."""

_AT_ONCE: Final = 32


@dataclasses.dataclass(frozen=True, slots=True)
class Limit:
    """What a type of number may cost.

    Attributes:
        difference: Of a probability, on any row.
        accuracy: Share of all rows that is lost, net, where their classes are known.
    """

    difference: float
    accuracy: float


LIMITS: Final[Mapping[str, Limit]] = MappingProxyType(
    {
        "float16": Limit(difference=0.02, accuracy=0.005),
        "int8": Limit(difference=0.25, accuracy=0.01),
        "bfloat16": Limit(difference=0.1, accuracy=0.005),
    }
)
"""By type: of the weights; bfloat16, of what a server with `--mixed_precision=bfloat16` computes with."""


@dataclasses.dataclass(frozen=True, slots=True)
class Cost:
    """What it cost, beside the Keras model with its own weights.

    Attributes:
        kind: Type of the weights.
        rows: Pairs that both were asked about.
        difference: Largest difference of a probability.
        agreement: Share of the rows that both put into the same class.
        accuracy: Share of the rows that are right with these weights; None where the classes are not known.
        keras_accuracy: The same of the Keras model.
    """

    kind: str
    rows: int
    difference: float
    agreement: float
    accuracy: float | None = None
    keras_accuracy: float | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """For the card."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name != "kind"}

    def findings(self) -> Iterator[str]:
        """What is over the limit."""
        limit = LIMITS[self.kind]
        if not self.difference <= limit.difference:  # not a number is over it
            yield (
                f"expected probabilities within {limit.difference} of the Keras model's."
                f" Received: {self.difference:.2g} off"
            )
        if self.accuracy is not None and self.keras_accuracy is not None:
            lost = self.keras_accuracy - self.accuracy
            if lost > limit.accuracy:
                yield (
                    f"expected to lose at most {limit.accuracy:.1%} of {self.rows} rows."
                    f" Received: {lost:.1%} ({self.keras_accuracy:.1%} to {self.accuracy:.1%})"
                )

    def __str__(self) -> str:
        limit = LIMITS[self.kind]
        found = (
            f"{self.kind}, {self.rows} rows: {self.difference:.1g} off at most (limit {limit.difference}),"
            f" {self.agreement:.1%} the same class"
        )
        if self.accuracy is None:
            return found
        return f"{found}, {self.keras_accuracy:.1%} to {self.accuracy:.1%} right (limit -{limit.accuracy:.1%})"


def held_out_rows(folder: Path, facts: Mapping[str, Any]) -> tuple[Row, ...]:
    """The rows of a folder that a model has not seen.

    Args:
        folder: Has `manifest.csv`, as for training.
        facts: Of the training; where they name the data, the folder must hold the same.

    Raises:
        DataError: Something is wrong with the rows.
        ExportError: Other data than the training's, whose held-out rows may be among those it saw.
    """
    if "data_digest" not in facts:
        return load_held_out(folder, progress=False)
    dataset = load_dataset(folder, seed=facts["seed"], progress=False)
    if dataset.digest != facts["data_digest"]:
        raise ExportError(f"Expected the data that the model was trained on. Received: other rows in {folder}")
    return dataset.select("test")


def measure_cost(
    kind: str,
    spec: PreprocessingSpec,
    rows: Sequence[Row] | Sequence[tuple[bytes, str]],
    model: Run,
    packed: Run,
) -> Cost:
    """Asks the model with its own weights and with the packed ones.

    Args:
        kind: Type of the packed weights.
        spec: Of both.
        rows: Of a dataset, or encoded images and texts whose classes are not known; at least one.
        model: With its own weights.
        packed: With the packed ones.

    Raises:
        DataError: A row's image has changed since it was checked.
        ExportError: A row's label is none of the model's.
    """
    preprocessor = Preprocessor(spec)
    expected, received, classes = [], [], list[Array]()
    for start in range(0, len(rows), _AT_ONCE):
        part = rows[start : start + _AT_ONCE]
        image, tokens, known = _inputs(part, preprocessor)
        expected.append(model(image, tokens))
        received.append(packed(image, tokens))
        if known is not None:
            classes.append(known)
    wanted, found = np.concatenate(expected), np.concatenate(received)
    right: dict[str, float] = {}
    if classes:
        true = np.concatenate(classes)
        right = {
            name: float((answers.argmax(axis=-1) == true).mean())
            for name, answers in (("accuracy", found), ("keras_accuracy", wanted))
        }
    return Cost(
        kind,
        rows=len(wanted),
        difference=float(np.abs(wanted - found).max()),
        agreement=float((wanted.argmax(axis=-1) == found.argmax(axis=-1)).mean()),
        **right,
    )


def _inputs(part: Any, preprocessor: Preprocessor) -> tuple[Array, Array, Array | None]:
    if isinstance(part[0], Row):
        known = preprocessor.spec.labels
        if unknown := sorted({row.label for row in part} - set(known)):
            raise ExportError(f"Expected every row's label to be one of {', '.join(known)}. Received: {unknown[0]!r}")
        arrays = encode(part, preprocessor, progress=False)
        return arrays.images, arrays.tokens, arrays.classes
    return (*encode_pairs(part, preprocessor), None)
