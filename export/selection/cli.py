"""The command `compare`."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from duoserve.arguments import positive
from duoserve.console import say
from export.options import add_answer, add_command, add_json, duration
from export.training.presets import BASELINES, FUSIONS, PRESETS

_CANDIDATES = """\
a candidate is
  one of {models}   to be trained, with the preset
  PRESET/FUSION                                                 the same, with another preset
  a run that `train --out` wrote
  the folder of an exported version, such as models/emoji/3

Quality (accuracy; of tags mean average precision, of scores R²), calibration and speed are those
of the exported SavedModel, by the signature that clients use. The table has 95 % intervals;
AGAINST is the difference to the better single input on the same rows.
"""


def add_compare(commands: Any) -> None:
    """Adds the command and its options."""
    compare = add_command(
        commands, "compare", _compare, "train or load several models and compare quality, calibration, speed and size"
    )
    compare.formatter_class = argparse.RawDescriptionHelpFormatter
    compare.epilog = _CANDIDATES.format(models=" ".join((*BASELINES, *FUSIONS)))
    compare.add_argument("folder", type=Path, help="data folder with manifest.csv")
    compare.add_argument(
        "candidates", nargs="*", metavar="CANDIDATE", help="default: each input alone, and every fusion"
    )
    compare.add_argument("--out", type=Path, metavar="FOLDER", help="keep the trained models, compare.json and .png")
    compare.add_argument("--preset", choices=PRESETS, default="compact", help="architecture (default: %(default)s)")
    compare.add_argument("--epochs", type=positive, metavar="N", help="default: the preset's")
    compare.add_argument("--seed", type=int, default=0, help="seed of split and trainings (default: %(default)s)")
    compare.add_argument(
        "--budget", type=duration, metavar="TIME", help="for all trainings, such as 10m; the rest is skipped"
    )
    add_answer(compare)
    add_json(compare)


def _compare(options: argparse.Namespace) -> int:
    from export.dataset.data import load_dataset
    from export.selection.candidates import DEFAULT, parse_candidates
    from export.selection.compare import compare
    from export.selection.report import keep, summary, table

    candidates = parse_candidates(options.candidates or DEFAULT, preset=options.preset)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)  # before the work, not after it
    progress = False if options.json else None
    dataset = load_dataset(options.folder, answer=options.answer, seed=options.seed, progress=progress)
    if dataset.note:
        print(dataset.note, file=sys.stderr, flush=True)
    comparison = compare(
        dataset,
        candidates,
        runs=None if options.out is None else options.out / "runs",
        seed=options.seed,
        epochs=options.epochs,
        budget=options.budget,
        progress=progress,
        report=lambda line: None if options.json else print(line, file=sys.stderr, flush=True),
    )
    if options.out is not None:
        keep(comparison, options.out)
    if options.json:
        say(json.dumps(comparison.to_json(), ensure_ascii=False))
    else:
        say(f"{table(comparison)}\n\n{summary(comparison)}")
        if options.out is not None:
            say(f"Figures and plot: {options.out / 'compare.json'}, {options.out / 'compare.png'}")
    return 0
