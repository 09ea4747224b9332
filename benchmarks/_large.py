"""The parts of `benchmarks.large_model` that run in separate processes, so that each measures its own memory."""

from __future__ import annotations

import dataclasses
import itertools
import json
import pathlib
import resource
import statistics
import time
from typing import Any, Final

__all__ = ["Way", "exported", "facts_of", "trained"]

GB: Final = 1e9
_HELD_OUT: Final = 32


@dataclasses.dataclass(frozen=True, slots=True)
class Way:
    """A way to train: `batch * accumulate` rows before the weights change once, `steps` batches in all."""

    name: str
    preset: str
    batch: int = 32
    accumulate: int = 1
    precision: str = "float32"
    stream: bool = False
    steps: int = 4


def trained(way: Way, data: pathlib.Path, checkpoint: pathlib.Path | None) -> dict[str, Any]:
    """Seconds a step, rows a second, busy cores and peak memory of one training."""
    from export.dataset.data import load_dataset
    from export.training import checkpoint as _checkpoint
    from export.training.presets import PRESETS
    from export.training.running import Running
    from export.training.train import train

    ends: list[tuple[float, float]] = []
    writes: list[float] = []

    class Timed(_checkpoint.Checkpoint):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            ends.append((time.perf_counter(), time.process_time()))
            super().on_train_batch_end(batch, logs)

        def write(self) -> None:
            began = time.perf_counter()
            super().write()
            writes.append(time.perf_counter() - began)

    import export.training.fit

    export.training.fit.Checkpoint = Timed
    dataset = load_dataset(data, progress=False)
    rows = dataset.select("train")[: way.steps * way.batch]
    epochs = -(-way.steps * way.batch // len(rows))
    dataset = dataclasses.replace(dataset, rows=(*rows, *dataset.select("test")[:_HELD_OUT]))
    train(
        dataset,
        preset=dataclasses.replace(PRESETS[way.preset], batch_size=way.batch, epochs=epochs),
        fusion="attention",
        run=Running(precision=way.precision, accumulate=way.accumulate, stream=way.stream, checkpoint=checkpoint),
        progress=False,
    )
    # The first step traces the graph.
    wall, cpu = (ends[-1][which] - ends[0][which] for which in (0, 1))
    seconds = statistics.median(later[0] - before[0] for before, later in itertools.pairwise(ends))
    found = {
        "way": way.name,
        "preset": way.preset,
        "step_seconds": seconds,
        "rows_per_second": (len(ends) - 1) * way.batch / wall,
        "cores": cpu / wall,
        "cpu_ms_per_row": 1e3 * cpu / ((len(ends) - 1) * way.batch),
        "peak_gb": _peak(),
    }
    if checkpoint is not None:
        found |= {"checkpoint_gb": checkpoint.stat().st_size / GB, "checkpoint_seconds": writes[-1]}
    return found


def exported(run: pathlib.Path, data: pathlib.Path, store: pathlib.Path, kind: str) -> dict[str, Any]:
    """Exports a run: time, peak memory, size on disk, and the facts on the card."""
    from export.publish.card import read_card
    from export.publish.cost import held_out_rows
    from export.publish.savedmodel import export_version
    from export.publish.store import ModelStore
    from export.training.train import TrainedModel

    began = time.perf_counter()
    run_of = TrainedModel.load(run)
    loaded = time.perf_counter()
    version = export_version(
        run_of.model,
        run_of.spec,
        run_of.samples,
        ModelStore(store, f"{run.name}-{kind}"),
        weights=kind,
        held_out=held_out_rows(data, run_of.facts),
        facts=run_of.facts,
    )
    cost = read_card(version.path)["weights"]
    return {
        "folder": str(version.path),
        "load_run_seconds": loaded - began,
        "export_seconds": time.perf_counter() - loaded,
        "gate_seconds": sum(each.seconds for each in version.checks),
        "export_peak_gb": _peak(),
        "variables_mb": _size(version.path / "variables"),
        "graph_mb": _size(version.path / "saved_model.pb"),
        **{name: cost.get(name) for name in ("rows", "difference", "agreement", "accuracy", "keras_accuracy")},
    }


def facts_of(run: pathlib.Path) -> dict[str, Any]:
    """The facts of a run."""
    return dict(json.loads((run / "run.json").read_text())["facts"])


def _size(path: pathlib.Path) -> float:
    """Megabytes of a file, or of all files in a folder."""
    return sum(each.stat().st_size for each in (path.rglob("*") if path.is_dir() else [path])) / 1e6


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GB
