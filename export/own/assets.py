"""What a model file does not hold: labels and held-out pairs."""

from __future__ import annotations

import json
import unicodedata
from typing import Final

from export.dataset.data import DataError, Row, load_held_out
from export.own.reasons import reason, said
from export.own.settings import OwnModel

__all__ = ["read_labels", "read_samples"]

_SHOWN: Final = 5


def read_labels(own: OwnModel, reasons: list[str]) -> tuple[str, ...] | None:
    """The classes in the order of the output's columns, or None with the reasons."""
    expected = "--labels to be a file with a class a line, or JSON"
    if own.labels is None:
        reasons.append(reason(expected, "none", "write the classes in the order of the output's columns"))
        return None
    try:
        text = own.labels.read_text(encoding="utf-8-sig")
        labels = _from_json(json.loads(text)) if own.labels.suffix == ".json" else text.strip("\n").split("\n")
    except (OSError, ValueError) as error:
        mend = 'as JSON, a list of names, or an object of names and columns: {"cat": 0, "dog": 1}'
        reasons.append(reason(expected, f"{own.labels}: {said(error)}", mend))
        return None
    labels = [unicodedata.normalize("NFC", label).strip() for label in labels]  # as in manifest.csv
    before = len(reasons)
    if empty := [number for number, label in enumerate(labels, 1) if not label]:
        reasons.append(
            reason("a name for every label", f"none at number {empty[0]} in {own.labels}", "name or remove it")
        )
    if repeated := sorted({label for label in labels if label and labels.count(label) > 1}):
        mend = "a client can't tell them apart: give each a name of its own"
        reasons.append(reason("distinct labels", f"{', '.join(repeated)} more than once", mend))
    return tuple(labels) if len(reasons) == before else None


def _from_json(content: object) -> list[str]:
    """["cat", "dog"], {"cat": 0, "dog": 1} or {"0": "cat", "1": "dog"}."""
    if isinstance(content, dict):
        pairs = [(name, column) for name, column in content.items()]
        if all(isinstance(name, str) and isinstance(column, str) and name.isdigit() for name, column in pairs):
            pairs = [(column, int(name)) for name, column in pairs]
        if not all(isinstance(column, int) for _, column in pairs):
            raise ValueError("expected names and columns")
        if sorted(column for _, column in pairs) != list(range(len(pairs))):
            raise ValueError(f"expected the columns 0 to {len(pairs) - 1}, each once")
        content = [name for name, _ in sorted(pairs, key=lambda pair: pair[1])]
    if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
        raise ValueError("expected a list of names, or names and columns")
    return content


def read_samples(own: OwnModel, labels: tuple[str, ...] | None, reasons: list[str]) -> tuple[Row, ...]:
    """The held-out pairs, or none with the reasons."""
    expected = "--samples to be a folder with held-out pairs, images and manifest.csv of image,text,label"
    if own.samples is None:
        mend = "a dozen pairs that were not trained on show whether a version answers as it should"
        reasons.append(reason(expected, "none", mend))
        return ()
    try:
        rows = load_held_out(own.samples)
    except DataError as error:
        listed = "; ".join(map(str, error.problems[:_SHOWN])) or said(error)
        more = f" and {len(error.problems) - _SHOWN} more" if len(error.problems) > _SHOWN else ""
        reasons.append(reason(expected, listed + more, f"correct {own.samples / 'manifest.csv'}"))
        return ()
    except OSError as error:
        reasons.append(reason(expected, said(error), "check the path"))
        return ()
    if unknown := [row for row in rows if labels is not None and row.label not in labels]:
        received = "; ".join(f"line {row.line}: {row.label!r}" for row in unknown[:_SHOWN])
        mend = "write the labels as in --labels, letter by letter"
        reasons.append(reason(f"the labels of {own.samples} to be among the model's", received, mend))
        return ()
    return rows
