"""The command `train`."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any, Final

from duoserve.arguments import positive
from duoserve.console import say
from export.defaults import BACKGROUND
from export.options import add_answer, add_command, add_json, colour, duration, names
from export.training.presets import FUSIONS, PRECISIONS, PRESETS, Running

_SEARCH_SECONDS: Final = 600.0
_FOLDER: Final = (
    "has manifest.csv: columns image (or audio),text,label and maybe split; in place of label a column for each score,"
    " such as 'price [EUR]'"
)


def add_train(commands: Any) -> None:
    """Adds the command and its options."""
    train = add_command(commands, "train", _train, "train a model on a folder with images and a manifest.csv")
    add = train.add_argument
    add("folder", type=Path, help=_FOLDER)
    add("--out", type=Path, required=True, metavar="RUN", help="folder for the trained model")
    add("--preset", choices=PRESETS, default="compact", help="architecture (default: %(default)s)")
    add("--fusion", choices=FUSIONS, help="how the two inputs meet (default: concat; with --search, all are tried)")
    add("--epochs", type=positive, metavar="N", help="default: the preset's")
    add("--seed", type=int, default=0, help="same seed, same model (default: %(default)s)")
    add_answer(train)
    add(
        "--optional", type=names, metavar="image,text", default=(),
        help="inputs that callers may leave out, one or both: the model learns to answer without them",
    )  # fmt: skip
    add(
        "--background", type=colour, metavar="R,G,B", default=BACKGROUND,
        help="colour under transparent pixels, in training and serving (default: 255,255,255, white)",
    )  # fmt: skip
    add("--search", action="store_true", help="try a few settings on part of the training rows, then train the best")
    add("--budget", type=duration, metavar="TIME", help="for all of --search, such as 10m or 1h (default: 10m)")
    add = train.add_argument_group("for large models and data (export/LARGE.md)").add_argument
    add("--precision", choices=PRECISIONS, default="float32", help="precision of the layers (default: %(default)s)")
    add("--accumulate", type=positive, default=1, metavar="N", help="batches for each step of the optimizer")
    add("--devices", type=positive, default=1, metavar="N", help="devices that share each batch")
    add("--stream", action="store_true", help="decode images again in every epoch, for data larger than memory")
    add("--checkpoint", type=Path, metavar="FILE", help="keep the state in this file; the same command resumes from it")
    add("--checkpoint-every", type=duration, default=300.0, metavar="TIME", help="how often, such as 30s (default: 5m)")
    add_json(train)


def _train(options: argparse.Namespace) -> int:
    from duoserve.contract import IMAGE, ONE_CLASS
    from export.dataset.data import load_dataset
    from export.measures import shown
    from export.selection.search import grid, search, table
    from export.training.run import check_target
    from export.training.train import train

    run = Running(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Running)})
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
        return 0
    if options.search:
        say(table(trained.facts["search"]))
    answer = trained.spec.answer
    good = shown(answer, trained.facts["metrics"])
    say(f"Trained in {trained.facts['seconds']:.0f} s; {good} on held-out rows; in {options.out}")
    for name, metrics in trained.facts["missing"].items():
        say(f"Without the {trained.spec.medium if name == IMAGE else name}: {shown(answer, metrics)}")
    return 0
