"""What a model file does not hold: labels and held-out rows."""

import json
from collections.abc import Sequence
from typing import Final

from duoserve.contract import Answer, ContractError, Scores, normal_name
from export.dataset.data import HeldOut, load_held_out
from export.dataset.rows import DataError, Row
from export.dataset.targets import TARGETS, ScoreTargets, targets
from export.own.reasons import MisfitError, Reasons, misfit, said
from export.own.settings import OwnModel

_SHOWN: Final = 5

# Each of these functions raises MisfitError if what it reads does not fit.


def read_labels(own: OwnModel) -> tuple[str, ...]:
    """The names of the output's columns, in their order."""
    expected = "--labels to be a file with a class (tag, score) a line, or JSON"
    if own.labels is None:
        raise misfit(expected, "none", "write the names of the output's columns in their order")
    try:
        text = own.labels.read_text(encoding="utf-8-sig")
        labels = _from_json(json.loads(text)) if own.labels.suffix == ".json" else text.strip("\n").split("\n")
    except (OSError, ValueError) as error:
        fix = 'as JSON, a list of names, or an object of names and columns: {"cat": 0, "dog": 1}'
        raise misfit(expected, f"{own.labels}: {said(error)}", fix) from error
    labels = [normal_name(label) for label in labels]
    reasons = Reasons()
    if "" in labels:
        received = f"none at number {labels.index('') + 1} in {own.labels}"
        reasons.add("a name for every label", received, "name or remove it")
    if repeated := sorted({label for label in labels if label and labels.count(label) > 1}):
        fix = "a client can't tell them apart: give each another name"
        reasons.add("distinct labels", f"{', '.join(repeated)} more than once", fix)
    reasons.refuse()
    return tuple(labels)


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


def read_samples(own: OwnModel) -> HeldOut:
    """The held-out rows and their kind of answer."""
    expected = "--samples to be a folder with held-out rows, images and manifest.csv of image,text,label"
    if own.samples is None:
        fix = "a dozen rows outside the training data show whether a version answers correctly"
        raise misfit(expected, "none", fix)
    try:
        return load_held_out(own.samples, answer=own.answer)
    except DataError as error:
        raise misfit(expected, _listed(error), f"correct {own.samples / 'manifest.csv'}") from error
    except OSError as error:
        raise misfit(expected, said(error), "check the path") from error


def check_samples(own: OwnModel, rows: Sequence[Row], answer: Answer, labels: tuple[str, ...]) -> None:
    """Refuses rows with labels or scores that the model does not have."""
    try:
        targets(rows, answer, labels)
    except DataError as error:
        if not error.problems:
            raise MisfitError(f"{error}. To fix: name the columns of manifest.csv as in --labels") from error
        fix = "write the labels exactly as in --labels"
        raise misfit(f"the labels of {own.samples} to be among the model's", _listed(error), fix) from error


def make_answer(kind: str, labels: tuple[str, ...]) -> tuple[Answer, tuple[str, ...]]:
    """The answer of the contract and the names of its columns, without units."""
    found = TARGETS[kind](labels if kind == Scores.kind else ("label",))
    names = tuple(name for name, _ in found.named.values()) if isinstance(found, ScoreTargets) else labels
    try:
        answer = found.made(names)
        answer.check(names)
    except ContractError as error:
        fix = "correct --labels, or give another --answer"
        raise misfit("labels that fit the answer", said(error), fix) from error
    return answer, names


def _listed(error: DataError) -> str:
    more = f" and {len(error.problems) - _SHOWN} more" if len(error.problems) > _SHOWN else ""
    return ("; ".join(map(str, error.problems[:_SHOWN])) or said(error)) + more
