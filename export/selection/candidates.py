"""The candidates: names of models to train, folders of runs, folders of exported versions."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from export.dataset.data import Dataset
from export.errors import ExportError
from export.publish.answers import serve
from export.publish.card import read_card
from export.publish.signatures import write_saved_model
from export.selection.budget import Budget
from export.training.presets import BASELINES, FUSIONS, PRESETS, Preset
from export.training.run import RUN_FILE, TrainedModel, check_target
from export.training.train import train

DEFAULT: Final = (*BASELINES, *FUSIONS)
"""The default candidates: each input alone, and every fusion."""


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """One of the models to compare: either `path` exists, or `preset` and `fusion` are to be trained."""

    name: str
    path: Path | None = None
    preset: str = ""
    fusion: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """A candidate as a SavedModel.

    Attributes:
        name: The candidate's name.
        folder: The SavedModel.
        parameters: Number of weights; None if unknown.
        facts: The facts of its training; empty if unknown.
        same_data: Whether it was trained on this data with this split; None if unknown.
    """

    name: str
    folder: Path
    parameters: int | None
    facts: dict[str, Any]
    same_data: bool | None


def parse_candidates(texts: Sequence[str], *, preset: str) -> list[Candidate]:
    """Parses candidates: `FUSION`, `PRESET/FUSION` or a folder.

    Raises:
        ExportError: None of these, or the same one twice.
    """
    if repeated := sorted({text for text in texts if texts.count(text) > 1}):
        raise ExportError(f"Expected every candidate once. Received twice: {', '.join(repeated)}")
    return [_parse(text, preset) for text in texts]


def _parse(text: str, preset: str) -> Candidate:
    architecture, _, fusion = text.rpartition("/")
    if fusion in DEFAULT and (architecture or preset) in PRESETS:
        return Candidate(text, preset=architecture or preset, fusion=fusion)
    path = Path(text)
    if (path / RUN_FILE).is_file() or (path / "saved_model.pb").is_file():
        return Candidate(text, path)
    raise ExportError(
        f"Expected a candidate to be one of {', '.join(DEFAULT)}, one of these after a preset ({', '.join(PRESETS)})"
        f" and a slash, a run that `train` wrote, or the folder of a version. Received: {text!r}"
    )


def prepare(
    candidate: Candidate,
    dataset: Dataset,
    scratch: Path,
    *,
    runs: Path | None,
    seed: int,
    epochs: int | None,
    budget: Budget,
    progress: bool | None,
) -> Prepared | None:
    """Trains or loads a candidate, and writes its SavedModel if it has none; None if it does not fit the budget.

    The SavedModel goes into the folder `scratch`, a trained model into `runs`, if given: one with the same settings
    isn't trained again. The other arguments are those of `train`.

    Raises:
        ExportError: A run that can't be read, or a model that does not fit the contract.
    """

    def described(folder: Path, parameters: int | None, facts: dict[str, Any]) -> Prepared:
        digest = facts.get("data_digest")
        same = None if digest is None else digest == dataset.digest
        return Prepared(candidate.name, folder, parameters, facts, same)

    if candidate.path is not None and not (candidate.path / RUN_FILE).is_file():
        card = read_card(candidate.path)
        return described(candidate.path, card.get("parameters"), card.get("training", {}))
    if candidate.path is not None:
        trained = TrainedModel.load(candidate.path)
    else:
        preset = PRESETS[candidate.preset]
        preset = dataclasses.replace(preset, epochs=epochs or preset.epochs)
        target = None if runs is None else check_target(runs / f"{candidate.preset}-{candidate.fusion}")
        kept = _kept(target, candidate, preset, dataset, seed)
        if kept is None and not budget.fits():
            return None
        trained = kept or train(dataset, preset=preset, fusion=candidate.fusion, seed=seed, progress=progress)
        if kept is None:
            budget.spend(trained.facts["seconds"])
            if target is not None:
                trained.save(target)
    folder = scratch / f"{len(list(scratch.iterdir()))}"
    write_saved_model(serve(trained.model, trained.spec), trained.spec, folder)
    return described(folder, trained.model.count_params(), trained.facts)


def _kept(
    target: Path | None, candidate: Candidate, preset: Preset, dataset: Dataset, seed: int
) -> TrainedModel | None:
    """The model that an earlier comparison trained on the same data with the same settings."""
    if target is None or not (target / RUN_FILE).is_file():
        return None
    kept = TrainedModel.load(target)
    wanted = {
        "fusion": candidate.fusion,
        "seed": seed,
        "settings": json.loads(json.dumps(dataclasses.asdict(preset))),
        "data_digest": dataset.digest,
        "answer": dataset.answer.kind,
    }
    return kept if all(kept.facts.get(key) == value for key, value in wanted.items()) else None
