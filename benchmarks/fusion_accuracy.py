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

import dataclasses
import sys
from collections.abc import Mapping
from typing import Any, Final

from benchmarks import _trainings
from benchmarks._report import parser
from benchmarks._trainings import Case, Collected
from export.training.presets import BASELINES, FUSIONS, PRESETS

PRIMARY: Final = "attention"


def main() -> int:
    asked = parser(__doc__)
    asked.add_argument("--preset", choices=PRESETS, default="compact")
    asked.add_argument("--fusions", nargs="+", choices=(*BASELINES, *FUSIONS), default=(*BASELINES, *FUSIONS))
    _trainings.add_options(asked, seeds=5)
    options = asked.parse_args()
    preset = PRESETS[options.preset]
    preset = dataclasses.replace(preset, epochs=options.epochs or preset.epochs)
    cases = [Case(fusion, fusion, preset) for fusion in options.fusions]
    return _trainings.run("fusion_accuracy", options, cases, _compared, _drawn)


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


def _drawn(report: Mapping[str, Any]) -> Any:
    """A dot for each seed, the mean with its interval, and the gain over the better single input."""
    models = list(reversed(report["models"]))
    figure, left, right = _trainings.plots([model["name"] for model in models], (11, 3.6))
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


if __name__ == "__main__":
    sys.exit(main())
