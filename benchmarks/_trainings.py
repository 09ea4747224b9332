"""Many trainings, one after the other, each saved as it ends, so that a stopped run can be resumed."""

import argparse
import dataclasses
import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from benchmarks._report import RESULTS, write
from benchmarks.tables import tables
from duoserve.preprocessing.preprocessor import Preprocessor
from export.dataset.data import Arrays, Dataset, encode, load_dataset
from export.selection.statistics import gain, proportion, resampled
from export.training.presets import BASELINES, Preset
from export.training.train import train

_UNFINISHED: Final = 3
_SHARE: Final = 0.2  # of every class is held out
_SHUFFLES: Final = {"train": 1, "test": 5}
Record = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """A model to train: a fusion, or a branch alone, with these settings."""

    name: str
    fusion: str
    preset: Preset


@dataclasses.dataclass(frozen=True, slots=True)
class Collected:
    """Every training, in the order of the seeds.

    Attributes:
        trainings: By the name of the case.
        splits: The dataset as each seed splits it, by seed.
    """

    trainings: dict[str, list[Record]]
    splits: dict[int, Dataset]

    @property
    def groups(self) -> list[list[str]]:
        """The group of every held-out row, for each seed."""
        return [[row.group for row in data.select("test")] for data in self.splits.values()]

    def summary(self, name: str) -> dict[str, Any]:
        """One case over the seeds: held-out accuracy with its interval, accuracy on training rows, time.

        For a fusion also `right_by`: the accuracy when the other input comes from another row.
        """
        records = self.trainings[name]
        accuracies = [each["test"]["accuracy"] for each in records]
        interval = resampled(accuracies, _SHARE) if len(records) > 1 else proportion(_right(records)[0], self.groups[0])
        found: dict[str, Any] = {
            "accuracy": interval._asdict(),
            "train_accuracy": _mean(records, "train", "accuracy"),
            "seconds": _mean(records, "seconds"),
        }
        if records[0]["fusion"] not in BASELINES:
            found["right_by"] = {
                which: {
                    "text": _mean(records, which, "image_shuffled"),
                    "image": _mean(records, which, "text_shuffled"),
                }
                for which in _SHUFFLES
            }
        return found

    def ahead(self, name: str, of: str) -> dict[str, Any]:
        """How much more accurate one case is than another, compared in pairs: over the seeds, and by the bootstrap."""
        ours, theirs = self.trainings[name], self.trainings[of]
        of_seeds = [a["test"]["accuracy"] - b["test"]["accuracy"] for a, b in zip(ours, theirs, strict=True)]
        drawn = gain(_right(ours), _right(theirs), self.groups)
        return {
            "gain": (resampled(of_seeds, _SHARE) if len(of_seeds) > 1 else drawn)._asdict(),
            "gain_bootstrap": drawn._asdict(),
            "gain_of_seeds": of_seeds,
        }


def add_options(parser: argparse.ArgumentParser, *, seeds: int) -> None:
    """The options of every benchmark of trainings."""
    add = parser.add_argument
    add("data", type=Path, help="a folder with manifest.csv")
    add("--seeds", type=int, default=seeds, metavar="N", help="how many (default: %(default)s)")
    add("--epochs", type=int, metavar="N", help="default: the preset's")
    add("--keep-split", action="store_true", help="use the manifest's split with every seed")
    add("--most", type=int, metavar="N", help="train at most this many in this run; the next run resumes")
    add(
        "--work", type=Path, default=Path("build/fusion/trainings.json"), metavar="FILE",
        help="file of completed trainings, of all runs (default: %(default)s)",
    )  # fmt: skip
    add("--out", type=Path, default=RESULTS, metavar="FOLDER", help="default: %(default)s")
    add("--json", action="store_true", help="print the JSON instead of a table")


