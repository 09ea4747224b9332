"""Does fusing beat each input alone? Held-out accuracy of every fusion and of each branch, over seeds.

    python -m benchmarks.fusion_accuracy build/demo/data

A seed decides the training and the split: which groups (of the demo data: base emoji with their
variants) are held out. Within a seed all models have the same rows, so they are compared in pairs.

Decided before the first run: the comparison that counts is `attention` against the better single
input, the one with the higher mean over the seeds. The other fusions are shown beside it.

Writes fusion_accuracy.json and .png. Every training is kept as it ends, and the same command
goes on from there.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

from benchmarks._trainings import Case, collect
from export._presets import BASELINES, FUSIONS, PRESETS
from export.data import load_dataset

def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder with manifest.csv")
    parser.add_argument("--preset", choices=PRESETS, default="compact")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--most", type=int)
    parser.add_argument("--work", type=Path, default=Path("build/fusion/trainings.json"))
    options = parser.parse_args()
    cases = [Case(name, name, PRESETS[options.preset]) for name in (*BASELINES, *FUSIONS)]
    found = collect(load_dataset(options.data, progress=False), cases, range(options.seeds), options.work, most=options.most,
                    say=lambda line: print(line, file=sys.stderr, flush=True))
    return 0 if found else 3

if __name__ == "__main__":
    sys.exit(main())
