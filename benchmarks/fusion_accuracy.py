"""Does fusing beat each input alone? Held-out accuracy of every fusion and of each branch, over seeds.

    python -m benchmarks.fusion_accuracy build/data --seeds 3

The split is the manifest's; a seed changes the training only. So "over seeds" is the standard
error of the training, and "over rows" the 95 % interval that comes from the number of held-out rows.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

from export._presets import BASELINES, FUSIONS, PRESETS
from export.data import load_dataset
from export.train import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder with manifest.csv")
    parser.add_argument("--preset", choices=PRESETS, default="compact")
    parser.add_argument("--fusions", nargs="+", choices=(*FUSIONS, *BASELINES), default=(*BASELINES, *FUSIONS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="default: the preset's")
    parser.add_argument("--json", action="store_true", help="one JSON object a training instead of the table")
    options = parser.parse_args()

    dataset = load_dataset(options.data)
    held_out = len(dataset.select("test"))
    found: dict[str, list[dict[str, float]]] = {fusion: [] for fusion in options.fusions}
    for seed in range(options.seeds):
        for fusion in options.fusions:
            facts = train(dataset, preset=options.preset, fusion=fusion, seed=seed, epochs=options.epochs).facts
            found[fusion].append({**facts["metrics"], "seconds": facts["seconds"]})
            if options.json:
                print(json.dumps({"fusion": fusion, "seed": seed, **found[fusion][-1]}), flush=True)
            else:
                print(f"{fusion}, seed {seed}: {facts['metrics']['accuracy']:.3f}", file=sys.stderr, flush=True)
    if options.json:
        return
    print(f"| {options.preset} | accuracy | over seeds | over {held_out} rows | balanced | seconds |")
    print("|---|---|---|---|---|---|")
    for fusion, runs in found.items():
        accuracy = [run["accuracy"] for run in runs]
        mean = statistics.mean(accuracy)
        spread = f"± {statistics.stdev(accuracy) / math.sqrt(len(accuracy)):.3f}" if len(accuracy) > 1 else "-"
        interval = 1.96 * math.sqrt(mean * (1 - mean) / held_out)
        balanced = statistics.mean(run["balanced_accuracy"] for run in runs)
        seconds = statistics.mean(run["seconds"] for run in runs)
        print(f"| {fusion} | {mean:.3f} | {spread} | ± {interval:.3f} | {balanced:.3f} | {seconds:.0f} |")


if __name__ == "__main__":
    main()
