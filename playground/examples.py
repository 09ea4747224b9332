"""Example images or clips: the held-out rows of a data folder."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

from duoserve.contract import AUDIO, IMAGE

__all__ = ["Example", "read_examples"]


class Example(NamedTuple):
    """An image or clip, its words and its true class, or tags; empty for scores."""

    file: Path
    text: str
    label: str


def read_examples(folder: Path) -> list[Example]:
    """The held-out rows of `manifest.csv`; all of them if it has no column `split`.

    Raises:
        ValueError: No manifest, or one without the columns image (or audio) and text.
    """
    path = folder / "manifest.csv"
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            medium = AUDIO if AUDIO in (reader.fieldnames or ()) else IMAGE
            return [
                Example(folder / row[medium], row["text"], row.get("label") or "")
                for row in reader
                if row.get("split", "test") == "test"
            ]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"Expected a folder with manifest.csv. Received: {error}") from error
    except (KeyError, TypeError, csv.Error) as error:
        raise ValueError(
            f"Expected {path} to have the columns image (or audio) and text. Received: one without {error}"
        ) from error
