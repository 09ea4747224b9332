"""The held-out rows of a data folder."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

from duoserve import Clip

__all__ = ["Pair", "held_out"]


class Pair(NamedTuple):
    """An image or a recording, its text and its true class."""

    image: Path | Clip
    text: str
    label: str


def held_out(folder: Path) -> list[Pair]:
    """The rows of `manifest.csv` that training has not seen, in its order."""
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return [
            Pair(Clip(folder / row["audio"]) if "audio" in row else folder / row["image"], row["text"], row["label"])
            for row in csv.DictReader(file)
            if row["split"] == "test"
        ]
