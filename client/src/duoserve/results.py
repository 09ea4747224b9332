"""What the client returns: frozen, typed, read-only arrays."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar, overload

import numpy as np
import numpy.typing as npt

from duoserve.contract import PreprocessingSpec
from duoserve.errors import DuoserveError, InvalidInput

__all__ = ["BatchResult", "Embedding", "EmbeddingBatch", "Pair", "Prediction", "Scored", "Sent", "TensorPrediction"]

T = TypeVar("T")
S = TypeVar("S", bound="Outcomes[Any]")

Sent = Literal["tensors", "bytes"]
"""How the input went out: preprocessed here, or as it is for the graph to preprocess."""


class Pair(NamedTuple):
    """One item of a batch; None for what is missing. A plain tuple (image, text) does as well.

    For models that take audio, `image` is a Clip.
    """

    image: Any
    text: str | None


class Scored(NamedTuple):
    """A class and its probability."""

    label: str
    probability: float


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """The answer for one image and text.

    Attributes:
        label: The most probable class.
        probability: Its probability, 0 to 1.
        probabilities: float32 array of shape (classes,), read-only.
        labels: Class names; position i names entry i of `probabilities`.
        version: The servable version that answered.
        target: The label or version that was asked for, None for the latest.
        sent: "tensors" or "bytes".
    """

    label: str
    probability: float
    probabilities: npt.NDArray[np.float32] = dataclasses.field(repr=False)
    labels: tuple[str, ...] = dataclasses.field(repr=False)
    version: int
    target: int | str | None
    sent: Sent

    def top(self, k: int = 5) -> tuple[Scored, ...]:
        """The k most probable classes, best first; all of them when there are fewer.

        Raises:
            InvalidInput: k is no whole number.
        """
        try:
            count = max(operator.index(k), 0)
        except TypeError as error:
            raise InvalidInput(f"Expected k to be a whole number. Received: {k!r:.80}") from error
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return tuple(Scored(self.labels[i], float(self.probabilities[i])) for i in order)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class TensorPrediction:
    """The answer for ready-made tensors.

    Attributes:
        probabilities: float32 array of shape (batch, classes), read-only.
        labels: Class names; position i names column i.
        version: The servable version that answered.
    """

    probabilities: npt.NDArray[np.float32] = dataclasses.field(repr=False)
    labels: tuple[str, ...] = dataclasses.field(repr=False)
    version: int


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """One image and text as a vector: alike inputs have alike ones.

    Attributes:
        vector: float32 array of shape (length,), read-only, of length 1: `a.vector @ b.vector` is the
            cosine of the angle between two, 1 for the same direction.
        version: The servable version that made it. Vectors of two versions can't be compared.
        target: The label or version that was asked for, None for the latest.
    """

    vector: npt.NDArray[np.float32] = dataclasses.field(repr=False)
    version: int
    target: int | str | None


class Outcomes(Sequence[T]):
    """The answers of a batch, in the order of its items.

    Reading an item that failed raises its error; `errors` and `outcomes` show all without
    raising.

    Attributes:
        outcomes: For each item its answer or its error.
    """

    __slots__ = ("outcomes",)

    def __init__(self, outcomes: Sequence[T | DuoserveError]) -> None:
        self.outcomes = tuple(outcomes)

    @property
    def errors(self) -> Mapping[int, DuoserveError]:
        """The errors, by the position of their item. Empty when all went well."""
        return {i: outcome for i, outcome in enumerate(self.outcomes) if isinstance(outcome, DuoserveError)}

    def __len__(self) -> int:
        return len(self.outcomes)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self: S, index: slice) -> S: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return type(self)(self.outcomes[index])
        outcome = self.outcomes[index]
        if isinstance(outcome, DuoserveError):
            raise outcome
        return outcome

    def __iter__(self) -> Iterator[T]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} items, {len(self.errors)} errors)"


class BatchResult(Outcomes[Prediction]):
    """The answers of `predict_batch`."""

    __slots__ = ()


class EmbeddingBatch(Outcomes[Embedding]):
    """The vectors of `embed_batch`, all of one version."""

    __slots__ = ()

    @property
    def vectors(self) -> npt.NDArray[np.float32]:
        """float32 array of shape (items, length), a row an item. Raises the error of the first one that failed."""
        vectors = [embedding.vector for embedding in self]
        return np.stack(vectors) if vectors else np.zeros((0, 0), np.float32)


def predictions(
    probabilities: npt.NDArray[np.float32],
    spec: PreprocessingSpec,
    version: int,
    target: int | str | None,
    sent: Sent,
) -> list[Prediction]:
    """One Prediction for each row of `probabilities`."""
    probabilities.flags.writeable = False
    best = probabilities.argmax(axis=1)
    return [
        Prediction(spec.labels[i], float(row[i]), row, spec.labels, version, target, sent)
        for row, i in zip(probabilities, best.tolist(), strict=True)
    ]
