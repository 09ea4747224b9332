"""The cost of training, exporting and serving a model of over 100 million parameters, beside the default one.

    python -m benchmarks.large_model DATA --runs RUN RUN

DATA is a folder as for training; each RUN was trained on it, with `--preset large` and with the default. A few steps of
each way to train; then the runs are exported with every type of weights and served, and their calls alternate. Writes
results/large_model.json.
"""

import contextlib
import dataclasses
import functools
import itertools
import json
import multiprocessing
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import numpy as np
import psutil

from benchmarks._report import RESULTS, parser, write
from benchmarks._rounds import spread, times
from duoserve import Client, Preprocessor
from duoserve.contract import SERVING_DEFAULT
from export.dataset.data import encode, load_dataset
from export.dataset.rows import Row
from export.defaults import WEIGHTS
from export.publish.card import read_card
from export.publish.cost import held_out_rows
from export.publish.savedmodel import export_version
from export.publish.store import ModelStore
from export.selection.served import ServedModel
from export.training.checkpoint import Checkpoint
from export.training.presets import PRESETS, Running
from export.training.run import TrainedModel
from export.training.train import train
from serving.local.testing import LocalServer

GB: Final = 1e9
HELD_OUT: Final = 32
BATCHES: Final = (1, 32)


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


WAYS = (
    Way("float32", "large"),
    Way("bfloat16", "large", precision="bfloat16"),
    Way("8 rows, 4 times added up", "large", batch=8, accumulate=4, steps=12),
    Way("streamed", "large", stream=True),
    Way("float32", "compact", steps=120),
    Way("streamed", "compact", stream=True, steps=120),
)


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Runs it in a separate process, so that it measures only its own memory."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def trained(way: Way, data: Path, checkpoint: Path | None) -> dict[str, Any]:
    """Seconds a step, rows a second, busy cores and peak memory of one training."""
    ends: list[tuple[float, float]] = []
    writes: list[float] = []

    class Timed(Checkpoint):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            ends.append((time.perf_counter(), time.process_time()))
            super().on_train_batch_end(batch, logs)

        def write(self) -> None:
            began = time.perf_counter()
            super().write()
            writes.append(time.perf_counter() - began)

    dataset = load_dataset(data, progress=False)
    rows = dataset.select("train")[: way.steps * way.batch]
    epochs = -(-way.steps * way.batch // len(rows))
    dataset = dataclasses.replace(dataset, rows=(*rows, *dataset.select("test")[:HELD_OUT]))
    with patch("export.training.fit.Checkpoint", Timed):
        train(
            dataset,
            preset=dataclasses.replace(PRESETS[way.preset], batch_size=way.batch, epochs=epochs),
            fusion="attention",
            run=Running(precision=way.precision, accumulate=way.accumulate, stream=way.stream, checkpoint=checkpoint),
            progress=False,
        )
    # The first step traces the graph.
    wall, cpu = (ends[-1][which] - ends[0][which] for which in (0, 1))
    count = (len(ends) - 1) * way.batch
    found = {
        "way": way.name,
        "preset": way.preset,
        "step_seconds": statistics.median(later[0] - before[0] for before, later in itertools.pairwise(ends)),
        "rows_per_second": count / wall,
        "cores": cpu / wall,
        "cpu_ms_per_row": 1e3 * cpu / count,
        "peak_gb": _peak(),
    }
    if checkpoint is not None:
        found |= {"checkpoint_gb": checkpoint.stat().st_size / GB, "checkpoint_seconds": writes[-1]}
    return found


def exported(folder: Path, data: Path, store: Path, kind: str) -> tuple[dict[str, Any], dict[str, Any], Path]:
    """Exports a run: its figures; time, peak memory, size on disk, and the facts on the card; the version's folder."""

    began = time.perf_counter()
    run = TrainedModel.load(folder)
    loaded = time.perf_counter()
    version = export_version(
        run.model,
        run.spec,
        run.samples,
        ModelStore(store, f"{folder.name}-{kind}"),
        weights=kind,
        held_out=held_out_rows(data, run.facts),
        facts=run.facts,
    )
    cost = read_card(version.path)["weights"]
    model = {
        "preset": run.facts["preset"],
        "fusion": run.facts["fusion"],
        "epochs": run.facts["settings"]["epochs"],
        "accuracy": run.facts["metrics"]["accuracy"],
        "train_seconds": run.facts["seconds"],
        "parameters": run.model.count_params(),
        "image_size": run.spec.image_height,
        "token_length": run.spec.token_length,
        "run_gb": _size(folder) / GB,
    }
    figures = {
        "preset": run.facts["preset"],
        "weights": kind,
        "load_run_seconds": loaded - began,
        "export_seconds": time.perf_counter() - loaded,
        "gate_seconds": sum(each.seconds for each in version.checks),
        "export_peak_gb": _peak(),
        "variables_mb": _size(version.path / "variables") / 1e6,
        "graph_mb": (version.path / "saved_model.pb").stat().st_size / 1e6,
        **{name: cost.get(name) for name in ("rows", "difference", "agreement", "accuracy", "keras_accuracy")},
    }
    return model, figures, version.path


def _size(folder: Path) -> int:
    return sum(each.stat().st_size for each in folder.rglob("*"))


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GB


def say(what: str, found: Mapping[str, Any]) -> None:
    figures = ", ".join(f"{key} {value:.3g}" for key, value in found.items() if isinstance(value, float))
    print(f"{what}: {figures}", file=sys.stderr, flush=True)


def trainings(data: Path, scratch: Path) -> list[dict[str, Any]]:
    found = []
    for number, way in enumerate(WAYS):
        found.append(alone(trained, way, data, None if number else scratch / "checkpoint"))
        say(f"{way.preset}, {way.name}", found[-1])
    return found


@contextlib.contextmanager
def serving(folder: Path, found: dict[str, Any]) -> Iterator[Client]:
    """Serves the version on an embedded server; adds time and memory to `found`."""
    flags = f"--model_name={folder.parent.name}", f"--model_base_path={folder.parent}"
    began = time.perf_counter()
    with LocalServer(*flags, timeout=300) as server, Client(server.address, model=folder.parent.name) as client:
        found["ready_seconds"] = time.perf_counter() - began
        found["server_gb"] = psutil.Process(server.process.pid).memory_info().rss / GB
        yield client
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        (peak,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
        found["server_peak_gb"] = int(peak) * 1024 / GB


def served(
    versions: Mapping[Path, dict[str, Any]], rows: tuple[Row, ...], rounds: int
) -> dict[tuple[str, int, str], list[float]]:
    """Milliseconds a call by weights, rows and way, one figure a round; all versions alive, calls in random order."""
    with contextlib.ExitStack() as stack:
        calls: dict[tuple[str, int, str], Callable[[], list[float]]] = {}
        for folder, found in versions.items():
            model = stack.enter_context(ServedModel(folder))
            answers = model.answers(rows)
            found |= {"load_seconds": answers.load_seconds, "memory_gb": answers.memory / GB}
            client = stack.enter_context(serving(folder, found))
            arrays = encode(rows, Preprocessor(client.describe()), progress=False)
            for size in BATCHES:
                inputs = {"image": arrays.images[:size], "tokens": arrays.tokens[:size]}
                ask = functools.partial(client.run, SERVING_DEFAULT, inputs, timeout=120)
                calls[found["weights"], size, "server"] = functools.partial(times, ask, 2)
                calls[found["weights"], size, "in process"] = functools.partial(model.latencies, size, 0.5)
                ask()
        milliseconds: dict[tuple[str, int, str], list[float]] = {case: [] for case in calls}
        for _ in range(rounds):
            for case in random.sample(list(calls), len(calls)):
                milliseconds[case].append(statistics.median(calls[case]()) * 1e3)
        return milliseconds


def measured(run: Path, data: Path, scratch: Path, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """The records of one run by table."""
    seed = json.loads((run / "run.json").read_text())["facts"]["seed"]
    rows = load_dataset(data, seed=seed, progress=False).select("test")[: max(BATCHES)]
    versions = {}
    for kind in WEIGHTS:
        model, figures, folder = alone(exported, run, data, scratch, kind)
        versions[folder] = figures
    milliseconds = served(versions, rows, rounds)
    for found in versions.values():
        say(f"{found['preset']}, {found['weights']}", found)
    latencies = [
        {
            "preset": model["preset"],
            "weights": kind,
            "rows": size,
            "where": where,
            "ms": spread(each),
            "to_float32": spread(np.divide(each, milliseconds[WEIGHTS[0], size, where])),
        }
        for (kind, size, where), each in milliseconds.items()
    ]
    return {"models": [model], "versions": list(versions.values()), "latencies": latencies}


def main() -> None:
    asked = parser(__doc__, rounds=3)
    asked.add_argument("data", type=Path)
    asked.add_argument("--runs", type=Path, nargs="+", required=True, metavar="RUN")
    options = asked.parse_args()
    report: dict[str, Any] = {"models": [], "versions": [], "latencies": []}
    with tempfile.TemporaryDirectory() as scratch:
        report["trainings"] = trainings(options.data, Path(scratch))
        for run in options.runs:
            for table, records in measured(run, options.data, Path(scratch), options.rounds).items():
                report[table] += records
            write(report, RESULTS / "large_model.json")


if __name__ == "__main__":
    main()
