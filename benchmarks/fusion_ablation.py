"""What does naive training cost a fusion? Leaves out each part of the training, and all of them.

    python -m benchmarks.fusion_ablation build/demo/data

One fusion, `concat`, with the settings of the preset, then with one of them off, then with all off
at the rate of the reference preset ("naive": Adam at a constant 0.001 on the plain rows), then naive
with one thing changed. "first try" is naive with tokens of whole words and 15 epochs. Each branch alone
is shown beside them. Within a seed, all have the same rows. For fusions it also measures how far each
input moves the logits, and how many rows are right when the other input comes from another row: a branch
that is right only on training rows has memorised them. Differences have the bootstrap interval.

Writes fusion_ablation.json and .png. Every training is saved as it ends, those of
`benchmarks.fusion_accuracy` are not repeated, and the same command resumes.
Exit codes: 0 everything is written, 3 trainings are left after --most.
"""

import dataclasses
import sys
from collections.abc import Mapping
from typing import Any, Final

from benchmarks import _trainings
from benchmarks._report import parser
from benchmarks._trainings import Case, Collected
from benchmarks._variants import ONE_SCALE, WORDS
from export.training.presets import BASELINES, PRESETS, Preset

FUSION: Final = "concat"
WHOLE: Final = "as trained"
PARTS: Final[Mapping[str, dict[str, Any]]] = {
    "losses of the branches": {"branch_loss": 0.0},
    "dropout": {"dropout": 0.0},
    "moved pictures": {"shift": 0.0},
    "other cuts of the text": {"segmentations": 1},
    "label smoothing": {"label_smoothing": 0.0},
    "falling rate": {"decay": False},
}
"""The parts to leave out, one at a time, with the settings that do so."""

NAIVE: Final[dict[str, Any]] = {
    **{key: value for settings in PARTS.values() for key, value in settings.items()},
    "weight_decay": 0.0,
    "learning_rate": PRESETS["reference"].learning_rate,
}
PIECES: Final = 4_000
"""Upper limit of the vocabulary, in place of the preset's 1,000: it holds every word of the training texts."""

ADDED: Final[Mapping[str, tuple[dict[str, Any], str]]] = {
    **{
        part: ({key: getattr(PRESETS["compact"], key) for key in PARTS[part]}, "")
        for part in ("losses of the branches", "dropout")
    },
    "a falling rate": ({"decay": True}, ""),
    "a lower rate": ({"learning_rate": 3e-4}, ""),
    "one scale": ({}, ONE_SCALE),
    "whole words": ({}, WORDS),
    "whole words, rare ones too": ({"vocabulary": PIECES}, WORDS),
}
"""The changes of the naive training, one at a time: settings, and the variant."""

FIRST_TRY: Final = 15
"""Epochs."""


def main() -> int:
    asked = parser(__doc__)
    _trainings.add_options(asked, seeds=2)
    preset = PRESETS["compact"]
    names = [case.name for case in _cases(preset)]
    asked.add_argument(
        "--cases", nargs="+", choices=names, default=names, metavar="CASE",
        help=f"beside '{WHOLE}', only these of: {'; '.join(names[1:])}",
    )  # fmt: skip
    options = asked.parse_args()
    cases = _cases(dataclasses.replace(preset, epochs=options.epochs or preset.epochs))
    cases = [case for case in cases if case.name in (WHOLE, *options.cases)]
    return _trainings.run("fusion_ablation", options, cases, _compared, _drawn)


def _cases(whole: Preset) -> list[Case]:
    naive = dataclasses.replace(whole, **NAIVE)
    first = dataclasses.replace(naive, epochs=min(FIRST_TRY, whole.epochs))
    return [
        Case(WHOLE, FUSION, whole),
        Case("naive", FUSION, naive),
        *(Case(f"naive, {name}", name, naive) for name in BASELINES),
        *(Case(f"{WHOLE}, {name}", name, whole) for name in BASELINES),
        *(Case(f"first try, {name}", name, first, WORDS) for name in (FUSION, *BASELINES)),
        *(
            Case(f"naive with {part}", FUSION, dataclasses.replace(naive, **settings), variant)
            for part, (settings, variant) in ADDED.items()
        ),
        *(Case(f"without {part}", FUSION, dataclasses.replace(whole, **off)) for part, off in PARTS.items()),
        Case(f"{WHOLE}, whole words", FUSION, dataclasses.replace(whole, segmentations=1), WORDS),
        Case(f"{WHOLE}, up to {PIECES:,} pieces", FUSION, dataclasses.replace(whole, vocabulary=PIECES)),
    ]


def _compared(collected: Collected) -> dict[str, Any]:
    models = []
    for name in collected.trainings:
        summary = collected.summary(name)
        model = {"name": name, **summary, "accuracy": summary["accuracy"]["value"]}
        if name != WHOLE:
            gain = collected.ahead(name, WHOLE)
            # There are too few seeds for a t interval.
            model |= {"gain": gain["gain_bootstrap"], "gain_of_seeds": gain["gain_of_seeds"]}
        models.append(model)
    return {"yardstick": WHOLE, "models": models}


def _drawn(report: Mapping[str, Any]) -> Any:
    """Held-out accuracy of every case, and the accuracy by each input on training rows and on held-out ones."""
    models = list(reversed(report["models"]))
    figure, left, right = _trainings.plots([model["name"] for model in models], (13, 0.4 * len(models) + 1.6))
    for place, model in enumerate(models):
        value = model["accuracy"]
        left.plot([value, model["train_accuracy"]], [place, place], color="0.7", lw=2)
        left.plot(model["train_accuracy"], place, "o", mfc="white", color="0.3")
        left.plot(value, place, "o", color="0.3")
        for name, colour, up in (("text", "tab:orange", 0.14), ("image", "tab:blue", -0.14)):
            if by := model.get("right_by"):
                ends = by["train"][name], by["test"][name]
                right.plot(ends, [place + up] * 2, color=colour, lw=2, alpha=0.4)
                right.plot(ends[0], place + up, "o", mfc="white", color=colour)
                right.plot(ends[1], place + up, "o", color=colour, label=None if place else f"by the {name}")
    left.set_xlabel("right; hollow: training rows, full: held-out rows")
    right.set_xlabel("right when the other input comes from another row")
    right.legend()
    return figure


if __name__ == "__main__":
    sys.exit(main())
