"""The kinds of answer: one class, tags, yes or no, or scores. Pure data, like all of `duoserve.contract`.

Everything that differs between kinds for a client is here. Export and serving have tables by kind.
"""

import dataclasses
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from duoserve.contract.records import ContractError, take

__all__ = [
    "ANSWERS",
    "BAR",
    "ONE_CLASS",
    "Answer",
    "OneClass",
    "Scores",
    "Tags",
    "YesNo",
    "normal_name",
    "score_of_column",
]

BAR: Final = "|"  # separates tags that are written as one text

_WITH_UNIT: Final = re.compile(r"(.*\S)\s*\[([^\[\]]*)\]")


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """Base of the kinds. For every kind the spec's `labels` name the columns of the answer.

    Attributes:
        kind: Its name, in JSON and on command lines.
        title: Its name in sentences.
        columns: What the columns of the answer are called.
        output: Name of the output of every predicting signature, float32 array of shape (batch, columns).
        value: Name of the output of `explain` with the value of the explained column.
        decided: Name of the further output of `serving_bytes`, a string for each row; None: no such output.
        gives: The attributes that a `Prediction` of this kind has.
    """

    kind: ClassVar[str]
    title: ClassVar[str]
    columns: ClassVar[str]
    output: ClassVar[str] = "probabilities"
    value: ClassVar[str] = "probability"
    decided: ClassVar[str | None] = "label"
    gives: ClassVar[tuple[str, ...]] = ("label", "probability", "probabilities", "top")

    def check(self, labels: Sequence[str]) -> None:
        """Raises ContractError if the answer can't have these columns."""

    def chosen(self, values: npt.NDArray[np.float32]) -> tuple[int, ...]:
        """The columns that the answer names. Values are a finite float32 array of shape (columns,)."""
        return (int(values.argmax()),)

    def same(self, one: npt.NDArray[np.float32], other: npt.NDArray[np.float32], tolerance: float) -> bool:
        """Whether both are the same decision; values within the tolerance of a limit may fall on either side."""
        return self.chosen(one) == self.chosen(other)

    def scale(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The factor for the tolerance of each column, from expected answers of shape (rows, columns)."""
        return np.ones(values.shape[1], np.float32)

    def decision(self, values: npt.NDArray[np.float32], labels: Sequence[str]) -> str:
        """The answer as one text: the class, or the tags separated by bars; empty for scores."""
        return BAR.join(labels[column] for column in self.chosen(values))

    def record(self) -> dict[str, Any]:
        """The same as JSON's types: `kind`, and the fields of this kind."""
        return {"kind": self.kind, **{name: list(value) for name, value in dataclasses.asdict(self).items()}}


@dataclasses.dataclass(frozen=True, slots=True)
class OneClass(Answer):
    """The most probable of classes that exclude one another. Probabilities add up to 1."""

    kind: ClassVar[str] = "class"
    title: ClassVar[str] = "one class"
    columns: ClassVar[str] = "classes"


ONE_CLASS: Final = OneClass()  # the kind of a spec that does not name its kind


@dataclasses.dataclass(frozen=True, slots=True)
class YesNo(Answer):
    """One of two: the first label is "no", the second "yes". Probabilities add up to 1."""

    kind: ClassVar[str] = "yes-no"
    title: ClassVar[str] = "yes or no"
    columns: ClassVar[str] = "answers"

    def check(self, labels: Sequence[str]) -> None:
        if len(labels) != 2:
            raise ContractError(f"Expected two labels of a yes or no. Received: {len(labels)}")


@dataclasses.dataclass(frozen=True, slots=True)
class Tags(Answer):
    """Any number of tags, each with its own probability.

    Attributes:
        thresholds: For each tag the least probability at which it counts, above 0, at most 1.
    """

    kind: ClassVar[str] = "tags"
    title: ClassVar[str] = "tags"
    columns: ClassVar[str] = "tags"
    decided: ClassVar[str | None] = "tags"
    gives: ClassVar[tuple[str, ...]] = ("tags", "probabilities", "top")

    thresholds: tuple[float, ...]

    def __post_init__(self) -> None:
        for value in self.thresholds:
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1:
                raise ContractError(f"Expected thresholds above 0 and at most 1. Received: {value!r}")
        object.__setattr__(self, "thresholds", tuple(float(value) for value in self.thresholds))

    def check(self, labels: Sequence[str]) -> None:
        _check_count("thresholds", self.thresholds, labels)
        if barred := [label for label in labels if BAR in label]:
            raise ContractError(f"Expected tags without {BAR!r}, which separates them. Received: {barred[0]!r}")

    def chosen(self, values: npt.NDArray[np.float32]) -> tuple[int, ...]:
        # As float32, which the graph compares with.
        return tuple(np.flatnonzero(values >= np.array(self.thresholds, np.float32)).tolist())

    def same(self, one: npt.NDArray[np.float32], other: npt.NDArray[np.float32], tolerance: float) -> bool:
        thresholds = np.array(self.thresholds, np.float32)
        clear = np.abs(one - thresholds) > tolerance
        return bool(np.array_equal((one >= thresholds)[clear], (other >= thresholds)[clear]))


@dataclasses.dataclass(frozen=True, slots=True)
class Scores(Answer):
    """One or more numbers.

    Attributes:
        units: The unit of each score; empty for a score without one.
    """

    kind: ClassVar[str] = "scores"
    title: ClassVar[str] = "scores"
    columns: ClassVar[str] = "scores"
    output: ClassVar[str] = "scores"
    value: ClassVar[str] = "score"
    decided: ClassVar[str | None] = None
    gives: ClassVar[tuple[str, ...]] = ("scores", "units")

    units: tuple[str, ...]

    def __post_init__(self) -> None:
        if not all(isinstance(unit, str) for unit in self.units):
            raise ContractError(f"Expected units to be strings. Received: {self.units!r:.80}")

    def check(self, labels: Sequence[str]) -> None:
        _check_count("units", self.units, labels)

    def chosen(self, values: npt.NDArray[np.float32]) -> tuple[int, ...]:
        return ()

    def scale(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        largest: npt.NDArray[np.float32] = np.abs(values).max(axis=0, initial=np.finfo(np.float32).tiny)
        return largest


ANSWERS: Final[Mapping[str, type[Answer]]] = {each.kind: each for each in (OneClass, Tags, YesNo, Scores)}


def answer_from_record(record: Mapping[str, Any]) -> Answer:
    """Reads what `Answer.record` made. Raises ContractError for another record, or an unknown kind."""
    kind = take(record, "kind", str)
    if kind not in ANSWERS:
        raise ContractError(
            f"Expected an answer of kind {', '.join(ANSWERS)}. Received: {kind!r:.80}"
            " (a newer release exported it: update duoserve)"
        )
    chosen = ANSWERS[kind]
    return chosen(**{field.name: tuple(take(record, field.name, list)) for field in dataclasses.fields(chosen)})


def normal_name(text: str) -> str:
    """A label without surrounding spaces, in NFC, so that labels that look the same are the same."""
    return unicodedata.normalize("NFC", text.strip())


def score_of_column(column: str) -> tuple[str, str]:
    """Name and unit of a score from the name of its column, such as `price [EUR]`; without a unit, it is empty."""
    match = _WITH_UNIT.fullmatch(column.strip())
    return (normal_name(match[1]), normal_name(match[2])) if match else (normal_name(column), "")


def _check_count(name: str, values: Sequence[Any], labels: Sequence[str]) -> None:
    if len(values) != len(labels):
        raise ContractError(f"Expected as many {name} as labels, {len(labels)}. Received: {len(values)}")
