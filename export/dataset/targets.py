"""The answer in a manifest, by kind: its columns, their problems, and the rows as targets."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from duoserve.contract import BAR, Answer, OneClass, Scores, Tags, YesNo, normal_name, score_of_column
from export.dataset.rows import DataError, Problem, Row

Array = npt.NDArray[np.float32]
Fields = Mapping[str, str]

_NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_LARGEST: Final = float(np.finfo(np.float32).max)


class Targets:
    """One kind of answer in a manifest. Base of the kinds; itself, it stands for one class.

    Args:
        columns: The columns beside image or audio, text, split and group.
    """

    answer: type[Answer] = OneClass
    least = 2

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = columns

    def misfit(self) -> str | None:
        """The problem of the columns, as an error message; None without one."""
        return None if list(self.columns) == ["label"] else "image,text,label"

    def reasons(self, row: Fields) -> Iterator[str]:
        """The problems of a row."""
        if not row["label"].strip():
            yield "label is empty"

    def read(self, row: Fields) -> dict[str, Any]:
        """The answer of a valid row, as fields of `Row`."""
        return {"label": normal_name(row["label"])}

    @staticmethod
    def names(row: Row) -> Sequence[str]:
        """The labels of a row."""
        return (row.label,)

    @classmethod
    def strata(cls, rows: Sequence[Row]) -> list[str]:
        """The class that each row counts for in the split: the rarest of its labels."""
        count = Counter(name for row in rows for name in cls.names(row))
        return [min(cls.names(row), key=lambda name: (count[name], name), default="") for row in rows]

    def labels(self, rows: Sequence[Row]) -> tuple[str, ...]:
        """The names of the answer's columns, from the training rows.

        Raises:
            DataError: There are too few, or too many.
        """
        labels = tuple(sorted({name for row in rows for name in self.names(row)}))
        if len(labels) < self.least:
            least = {1: "one label", 2: "two labels"}[self.least]
            raise DataError(f"Expected at least {least} in the training rows. Received: {', '.join(labels) or 'none'}")
        return labels

    def made(self, labels: Sequence[str]) -> Answer:
        """The answer of the contract."""
        return self.answer()

    @classmethod
    def rows(cls, rows: Sequence[Row], labels: Sequence[str]) -> Array:
        """float32 array of shape (rows, labels): 1 for every label of a row, else 0.

        Raises:
            DataError: A label that is not among these.
        """
        position = {normal_name(label): column for column, label in enumerate(labels)}
        found = np.zeros((len(rows), len(labels)), np.float32)
        problems = []
        for number, row in enumerate(rows):
            for name in cls.names(row):
                if name in position:
                    found[number, position[name]] = 1
                else:
                    problems.append(Problem(row.line, f"label {name!r}"))
        if problems:
            raise DataError(f"Expected every label to be one of {', '.join(labels)}. Received:", problems)
        return found


class YesNoTargets(Targets):
    """Two labels; the second in alphabetical order means "yes"."""

    answer = YesNo

    def labels(self, rows: Sequence[Row]) -> tuple[str, ...]:
        labels = super().labels(rows)
        if len(labels) > 2:
            raise DataError(f"Expected two labels of a yes or no. Received {len(labels)}: {', '.join(labels[:10])}")
        return labels


class TagTargets(Targets):
    """Several labels separated by bars; an empty `label` means no tags."""

    answer = Tags
    least = 1

    def reasons(self, row: Fields) -> Iterator[str]:
        tags = [normal_name(tag) for tag in row["label"].split(BAR)]
        if row["label"].strip():
            if "" in tags:
                yield f"expected a tag on each side of every {BAR!r}, received {row['label']!r}"
            for tag in sorted({tag for tag in tags if tag and tags.count(tag) > 1}):
                yield f"tag {tag!r} occurs twice"

    def read(self, row: Fields) -> dict[str, Any]:
        return {"label": BAR.join(sorted(normal_name(tag) for tag in row["label"].split(BAR)))}

    @staticmethod
    def names(row: Row) -> Sequence[str]:
        return row.label.split(BAR) if row.label else ()

    def made(self, labels: Sequence[str]) -> Answer:
        return Tags((0.5,) * len(labels))  # training chooses better ones


class ScoreTargets(Targets):
    """A column of numbers for each score, named after it, perhaps with its unit: `price [EUR]`."""

    answer = Scores
    least = 1

    def __init__(self, columns: Sequence[str]) -> None:
        super().__init__(columns)
        self.named = {column: score_of_column(column) for column in columns}

    def misfit(self) -> str | None:
        names = [name for name, _ in self.named.values()]
        if not names or "label" in names or not all(names):
            return "image,text, and a named column for each score, no label"
        return None if len(set(names)) == len(names) else "image,text, and a column of another name for each score"

    def reasons(self, row: Fields) -> Iterator[str]:
        for column in self.columns:
            value = row[column].strip()
            if not _NUMBER.fullmatch(value) or abs(float(value)) > _LARGEST:
                yield f"expected {column} to be a number such as -1.5, received {row[column]!r:.40}"

    def read(self, row: Fields) -> dict[str, Any]:
        names, units = zip(*(self.named[column] for column in self.columns), strict=True)
        return {"scores": tuple(zip(names, (float(row[each]) for each in self.columns), strict=True)), "units": units}

    @staticmethod
    def names(row: Row) -> Sequence[str]:
        return ()

    def labels(self, rows: Sequence[Row]) -> tuple[str, ...]:
        for name in (name for name, _ in self.named.values()):
            if len({dict(row.scores)[name] for row in rows}) < 2:
                value = dict(rows[0].scores)[name] if rows else "no row"
                raise DataError(f"Expected {name} to differ between training rows. Received: {value} in all of them")
        return tuple(name for name, _ in self.named.values())

    def made(self, labels: Sequence[str]) -> Answer:
        return Scores(tuple(unit for _, unit in self.named.values()))

    @classmethod
    def rows(cls, rows: Sequence[Row], labels: Sequence[str]) -> Array:
        """float32 array of shape (rows, labels): the scores.

        Raises:
            DataError: A score that the rows do not have.
        """
        known = {name for row in rows[:1] for name, _ in row.scores}
        if missing := [label for label in labels if rows and normal_name(label) not in known]:
            received = ", ".join(sorted(known)) or "none"
            raise DataError(f"Expected a column for the score {missing[0]!r}. Received scores: {received}")
        values = [[dict(row.scores)[normal_name(label)] for label in labels] for row in rows]
        return np.array(values, np.float32).reshape(len(rows), len(labels))


TARGETS: Final[Mapping[str, type[Targets]]] = MappingProxyType(
    {each.answer.kind: each for each in (Targets, TagTargets, YesNoTargets, ScoreTargets)}
)
"""By name of the kind."""


def find_kind(columns: Sequence[str], rows: Iterable[Fields]) -> str:
    """The default kind of a manifest: scores without a column `label`, tags with a bar in a label.

    Args:
        columns: As of `Targets`.
        rows: Values by column.
    """
    rows = list(rows)
    if "label" not in columns and columns:
        # A misspelt `label` is not a score: it has no numbers.
        numbers = all(any(_NUMBER.fullmatch(row[column].strip()) for row in rows) for column in columns)
        return Scores.kind if numbers else OneClass.kind
    return Tags.kind if any(BAR in row.get("label", "") for row in rows) else OneClass.kind


def targets(rows: Sequence[Row], answer: Answer, labels: Sequence[str]) -> Array:
    """float32 array of shape (rows, labels): the right answers of the rows.

    Raises:
        DataError: A label or score that does not fit, or a score in another unit.
    """
    if isinstance(answer, Scores) and rows:
        units = dict(zip((name for name, _ in rows[0].scores), rows[0].units, strict=True))
        for label, expected in zip(labels, answer.units, strict=True):
            received = units.get(normal_name(label))
            if expected and received and received != expected:
                raise DataError(f"Expected {label} in {expected}, as the model gives it. Received: in {received}")
    return TARGETS[answer.kind].rows(rows, labels)
