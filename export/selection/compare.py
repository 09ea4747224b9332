"""Compares candidates on the held-out rows, each as it is served: quality, calibration, speed and size."""

import contextlib
import dataclasses
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from export.dataset.data import Dataset
from export.dataset.rows import Row
from export.errors import ExportError
from export.keras_settings import keras_settings
from export.measures import RANKED_BY, measure
from export.progress import progress_bar
from export.selection.budget import Budget
from export.selection.candidates import Candidate, Prepared, prepare
from export.selection.judging import Judged
from export.selection.served import BATCH, Answers, ServedModel
from export.selection.statistics import Bin, Interval
from export.training.presets import BASELINES

_ROUNDS: Final = 5
_SLICE: Final = 0.3  # seconds of consecutive calls before the next candidate's turn


@dataclasses.dataclass(frozen=True, slots=True)
class Measured:
    """The measurements of one candidate.

    Attributes:
        quality: The comparison's figure on the held-out rows.
        gain: How much higher it is than the baseline's on the same rows; None for the baseline itself.
        without: The figure without an optional input, by its name.
        loss: The loss of `export.measures.measure`.
        calibration_error: Expected calibration error, for tags over all decisions; None for scores.
        bins: The bins of the calibration error.
        parameters: Number of weights; None if unknown.
        size: Bytes of the SavedModel on disk, without `assets.extra`.
        memory: Bytes of resident memory when it is loaded and answers.
        load_seconds: Seconds to load it.
        latency: Milliseconds of a call, "p50" and "p95", by rows of a call.
        throughput: Rows a second in batches of 32, with as many callers as cores.
        train_seconds: Seconds of its training, if known.
        same_data: Whether it was trained on this data with this split. If not, it may have seen the held-out
            rows; None if unknown.
    """

    name: str
    quality: Interval
    gain: Interval | None
    without: dict[str, Interval]
    loss: float
    calibration_error: float | None
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
    """All candidates, the best first.

    Attributes:
        figure: The figure that ranks them: a key of `export.measures.FIGURES`.
        models: The measurements.
        yardstick: Name of the baseline of `gain`: the better single input, or else the first candidate.
        choice: Name of the fastest among those within one standard error of the best.
        left_out: Candidates that the budget had no time for.
        rows: Number of held-out rows.
        data_digest: Digest of the data and its split.
    """

    figure: str
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
            model["quality"] = measured.quality._asdict()
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
    """Trains or loads every candidate and measures each, on the held-out rows, in a separate process.

    Args:
        dataset: The data.
        candidates: From `parse_candidates`, at least one.
        runs: Folder for trained models, so that they are not trained again.
        seed: Seed of the trainings.
        epochs: Epochs of the trainings; None: the preset's.
        budget: Seconds for the trainings. One that would not fit, going by the longest so far, is left out.
        progress: Whether to draw progress bars; None draws them on a terminal only.
        report: Called with a progress line at the beginning of each step.

    Raises:
        ExportError: No candidates, one that can't be loaded or run, or one with other labels.
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
                report(f"{candidate.name} is skipped: {time_left.left:.0f} s of the budget are left")
            else:
                prepared.append(found)
        served = [stack.enter_context(ServedModel(each.folder)) for each in prepared]
        rows = dataset.select("test")
        answers = [model.answers(rows) for model in progress_bar(served, "Loading", progress, unit="model")]
        speeds = _speeds(served, progress)
        return _compared(dataset, rows, prepared, answers, speeds, tuple(left_out))


def _speeds(served: Sequence[ServedModel], progress: bool | None) -> list[dict[Any, Any]]:
    """Latency by rows of a call, and throughput; the candidates take turns."""
    calls: list[dict[Any, list[float]]] = [{1: [], BATCH: [], "throughput": []} for _ in served]
    with progress_bar(None, "Timing", progress, unit="turn", total=_ROUNDS * len(served)) as bar:
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
    judged = [Judged(dataset.answer, each.values, each.targets, groups) for each in answers]
    singles = [position for position, each in enumerate(prepared) if each.facts.get("fusion") in BASELINES]
    yardstick = max(singles, key=lambda position: judged[position].figure(), default=0)
    models = []
    for position, (each, answer, speed) in enumerate(zip(prepared, answers, speeds, strict=True)):
        one = judged[position]
        error, bins = one.calibration()
        models.append(
            Measured(
                name=each.name,
                quality=one.interval(),
                gain=None if position == yardstick else one.gain(judged[yardstick]),
                without={
                    name: dataclasses.replace(one, values=found).interval() for name, found in answer.without.items()
                },
                loss=measure(dataset.answer, answer.spec.labels, answer.values, answer.targets)["loss"],
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
    best = max(range(len(models)), key=lambda position: models[position].quality.value)
    near = [judged[best].gain(each).within_an_error for each in judged]
    choice = choose(near, [model.latency[1]["p50"] for model in models])
    return Comparison(
        figure=RANKED_BY[dataset.answer.kind],
        models=tuple(sorted(models, key=lambda each: -each.quality.value)),
        yardstick=models[yardstick].name,
        choice=models[choice].name,
        left_out=left_out,
        rows=len(rows),
        data_digest=dataset.digest,
    )


def choose(near: Sequence[bool], milliseconds: Sequence[float]) -> int:
    """The position of the fastest among those that are `near`: within one standard error of the best.

    The rule of Breiman, Friedman, Olshen and Stone, "Classification and Regression Trees" (1984).
    "Not significantly worse" would be too weak: with few rows even nine points are not significant,
    and a faster but worse model would win.
    """
    return min((position for position, here in enumerate(near) if here), key=lambda position: milliseconds[position])


def _size(folder: Path) -> int:
    return sum(
        path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] != "assets.extra"
    )
