"""A row of a manifest, and the error that lists the problems of rows."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_SHOWN: Final = 20


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """One problem of a manifest: its line (the header is 1) and the reason."""

    line: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


class DataError(ValueError):
    """The data can't be trained on. `problems` has every bad row; the text shows the first ones."""

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line))
        lines = [message, *(f"  {problem}" for problem in self.problems[:_SHOWN])]
        if len(self.problems) > _SHOWN:
            lines.append(f"  … and {len(self.problems) - _SHOWN} more")
        super().__init__("\n".join(lines))


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One row.

    Attributes:
        line: Its line in the manifest.
        image: Path of the image, or of the recording.
        text: The text.
        label: The class; or the tags, sorted and separated by bars; empty for scores.
        split: "train" or "test".
        group: Rows of one group are never split between training and test. Without a column
            `group`, it is the SHA-256 of the image's bytes.
        scores: Name and value of each score; empty for other kinds of answer.
        units: The unit of each score; empty where its column has none.
    """

    line: int
    image: Path
    text: str
    label: str
    split: str
    group: str
    scores: tuple[tuple[str, float], ...] = ()
    units: tuple[str, ...] = ()
