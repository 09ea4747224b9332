"""Many trainings, one after the other, each kept as it ends: a run that is stopped goes on where it was."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np

from duoserve.preprocess import Preprocessor
from export._presets import BASELINES, Preset
from export.data import Arrays, Dataset, encode
from export.train import train

__all__ = ["SHARE", "Case", "collect", "groups", "right", "split"]

SHARE: Final = 0.2
"""Of every class, what is held out."""

_SHUFFLES: Final = {"train": 1, "test": 5}
Record = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """What is trained: a fusion, or a branch alone, with these settings."""

    name: str
    fusion: str
    preset: Preset


def split(dataset: Dataset, seed: int) -> Dataset:
    """What this seed holds out: whole groups (of the demo data: a base emoji with its variants)."""
    return dataset.resplit(SHARE, salt=f"seed {seed} ")


def groups(dataset: Dataset, seed: int) -> list[str]:
    """The group of every row that this seed holds out."""
    return [row.group for row in split(dataset, seed).select("test")]


def right(record: Mapping[str, Any]) -> Any:
    """Which held-out rows a training got right: a bool array of shape (rows,)."""
    return np.array([each == "1" for each in record["right"]])


def collect(
    dataset: Dataset,
    cases: Sequence[Case],
    seeds: Iterable[int],
    path: Path,
    *,
    most: int | None,
    say: Callable[[str], None],
) -> dict[str, list[Record]] | None:
    """Trains every case with every seed, on the same rows within a seed.

    Args:
        dataset: Is split anew by every seed.
        cases: With names of their own.
        seeds: Of the splits and of the trainings.
        path: Has the trainings that are done, and gets each when it ends.
        most: How many to train before it is another run's turn; None trains all.
        say: Called with a line for people before and after each.

    Returns:
        The trainings of each case, in the order of the seeds; None if some are still to do.

    Raises:
        ExportError, DataError, TokenizerError: As `train` does.
    """
    kept: dict[str, Record] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    found: dict[str, list[Record]] = {case.name: [] for case in cases}
    work = [(split(dataset, seed), seed, case) for seed in seeds for case in cases]
    trained = 0
    for number, (data, seed, case) in enumerate(work, 1):
        key = _key(data, seed, case)
        head = f"{number} of {len(work)}: {case.name}, seed {seed}"
        if key not in kept:
            if trained == most:
                return None
            say(f"{head} …")
            kept[key] = _train(data, seed, case)
            _write(path, kept)
            trained += 1
            say(f"{head}: {kept[key]['test']['accuracy']:.3f} held out, {kept[key]['seconds']:.0f} s")
        found[case.name].append(kept[key])
    return found


def _key(data: Dataset, seed: int, case: Case) -> str:
    """Another one whenever the training would be another one."""
    return hashlib.sha256(repr((data.digest, seed, case.fusion, case.preset)).encode()).hexdigest()[:16]


def _train(data: Dataset, seed: int, case: Case) -> Record:
    keras.utils.clear_session()
    trained = train(data, preset=case.preset, fusion=case.fusion, seed=seed, progress=False)
    preprocessor = Preprocessor(trained.spec)
    record: Record = {
        "fusion": case.fusion,
        "seed": seed,
        "epochs": case.preset.epochs,
        "seconds": trained.facts["seconds"],
        "balanced_accuracy": trained.facts["metrics"]["balanced_accuracy"],
        "loss": trained.facts["metrics"]["loss"],
    }
    for which, shuffles in _SHUFFLES.items():
        arrays = encode(data.select(which), preprocessor, progress=False)
        hits = _hits(trained.model, arrays)
        record[which] = {"accuracy": float(hits.mean())}
        if case.fusion not in BASELINES:
            record[which] |= _with_one_input(trained.model, arrays, shuffles)
        record["right"] = "".join("01"[int(hit)] for hit in hits)
    return record


def _with_one_input(model: keras.Model, arrays: Arrays, shuffles: int) -> dict[str, float]:
    """Accuracy when the other input comes from another row, mean over so many shuffles."""
    draw = np.random.default_rng(0)
    orders = [draw.permutation(len(arrays.classes)) for _ in range(shuffles)]
    other = {
        "text_shuffled": [dataclasses.replace(arrays, tokens=arrays.tokens[order]) for order in orders],
        "image_shuffled": [dataclasses.replace(arrays, images=arrays.images[order]) for order in orders],
    }
    return {name: float(np.mean([_hits(model, each).mean() for each in found])) for name, found in other.items()}


def _hits(model: keras.Model, arrays: Arrays) -> Any:
    probabilities = model.predict({"image": arrays.images, "tokens": arrays.tokens}, batch_size=128, verbose=0)
    return probabilities.argmax(axis=-1) == arrays.classes


def _write(path: Path, kept: Mapping[str, Record]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}")
    draft.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)
