"""The command `train`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any, Final

from duoserve.console import say
from export.defaults import BACKGROUND
from export.options import add_answer, add_command, add_json, colour, duration, names, positive
from export.training.presets import FUSIONS, PRESETS
from export.training.running import Running, add_running, running

__all__ = ["add_train"]

_SEARCH_SECONDS: Final = 600.0


def add_train(commands: Any) -> None:
    """Adds the command and its options."""
    train = add_command(commands, "train", _train, "train a model on a folder with images and a manifest.csv")
    train.add_argument(
        "folder",
        type=Path,
        help="has manifest.csv: columns image (or audio),text,label and maybe split; in place of label a column for"
        " each score, such as 'price [EUR]'",
    )
    train.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder for the trained model")
    train.add_argument("--preset", choices=PRESETS, default="compact", help="architecture (default: %(default)s)")
    train.add_argument(
        "--fusion", choices=FUSIONS, help="how the two inputs meet (default: concat; with --search, all are tried)"
    )
    train.add_argument("--epochs", type=positive, metavar="N", help="default: the preset's")
    train.add_argument("--seed", type=int, default=0, help="same seed, same model (default: %(default)s)")
    add_answer(train)
    train.add_argument(
        "--optional",
        type=names,
        metavar="image,text",
        default=(),
        help="inputs that callers may leave out, one or both: the model learns to answer without them",
    )
    train.add_argument(
        "--background",
        type=colour,
        metavar="R,G,B",
        default=BACKGROUND,
        help="colour under transparent pixels, in training and serving (default: 255,255,255, white)",
    )
    train.add_argument(
        "--search", action="store_true", help="try a few settings on part of the training rows, then train the best"
    )
    train.add_argument(
        "--budget", type=duration, metavar="TIME", help="for all of --search, such as 10m or 1h (default: 10m)"
    )
    add_running(train)
    add_json(train)


def _train(options: argparse.Namespace) -> int:
    from duoserve.contract import IMAGE, ONE_CLASS
    from export.dataset.data import load_dataset
    from export.measures import shown
    from export.selection.search import grid, search, table
    from export.training.run import check_target
    from export.training.train import train

    run = running(options)
    if options.budget and not options.search:
        options.wrong_usage("argument --budget: expected with --search only")
    if options.search and run != Running():
        options.wrong_usage("expected --search without precision, devices, streams and checkpoints")
    check_target(options.out)  # before the work, not after it
    dataset = load_dataset(options.folder, answer=options.answer, seed=options.seed, background=options.background)
    if dataset.note:
        print(dataset.note, file=sys.stderr, flush=True)
    if dataset.answer != ONE_CLASS and not options.json:
        say(f"Answers with {dataset.answer.title}: {', '.join(dataset.labels)}")
    preset = PRESETS[options.preset]
    preset = dataclasses.replace(preset, epochs=options.epochs or preset.epochs)
    common: dict[str, Any] = {
        "seed": options.seed,
        "optional": options.optional,
        "background": options.background,
        "progress": False if options.json else None,
    }
    if options.search:
        trained = search(
            dataset,
            grid(preset, [options.fusion] if options.fusion else FUSIONS),
            budget=options.budget or _SEARCH_SECONDS,
            report=lambda line: None if options.json else print(line, file=sys.stderr, flush=True),
            **common,
        )
    else:
        trained = train(dataset, preset=preset, fusion=options.fusion or "concat", run=run, **common)
    trained.save(options.out)
    if run.checkpoint is not None:
        run.checkpoint.unlink(missing_ok=True)
    if options.json:
        say(json.dumps({"run": str(options.out), **trained.facts}, ensure_ascii=False))
    else:
        if options.search:
            say(table(trained.facts["search"]))
        answer = trained.spec.answer
        good = shown(answer, trained.facts["metrics"])
        say(f"Trained in {trained.facts['seconds']:.0f} s; {good} on held-out rows; in {options.out}")
        for name, metrics in trained.facts["missing"].items():
            missing = trained.spec.medium if name == IMAGE else name
            say(f"Without the {missing}: {shown(answer, metrics)}")
    return 0
