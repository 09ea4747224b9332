"""Does fusing beat each input alone? Held-out accuracy of every fusion and of each branch, over seeds.

    python -m benchmarks.fusion_accuracy build/demo/data

A seed decides the training and the split: which groups (of the demo data: base emoji with their
variants) are held out. Within a seed all models have the same rows, so they are compared in pairs.

The main result is the difference between `attention`, which was chosen before the first run, and the
single input with the higher mean over the seeds, with the corrected resampled t interval, which covers
the randomness of the training and of the split. The bootstrap over seeds and groups is shown beside it.

Writes fusion_accuracy.json and .png. Every training is saved as it ends, and the same command
resumes. Exit codes: 0 everything is written, 3 trainings are left after --most.
"""

import argparse
import dataclasses
import hashlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from benchmarks._report import RESULTS, parser, write
from benchmarks.tables import tables
from duoserve.preprocessing.preprocessor import Preprocessor
from export.dataset.data import Arrays, Dataset, encode, load_dataset
from export.selection.statistics import gain, proportion, resampled
from export.training.presets import BASELINES, FUSIONS, PRESETS, Preset
from export.training.train import train

PRIMARY: Final = "attention"
_UNFINISHED: Final = 3
_SHARE: Final = 0.2  # of every class is held out
_SHUFFLES: Final = {"train": 1, "test": 5}
Record = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Collected:
    """Every training, in the order of the seeds.

    Attributes:
        trainings: By model: a fusion, or an input alone.
        splits: The dataset as each seed splits it, by seed.
    """

    trainings: dict[str, list[Record]]
    splits: dict[int, Dataset]

    @property
    def groups(self) -> list[list[str]]:
        """The group of every held-out row, for each seed."""
        return [[row.group for row in data.select("test")] for data in self.splits.values()]

    def summary(self, name: str) -> dict[str, Any]:
        """One model over the seeds: held-out accuracy with its interval, accuracy on training rows, time.

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
        """How much more accurate one model is than another, in pairs: over the seeds, and by the bootstrap."""
        ours, theirs = self.trainings[name], self.trainings[of]
        of_seeds = [a["test"]["accuracy"] - b["test"]["accuracy"] for a, b in zip(ours, theirs, strict=True)]
        drawn = gain(_right(ours), _right(theirs), self.groups)
        return {
            "gain": (resampled(of_seeds, _SHARE) if len(of_seeds) > 1 else drawn)._asdict(),
            "gain_bootstrap": drawn._asdict(),
            "gain_of_seeds": of_seeds,
        }


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    asked = parser(__doc__)
    add = asked.add_argument
    add("data", type=Path, help="a folder with manifest.csv")
    add("--preset", choices=PRESETS, default="compact")
    add("--fusions", nargs="+", choices=(*BASELINES, *FUSIONS), default=(*BASELINES, *FUSIONS))
    add("--seeds", type=int, default=5, metavar="N", help="how many (default: %(default)s)")
    add("--epochs", type=int, metavar="N", help="default: the preset's")
    add("--keep-split", action="store_true", help="use the manifest's split with every seed")
    add("--most", type=int, metavar="N", help="train at most this many in this run; the next run resumes")
    add(
        "--work", type=Path, default=Path("build/fusion/trainings.json"), metavar="FILE",
        help="file of completed trainings, of all runs (default: %(default)s)",
    )  # fmt: skip
    add("--out", type=Path, default=RESULTS, metavar="FOLDER", help="default: %(default)s")
    add("--json", action="store_true", help="print the JSON instead of a table")
    return asked.parse_args(arguments)


def main() -> int:
    options = parse()
    collected = collect(options)
    if collected is None:
        return _UNFINISHED
    report = {
        "when": time.strftime("%Y-%m-%d"),
        "seeds": [str(seed) for seed in collected.splits],
        "held_out": [f"{len(rows):,}" for rows in collected.groups],
        **_compared(collected),
    }
    write(report, options.out / "fusion_accuracy.json")
    _drawn(report).savefig(options.out / "fusion_accuracy.png", dpi=110)
    print(json.dumps(report) if options.json else tables("fusion_accuracy", report))
    return 0


def collect(options: argparse.Namespace) -> Collected | None:
    """Trains every fusion with every seed, on the same rows within a seed; None if `--most` leaves some.

    Raises:
        ExportError, DataError, TokenizerError: As `train` does.
    """
    tf.get_logger().setLevel("ERROR")  # it warns of tracing, as every model is a new one
    preset = PRESETS[options.preset]
    preset = dataclasses.replace(preset, epochs=options.epochs or preset.epochs)
    dataset = load_dataset(options.data, progress=False)
    splits = {
        seed: dataset if options.keep_split else dataset.resplit(_SHARE, salt=f"seed {seed} ")
        for seed in range(options.seeds)
    }
    kept: dict[str, Record] = json.loads(options.work.read_text(encoding="utf-8")) if options.work.exists() else {}
    found: dict[str, list[Record]] = {fusion: [] for fusion in options.fusions}
    work = [(data, seed, fusion) for seed, data in splits.items() for fusion in options.fusions]
    trained = 0
    for number, (data, seed, fusion) in enumerate(work, 1):
        # Differs whenever the training would differ.
        settings = repr((data.digest, seed, fusion, preset))
        key = hashlib.sha256(settings.encode()).hexdigest()[:16]
        head = f"{number} of {len(work)}: {fusion}, seed {seed}"
        if key not in kept:
            if trained == options.most:
                _say(f"{head} is left for another run")
                return None
            _say(f"{head} …")
            kept[key] = _train(data, seed, fusion, preset)
            write(kept, options.work)
            trained += 1
            _say(f"{head}: {kept[key]['test']['accuracy']:.3f} held out, {kept[key]['seconds']:.0f} s")
        found[fusion].append(kept[key])
    return Collected(found, splits)


def _compared(collected: Collected) -> dict[str, Any]:
    models = {name: {"name": name, **collected.summary(name)} for name in collected.trainings}
    alone = [name for name in models if name in BASELINES]
    yardstick = max(alone, key=lambda name: models[name]["accuracy"]["value"], default=None)
    for name, model in models.items():
        if yardstick not in (None, name):
            model |= collected.ahead(name, str(yardstick))
    return {
        "primary": PRIMARY if PRIMARY in models else None,
        "yardstick": yardstick,
        "models": list(models.values()),
        "trainings": [
            {
                "name": name,
                "seed": str(record["seed"]),
                "accuracy": record["test"]["accuracy"],
                "train_accuracy": record["train"]["accuracy"],
                **{key: record[key] for key in ("balanced_accuracy", "loss", "seconds")},
            }
            for name, records in collected.trainings.items()
            for record in records
        ],
    }


def _drawn(report: Mapping[str, Any]) -> Figure:
    """A dot for each seed, the mean with its interval, and the gain over the better single input."""
    models = list(reversed(report["models"]))
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    left.set_yticks(range(len(models)), [model["name"] for model in models])
    for axis in (left, right):
        axis.grid(axis="x", alpha=0.3)
        axis.xaxis.set_major_formatter(PercentFormatter(1))
    for place, model in enumerate(models):
        colour = "tab:blue" if model["name"] in FUSIONS else "0.45"
        of_seeds = [each["accuracy"] for each in report["trainings"] if each["name"] == model["name"]]
        plotted = [(left, of_seeds, model["accuracy"])]
        if "gain" in model:
            plotted.append((right, model["gain_of_seeds"], model["gain"]))
        for axis, values, mean in plotted:
            axis.plot(values, [place + 0.18] * len(values), "o", ms=4, alpha=0.5, color=colour)
            axis.plot([mean["low"], mean["high"]], [place - 0.08] * 2, color=colour, lw=2)
            axis.plot(mean["value"], place - 0.08, "D", ms=6, color=colour)
    left.set_xlabel(f"held-out accuracy; dots: {len(report['seeds'])} seeds, bars: mean and 95 % interval")
    right.axvline(0, color="0.7", lw=1)
    right.set_xlabel(f"more right than {report['yardstick']} on the same rows")
    return figure


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _train(data: Dataset, seed: int, fusion: str, preset: Preset) -> Record:
    keras.utils.clear_session()
    trained = train(data, preset=preset, fusion=fusion, seed=seed, progress=False)
    preprocessor = Preprocessor(trained.spec)
    record: Record = {
        "fusion": fusion,
        "seed": seed,
        "epochs": preset.epochs,
        "seconds": trained.facts["seconds"],
        "balanced_accuracy": trained.facts["metrics"]["balanced_accuracy"],
        "loss": trained.facts["metrics"]["loss"],
    }
    for which, shuffles in _SHUFFLES.items():
        arrays = encode(data.select(which), preprocessor, progress=False)
        hits = _hits(trained.model, arrays)
        record[which] = {"accuracy": float(hits.mean())}
        if fusion not in BASELINES:
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


if __name__ == "__main__":
    sys.exit(main())
