"""A small search for good settings, by successive halving.

Every setting is trained briefly, the better ones longer, the best one fully and on all training
rows. Settings are ranked on validation rows, which are taken from the training rows group by group;
the held-out rows are not used, so figures on them stay valid.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from duoserve.console import aligned
from export.dataset.data import Dataset
from export.defaults import BACKGROUND
from export.errors import ExportError
from export.measures import RANKED_BY, as_text
from export.selection.budget import Budget
from export.training.presets import Preset
from export.training.run import TrainedModel
from export.training.train import train

KNOBS: Final[Mapping[str, Callable[[Any], tuple[Any, ...]]]] = {
    "learning_rate": lambda usual: (usual, usual / 2),
    "dropout": lambda usual: (usual, min(usual + 0.15, 0.8)),
}
"""Fields of `Preset` to try, and their values; the preset's own comes first."""

_RUNGS: Final = (1 / 4, 1 / 2)
"""The share of the epochs that a setting is trained for before the best third continues."""

_VALIDATION: Final = 0.2


@dataclasses.dataclass(slots=True)
class Setting:
    """One setting, and its figure by `RANKED_BY` on validation rows after each of its trainings."""

    fusion: str
    preset: Preset
    qualities: list[float] = dataclasses.field(default_factory=list)
    loss: float = float("inf")

    @property
    def rank(self) -> tuple[int, float, float]:
        """The sort key of settings, the best first: rounds completed, then figure, then loss."""
        return -len(self.qualities), -self.qualities[-1] if self.qualities else 0.0, self.loss

    def to_json(self) -> dict[str, Any]:
        """The settings that were tried, with their results."""
        knobs = {name: getattr(self.preset, name) for name in KNOBS}
        return {"fusion": self.fusion, **knobs, "qualities": self.qualities}


def grid(preset: Preset, fusions: Sequence[str]) -> list[Setting]:
    """Every combination; the preset's own values with each fusion come first."""
    values = [values_of(getattr(preset, name)) for name, values_of in KNOBS.items()]
    return [
        Setting(fusion, dataclasses.replace(preset, **dict(zip(KNOBS, chosen, strict=True))))
        for chosen in itertools.product(*values)
        for fusion in fusions
    ]


def search(
    dataset: Dataset,
    settings: Sequence[Setting],
    *,
    seed: int = 0,
    optional: Sequence[str] = (),
    background: tuple[int, int, int] = BACKGROUND,
    budget: float | None = None,
    progress: bool | None = None,
    report: Callable[[str], Any] = lambda line: None,
) -> TrainedModel:
    """Finds the best of the settings and trains it on all training rows. The facts have what was tried under `search`.

    Args:
        dataset: Its training rows give the validation rows too.
        settings: From `grid`, at least one.
        seed: Seed of the trainings and of the choice of validation rows.
        optional: Inputs that may be missing, as in `train`.
        background: Under transparent pixels, as in `train`.
        budget: Seconds for everything. The search ends when only the last training still fits;
            one setting is tried in any case.
        progress: Whether to draw progress bars; None draws them on a terminal only.
        report: Called with a progress line at the beginning of each training.

    Raises:
        ExportError: No settings, no possible validation rows, or a training that `train` refuses.
    """
    if not settings:
        raise ExportError("Expected at least one setting to try. Received: none")
    begin, figure = time.monotonic(), RANKED_BY[dataset.answer.kind]
    inner = dataclasses.replace(dataset, rows=dataset.select("train")).resplit(_VALIDATION, salt=f"validation {seed} ")
    if not inner.select("test"):
        raise ExportError("Expected enough training rows to set some aside. Received: one group for every label")
    left, remaining = Budget(budget), list(settings)
    options: dict[str, Any] = {"seed": seed, "optional": optional, "background": background, "progress": progress}
    for number, share in enumerate(_RUNGS, 1):
        for position, setting in enumerate(remaining, 1):
            if not left.fits(share + 1):  # the last training has to fit too
                report(f"The budget ends the search: {left.left:.0f} s are left")
                break
            epochs = max(1, round(setting.preset.epochs * share))
            report(f"Round {number}, {position} of {len(remaining)}: {_describe(setting)}, {epochs} epochs")
            started = time.monotonic()
            facts = train(inner, preset=setting.preset, fusion=setting.fusion, epochs=epochs, **options).facts
            left.spend(time.monotonic() - started, share)
            setting.qualities.append(facts["metrics"][figure])
            setting.loss = facts["metrics"]["loss"]
        remaining = sorted(remaining, key=lambda each: each.rank)[: -(-len(remaining) // 3)]
    best = min(settings, key=lambda each: each.rank)
    report(f"Training the best on all rows: {_describe(best)}")
    trained = train(dataset, preset=best.preset, fusion=best.fusion, **options)
    tried = sorted((each for each in settings if each.qualities), key=lambda each: each.rank)
    trained.facts["search"] = {
        "figure": figure,
        "rows": {"train": len(inner.select("train")), "validation": len(inner.select("test"))},
        "tried": [each.to_json() for each in tried],
        "seconds": round(time.monotonic() - begin, 1),
    }
    return trained


def table(found: Mapping[str, Any]) -> str:
    """A table of the settings of a search, the best first."""
    head = ["FUSION", *(name.replace("_", " ").upper() for name in KNOBS)]
    lines = [[*head, *(f"ROUND {number}" for number in range(1, len(_RUNGS) + 1))]]
    for each in found["tried"]:
        qualities = [as_text(found["figure"], quality) for quality in each["qualities"]]
        rounds = qualities + ["-"] * (len(_RUNGS) - len(qualities))
        lines.append([each["fusion"], *(f"{each[name]:g}" for name in KNOBS), *rounds])
    return aligned(lines)


def _describe(setting: Setting) -> str:
    knobs = (f"{name.replace('_', ' ')} {getattr(setting.preset, name):g}" for name in KNOBS)
    return ", ".join((setting.fusion, *knobs))
