"""Does fusing beat each input alone? Held-out accuracy of every fusion and of each branch, over seeds.

    python -m benchmarks.fusion_accuracy build/demo/data

A seed decides the training and the split: which groups (of the demo data: base emoji with their
variants) are held out. Within a seed all models have the same rows, so they are compared in pairs.

The main result is the difference between `attention` and the better single input, the one with the
higher mean over the seeds, with the corrected resampled t interval, which covers the randomness of
the training and of the split. The model was chosen before the first run, the interval before any
training of that model had ended. The other fusions, and the bootstrap over seeds and groups, are
shown beside it.

Writes fusion_accuracy.json and .png. Every training is saved as it ends, and the same command
resumes. Exit codes: 0 everything is written, 3 trainings are left after --most.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

from benchmarks import _trainings
from benchmarks._trainings import Case
from benchmarks.tables import tables
from export.training.presets import BASELINES, FUSIONS, PRESETS

PRIMARY: Final = "attention"
NAME: Final = "fusion_accuracy"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--preset", choices=PRESETS, default="compact")
    add("--fusions", nargs="+", choices=(*BASELINES, *FUSIONS), default=(*BASELINES, *FUSIONS))
    _trainings.add_options(parser, seeds=5)
    options = parser.parse_args()
    preset = PRESETS[options.preset]
    preset = dataclasses.replace(preset, epochs=options.epochs or preset.epochs)
    collected = _trainings.collect(options, [Case(fusion, fusion, preset) for fusion in options.fusions])
    if collected is None:
        return _trainings.UNFINISHED
    report = {**collected.facts(), "preset": options.preset, **_compared(collected.trainings, collected.groups)}
    _trainings.write(report, options.out / f"{NAME}.json")
    _draw(report, options.out / f"{NAME}.png")
    print(json.dumps(report) if options.json else tables(NAME, report))
    return 0


def _compared(trainings: Mapping[str, Sequence[Any]], groups: Sequence[Sequence[str]]) -> dict[str, Any]:
    models = {name: _trainings.summary(records, groups) for name, records in trainings.items()}
    alone = [name for name in models if name in BASELINES]
    yardstick = max(alone, key=lambda name: models[name]["accuracy"]["value"], default=None)
    for name, model in models.items():
        if yardstick not in (None, name):
            model |= _trainings.ahead(trainings[name], trainings[str(yardstick)], groups)
    return {
        "primary": PRIMARY if PRIMARY in models else None,
        "yardstick": yardstick,
        "models": [{"name": name, **model} for name, model in models.items()],
        "trainings": [{"name": name, **_trainings.shown(each)} for name in models for each in trainings[name]],
    }


def _draw(report: Mapping[str, Any], path: Path) -> None:
    """A dot for each seed, the mean with its interval, and the gain over the better single input."""
    models = list(reversed(report["models"]))
    figure, left, right = _trainings.plots([model["name"] for model in models], (11, 3.6))
    for place, model in enumerate(models):
        colour = "tab:blue" if model["name"] in FUSIONS else "0.45"
        of_seeds = [each["accuracy"] for each in report["trainings"] if each["name"] == model["name"]]
        _trainings.dots(left, place, of_seeds, model["accuracy"], colour)
        if gain := model.get("gain"):
            of_seeds = model["gain_of_seeds"]
            _trainings.dots(right, place, of_seeds, gain, colour)
    left.set_xlabel(f"held-out accuracy; dots: {len(report['seeds'])} seeds, bars: mean and 95 % interval")
    right.axvline(0, color="0.7", lw=1)
    right.set_xlabel(f"more right than {report['yardstick']} on the same rows")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
