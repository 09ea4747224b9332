"""Compares candidates on the held-out rows, each as it is served: right or wrong, how sure, how fast, how large."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from tqdm import tqdm

from export.dataset.data import Dataset, Row
from export.errors import ExportError
from export.keras_settings import keras_settings
from export.selection.budget import Budget
from export.selection.candidates import Candidate, Prepared, prepare
from export.selection.served import BATCH, Answers, ServedModel
from export.selection.statistics import Bin, Interval, calibration, gain, proportion
from export.training.presets import BASELINES

__all__ = ["Comparison", "Measured", "choose", "compare"]

_ROUNDS: Final = 5
_SLICE: Final = 0.3  # seconds of calls in a row, before it is another candidate's turn


@dataclasses.dataclass(frozen=True, slots=True)
class Measured:
    """What was found out about one candidate.

    Attributes:
        name: The candidate's.
        accuracy: Share of the held-out rows that are right.
        gain: By how much more often it is right than the yardstick on the same rows; None for the yardstick itself.
        without: Accuracy without an optional input, by its name.
        loss: Mean cross-entropy.
        calibration_error: Expected calibration error.
        bins: What the calibration error is made of.
        parameters: Number of weights; None where nobody wrote it down.
        size: Bytes of the SavedModel on disk, without `assets.extra`.
        memory: Bytes of resident memory when it is loaded and answers.
        load_seconds: To load it.
        latency: Milliseconds of a call, "p50" and "p95", by rows a call.
        throughput: Rows a second in batches of 32, as many callers as cores.
        train_seconds: How long its training took, if that is known.
        same_data: Whether it was trained on this data with this split. If not, it may have seen the held-out
            rows; None where nothing is known.
    """

    name: str
    accuracy: Interval
    gain: Interval | None
    without: dict[str, Interval]
    loss: float
    calibration_error: float
    bins: list[Bin]
    parameters: int | None
    size: int
    memory: int
    load_seconds: float
    latency: dict[int, dict[str, float]]
    throughput: float
    train_seconds: float | None
    same_data: bool | None


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """All candidates, the most accurate first.

    Attributes:
        models: What was measured.
        yardstick: The name that `gain` is against: the better single input, or else the first candidate.
        choice: The name of the fastest among those that are within one standard error of the most accurate.
        left_out: Candidates that the budget had no time for.
        rows: Number of held-out rows.
        data_digest: Of the data and its split.
    """

    models: tuple[Measured, ...]
    yardstick: str
    choice: str
    left_out: tuple[str, ...]
    rows: int
    data_digest: str

    def to_json(self) -> dict[str, Any]:
        """The same as JSON's types."""
        record = dataclasses.asdict(self)
        for model, measured in zip(record["models"], self.models, strict=True):
            model["accuracy"] = measured.accuracy._asdict()
            model["gain"] = measured.gain._asdict() if measured.gain else None
            model["without"] = {name: each._asdict() for name, each in measured.without.items()}
            model["bins"] = [each._asdict() for each in measured.bins]
        return record


@keras_settings()
def compare(
    dataset: Dataset,
    candidates: Sequence[Candidate],
    *,
    runs: Path | None = None,
    seed: int = 0,
    epochs: int | None = None,
    budget: float | None = None,
    progress: bool | None = None,
    report: Callable[[str], Any] = lambda line: None,
) -> Comparison:
    """Trains or loads every candidate and measures it in a process of its own.

    Args:
        dataset: Its held-out rows are what is measured on.
        candidates: From `parse_candidates`, at least one.
        runs: Where to keep trained models, so that they are not trained again.
        seed: Of the trainings.
        epochs: Of the trainings; None takes the preset's.
        budget: Seconds for the trainings. One that would not fit, going by the longest so far, is left out.
        progress: Whether to draw progress bars; None draws them on a terminal only.
        report: Called with a line for people whenever the next step begins.

    Raises:
        ExportError: No candidates, one that can't be loaded or run, or one that knows other labels.
    """
    if not candidates:
        raise ExportError("Expected at least one candidate. Received: none")
    with tempfile.TemporaryDirectory(prefix="compare-") as scratch, contextlib.ExitStack() as stack:
        prepared, left_out = [], []
        options: dict[str, Any] = {"runs": runs, "seed": seed, "epochs": epochs, "progress": progress}
        time_left = Budget(budget)
        for number, candidate in enumerate(candidates, 1):
            report(f"{candidate.name} ({number} of {len(candidates)})")
            found = prepare(candidate, dataset, Path(scratch), budget=time_left, **options)
            if found is None:
                left_out.append(candidate.name)
                report(f"{candidate.name} is left out: {time_left.left:.0f} s of the budget are left")
            else:
                prepared.append(found)
        served = [stack.enter_context(ServedModel(each.folder)) for each in prepared]
        rows = dataset.select("test")
        answers = [
            model.answers(rows) for model in tqdm(served, desc="Loading", unit="model", disable=_disable(progress))
        ]
        speeds = _speeds(served, progress)
        return _compared(dataset, rows, prepared, answers, speeds, tuple(left_out))


