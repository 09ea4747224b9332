"""What the client returns: frozen, typed, read-only arrays."""

import dataclasses
import operator
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar, overload

import numpy as np
import numpy.typing as npt

from duoserve.contract import Answer, PreprocessingSpec, Scores
from duoserve.errors import DuoserveError, InvalidInput, NotAnswered

__all__ = ["BatchResult", "Embedding", "EmbeddingBatch", "Pair", "Prediction", "Scored", "Sent", "TensorPrediction"]

T = TypeVar("T")
S = TypeVar("S", bound="Outcomes[Any]")

Sent = Literal["tensors", "bytes"]  # preprocessed here, or raw, for the graph to preprocess


class Pair(NamedTuple):
    """One row of a batch; None for a missing input, a Clip for audio. A plain tuple (image, text) works too."""

    image: Any
    text: str | None


class Scored(NamedTuple):
    """A class or tag and its probability."""

    label: str
    probability: float


# Without slots: a frozen dataclass with both slots and properties fails in its own __setattr__.


class _Answered:
    """What can be read of an answer, depending on its kind."""

    values: npt.NDArray[np.float32]
    kind: Answer
    version: int

    @property
    def probabilities(self) -> npt.NDArray[np.float32]:
        """The values, where they are the probabilities of classes or tags."""
        self._given("probabilities")
        return self.values

    def _given(self, name: str) -> None:
        if name not in self.kind.gives:
            raise NotAnswered(
                f"Expected a version that answers with {name}. Received: one that answers with {self.kind.title};"
                f" read {', '.join(self.kind.gives)}",
                version=self.version,
            )


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Prediction(_Answered):
    """The answer for one image and text.

    What can be read depends on the kind of answer (`kind.gives`). OneClass and YesNo: `label`, `probability`,
    `probabilities`, `top`; Tags: `tags`, `probabilities`, `top`; Scores: `scores`, `units`. Anything else raises
    NotAnswered.

    Attributes:
        values: float32 array of shape (columns,), read-only: the probabilities, or the scores.
        labels: Names of the columns: classes, tags, no and yes, or scores.
        kind: The kind of answer: OneClass, Tags, YesNo or Scores of `duoserve.contract`.
        version: The servable version that answered.
        target: The label or version that was asked for, None for the latest.
        sent: "tensors" or "bytes".
    """

    values: npt.NDArray[np.float32]
    labels: tuple[str, ...]
    kind: Answer
    version: int
    target: int | str | None
    sent: Sent

    @property
    def label(self) -> str:
        """The most probable class."""
        self._given("label")
        return self.labels[int(self.values.argmax())]

    @property
    def probability(self) -> float:
        """Its probability, 0 to 1."""
        self._given("probability")
        return float(self.values.max())

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags whose probability is at least their threshold, in the order of `labels`; maybe none."""
        self._given("tags")
        return tuple(self.labels[column] for column in self.kind.chosen(self.values))

    @property
    def scores(self) -> Mapping[str, float]:
        """The scores by name."""
        self._given("scores")
        return dict(zip(self.labels, self.values.tolist(), strict=True))

    @property
    def units(self) -> Mapping[str, str]:
        """The units of the scores by name; empty for a score without one."""
        self._given("units")
        assert isinstance(self.kind, Scores)
        return dict(zip(self.labels, self.kind.units, strict=True))

    @property
    def decision(self) -> str:
        """The answer as one text: the class, or the tags separated by bars; empty for scores."""
        return self.kind.decision(self.values, self.labels)

    def top(self, k: int = 5) -> tuple[Scored, ...]:
        """The k most probable classes or tags, best first; all of them when there are fewer."""
        self._given("top")
        try:
            count = max(operator.index(k), 0)
        except TypeError as error:
            raise InvalidInput(f"Expected k to be a whole number. Received: {k!r:.80}") from error
        order = np.argsort(-self.values, kind="stable")[:count]
        return tuple(Scored(self.labels[i], float(self.values[i])) for i in order)

    def __repr__(self) -> str:
        names = [name for name in self.kind.gives if name not in ("probabilities", "top")]
        shown = [f"{name}={getattr(self, name)!r}" for name in (*names, "version", "target", "sent")]
        return f"Prediction({', '.join(shown)})"


@dataclasses.dataclass(frozen=True, eq=False)
class TensorPrediction(_Answered):
    """The answer for prepared tensors.

    Attributes:
        values: float32 array of shape (batch, columns), read-only: the probabilities, or the scores.
        labels: Names of the columns: classes, tags, no and yes, or scores.
        kind: What the version answers with.
        version: The servable version that answered.
    """

    values: npt.NDArray[np.float32] = dataclasses.field(repr=False)
    labels: tuple[str, ...] = dataclasses.field(repr=False)
    kind: Answer
    version: int


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """One image and text as a vector: similar inputs have similar vectors.

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
    """The answers of a batch, in the order of its rows. Reading a row that failed raises its error.

    Attributes:
        outcomes: For each row its answer or its error.
    """

    def __init__(self, outcomes: Sequence[T | DuoserveError]) -> None:
        self.outcomes = tuple(outcomes)

    @property
    def errors(self) -> Mapping[int, DuoserveError]:
        """The errors, by the position of their row. Empty if there are none."""
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

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} rows, {len(self.errors)} errors)"


class BatchResult(Outcomes[Prediction]):
    """The answers of `predict_batch`."""


class EmbeddingBatch(Outcomes[Embedding]):
    """The vectors of `embed_batch`, all of one version."""

    @property
    def vectors(self) -> npt.NDArray[np.float32]:
        """float32 array of shape (rows, length). Raises the error of the first row that failed."""
        vectors = [embedding.vector for embedding in self]
        return np.stack(vectors) if vectors else np.zeros((0, 0), np.float32)


def predictions(
    values: npt.NDArray[np.float32], spec: PreprocessingSpec, version: int, target: int | str | None, sent: Sent
) -> list[Prediction]:
    """One Prediction for each row of the answer."""
    values.flags.writeable = False
    return [Prediction(row, spec.labels, spec.answer, version, target, sent) for row in values]
