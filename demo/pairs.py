"""The held-out rows of a data folder."""

import csv
from pathlib import Path
from typing import NamedTuple

from duoserve import Clip
from duoserve.contract import AUDIO, IMAGE


class Pair(NamedTuple):
    """An image or a recording, its text, and its true class or tags; empty for scores."""

    file: Path
    text: str
    label: str
    medium: str = IMAGE

    @property
    def image(self) -> Path | Clip:
        """As the client takes it."""
        return Clip(self.file) if self.medium == AUDIO else self.file


def held_out(folder: Path) -> list[Pair]:
    """The rows of `manifest.csv` that training has not seen; all of them if it has no column `split`.

    Raises:
        ValueError: No manifest, or one without the columns image (or audio) and text.
    """
    path = folder / "manifest.csv"
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            medium = AUDIO if AUDIO in (reader.fieldnames or ()) else IMAGE
            return [
                Pair(folder / row[medium], row["text"], row.get("label") or "", medium)
                for row in reader
                if row.get("split", "test") == "test"
            ]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"Expected a folder with manifest.csv. Received: {error}") from error
    except (KeyError, TypeError, csv.Error) as error:
        raise ValueError(
            f"Expected {path} to have the columns image (or audio) and text. Received: one without {error}"
        ) from error