def _speeds(served: Sequence[ServedModel], progress: bool | None) -> list[dict[Any, Any]]:
    """Latency by rows a call, and the throughput; the candidates take turns."""
    calls: list[dict[Any, list[float]]] = [{1: [], BATCH: [], "throughput": []} for _ in served]
    with tqdm(total=_ROUNDS * len(served), desc="Timing", unit="turn", disable=_disable(progress)) as bar:
        for _ in range(_ROUNDS):
            for model, found in zip(served, calls, strict=True):
                for size in (1, BATCH):
                    found[size] += model.latencies(size, _SLICE)
                found["throughput"].append(model.throughput(_SLICE))
                bar.update()
    return [
        {
            "latency": {
                size: {f"p{share}": float(np.percentile(each[size], share)) * 1e3 for share in (50, 95)}
                for size in (1, BATCH)
            },
            "throughput": statistics.median(each["throughput"]),
        }
        for each in calls
    ]


def _compared(
    dataset: Dataset,
    rows: Sequence[Row],
    prepared: Sequence[Prepared],
    answers: Sequence[Answers],
    speeds: Sequence[dict[Any, Any]],
    left_out: tuple[str, ...],
) -> Comparison:
    groups = [row.group for row in rows]
    right = [each.probabilities.argmax(axis=1) == each.classes for each in answers]
    singles = [position for position, each in enumerate(prepared) if each.facts.get("fusion") in BASELINES]
    yardstick = max(singles, key=lambda position: right[position].mean(), default=0)
    models = []
    for position, (each, answer, speed) in enumerate(zip(prepared, answers, speeds, strict=True)):
        error, bins = calibration(answer.probabilities, answer.classes)
        chosen = answer.probabilities[np.arange(len(rows)), answer.classes]
        models.append(
            Measured(
                name=each.name,
                accuracy=proportion(right[position], groups),
                gain=None if position == yardstick else gain([right[position]], [right[yardstick]], [groups]),
                without={
                    name: proportion(found.argmax(axis=1) == answer.classes, groups)
                    for name, found in answer.without.items()
                },
                loss=float(-np.log(np.maximum(chosen, 1e-12)).mean()),
                calibration_error=error,
                bins=bins,
                parameters=each.parameters,
                size=_size(each.folder),
                memory=answer.memory,
                load_seconds=answer.load_seconds,
                train_seconds=each.facts.get("seconds"),
                same_data=each.same_data,
                **speed,
            )
        )
    choice = choose(right, [model.latency[1]["p50"] for model in models], groups)
    return Comparison(
        models=tuple(sorted(models, key=lambda each: -each.accuracy.value)),
        yardstick=models[yardstick].name,
        choice=models[choice].name,
        left_out=left_out,
        rows=len(rows),
        data_digest=dataset.digest,
    )


def choose(right: Sequence[Any], milliseconds: Sequence[float], groups: Sequence[str]) -> int:
    """The position of the fastest among those that are within one standard error of the most accurate.

    The rule of Breiman, Friedman, Olshen and Stone, "Classification and Regression Trees" (1984).
    "Not clearly worse" would not do: where rows are few even nine points are not clear, and a
    faster model would win by ignorance.

    Args:
        right: For each model a bool array of shape (rows,).
        milliseconds: How long a call of each takes.
        groups: The group of each row.
    """
    best = max(range(len(right)), key=lambda position: right[position].mean())
    near = [
        position for position in range(len(right)) if gain([right[best]], [right[position]], [groups]).within_an_error
    ]
    return min(near, key=lambda position: milliseconds[position])


def _size(folder: Path) -> int:
    return sum(
        path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] != "assets.extra"
    )


def _disable(progress: bool | None) -> bool | None:
    return None if progress is None else not progress