def run(
    name: str,
    options: argparse.Namespace,
    cases: Sequence[Case],
    compare: Callable[[Collected], dict[str, Any]],
    draw: Callable[[Mapping[str, Any]], Figure],
) -> int:
    """Trains, writes NAME.json and .png, and prints the report; the exit code is 3 if trainings are left.

    Args:
        name: Of the benchmark.
        options: From `add_options`.
        cases: With distinct names.
        compare: Makes the report.
        draw: Draws it.
    """
    collected = collect(options, cases)
    if collected is None:
        return _UNFINISHED
    report = {
        "when": time.strftime("%Y-%m-%d"),
        "seeds": [str(seed) for seed in collected.splits],
        "held_out": [f"{len(rows):,}" for rows in collected.groups],
        **compare(collected),
    }
    write(report, options.out / f"{name}.json")
    draw(report).savefig(options.out / f"{name}.png", dpi=110)
    print(json.dumps(report) if options.json else tables(name, report))
    return 0


def collect(options: argparse.Namespace, cases: Sequence[Case]) -> Collected | None:
    """Trains every case with every seed, on the same rows within a seed; None if `--most` leaves some for another run.

    Raises:
        ExportError, DataError, TokenizerError: As `train` does.
    """
    tf.get_logger().setLevel("ERROR")  # it warns of tracing, as every model is a new one
    dataset = load_dataset(options.data, progress=False)
    splits = {
        seed: dataset if options.keep_split else dataset.resplit(_SHARE, salt=f"seed {seed} ")
        for seed in range(options.seeds)
    }
    kept: dict[str, Record] = json.loads(options.work.read_text(encoding="utf-8")) if options.work.exists() else {}
    found: dict[str, list[Record]] = {case.name: [] for case in cases}
    work = [(data, seed, case) for seed, data in splits.items() for case in cases]
    trained = 0
    for number, (data, seed, case) in enumerate(work, 1):
        # Differs whenever the training would differ.
        settings = repr((data.digest, seed, case.fusion, case.preset))
        key = hashlib.sha256(settings.encode()).hexdigest()[:16]
        head = f"{number} of {len(work)}: {case.name}, seed {seed}"
        if key not in kept:
            if trained == options.most:
                _say(f"{head} is left for another run")
                return None
            _say(f"{head} …")
            kept[key] = _train(data, seed, case)
            write(kept, options.work)
            trained += 1
            _say(f"{head}: {kept[key]['test']['accuracy']:.3f} held out, {kept[key]['seconds']:.0f} s")
        found[case.name].append(kept[key])
    return Collected(found, splits)


def plots(names: Sequence[str], inches: tuple[float, float]) -> tuple[Figure, Any, Any]:
    """A figure with two plots side by side: shares on the x-axis, a row for each model, the first at the bottom."""
    figure = Figure(figsize=inches, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    left.set_yticks(range(len(names)), names)
    for axis in (left, right):
        axis.grid(axis="x", alpha=0.3)
        axis.xaxis.set_major_formatter(PercentFormatter(1))
    return figure, left, right


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


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
            record[which] |= _shuffled(trained.model, arrays, shuffles)
        record["right"] = "".join("01"[int(hit)] for hit in hits)
    return record


def _shuffled(model: keras.Model, arrays: Arrays, shuffles: int) -> dict[str, float]:
    """Accuracy when one input comes from another row, mean over this many shuffles: the accuracy by the other input."""
    draw = np.random.default_rng(0)
    orders = [draw.permutation(len(arrays.classes)) for _ in range(shuffles)]
    found = {
        "text_shuffled": [dataclasses.replace(arrays, tokens=arrays.tokens[order]) for order in orders],
        "image_shuffled": [dataclasses.replace(arrays, images=arrays.images[order]) for order in orders],
    }
    return {name: float(np.mean([_hits(model, each).mean() for each in cases])) for name, cases in found.items()}


def _hits(model: keras.Model, arrays: Arrays) -> Any:
    return _answers(model, arrays).argmax(axis=-1) == arrays.classes


def _answers(model: keras.Model, arrays: Arrays) -> Any:
    return model.predict({"image": arrays.images, "tokens": arrays.tokens}, batch_size=128, verbose=0)


def _right(records: Sequence[Record]) -> list[Any]:
    return [np.array([hit == "1" for hit in record["right"]]) for record in records]


def _mean(records: Sequence[Record], key: str, inner: str = "") -> float:
    return float(np.mean([each[key][inner] if inner else each[key] for each in records]))
