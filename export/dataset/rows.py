"""A row of a manifest, and the error that names what is wrong with rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Final

__all__ = ["DataError", "Problem", "Row"]

_SHOWN: Final = 20


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a manifest: its line (the header is 1) and why."""

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
    """One pair.

    Attributes:
        line: Its line in the manifest.
        image: Path of the image, or of the recording.
        text: The text.
        label: The class; the tags, sorted, with a bar between them; empty where the answer is scores.
        split: "train" or "test".
        group: Rows of one group are never divided between training and test. Without a column
            `group`, it is the SHA-256 of the image's bytes.
        scores: Name and value of each score; none where the answer is another.
    """

    line: int
    image: Path
    text: str
    label: str
    split: str
    group: str
    scores: tuple[tuple[str, float], ...] = ()
