"""The cost of training, exporting and serving a model of over 100 million parameters, beside the default one.

    python -m benchmarks.large_model DATA --runs RUN RUN

DATA is a folder as for training; each RUN was trained on it, with `--preset large` and with
the default. A few steps of each way to train; then the runs are exported with every type of
weights and served, and their calls alternate. Writes results/large_model.json.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import multiprocessing
import os
import pathlib
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
import psutil

from benchmarks._large import Way, exported, facts_of, trained
from benchmarks._rounds import spread, times
from duoserve import Client, Preprocessor
from duoserve.contract import SERVING_DEFAULT
from export.dataset.data import Row, encode, load_dataset
from export.defaults import WEIGHTS
from export.selection.served import ServedModel
from serving.local.testing import LocalServer

RESULTS = pathlib.Path(__file__).with_name("results")
BATCHES = (1, 32)
WAYS = (
    Way("float32", "large"),
    Way("bfloat16", "large", precision="bfloat16"),
    Way("8 rows, 4 times added up", "large", batch=8, accumulate=4, steps=12),
    Way("streamed", "large", stream=True),
    Way("float32", "compact", steps=120),
    Way("streamed", "compact", stream=True, steps=120),
)


def alone(function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Runs it in a separate process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def say(what: str, found: Mapping[str, Any]) -> None:
    figures = ", ".join(f"{key} {value:.3g}" for key, value in found.items() if isinstance(value, float))
    print(f"{what}: {figures}", file=sys.stderr, flush=True)


def trainings(data: pathlib.Path, scratch: pathlib.Path) -> list[dict[str, Any]]:
    found = []
    for number, way in enumerate(WAYS):
        found.append(alone(trained, way, data, None if number else scratch / "checkpoint"))
        say(f"{way.preset}, {way.name}", found[-1])
    return found


@contextlib.contextmanager
def serving(folder: pathlib.Path, found: dict[str, Any]) -> Iterator[Client]:
    """Serves the version on an embedded server; adds time and memory to `found`."""
    flags = f"--model_name={folder.parent.name}", f"--model_base_path={folder.parent}"
    began = time.perf_counter()
    with LocalServer(*flags, timeout=300) as server, Client(server.address, model=folder.parent.name) as client:
        process = psutil.Process(server.process.pid)
        found["ready_seconds"] = time.perf_counter() - began
        found["server_gb"] = process.memory_info().rss / 1e9
        yield client
        found["server_peak_gb"] = _high_water(process.pid)


def _high_water(process: int) -> float:
    """The peak resident memory of a process."""
    status = pathlib.Path(f"/proc/{process}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024 / 1e9


def served(
    versions: Mapping[str, dict[str, Any]], rows: tuple[Row, ...], rounds: int
) -> dict[tuple[str, int, str], list[float]]:
    """Milliseconds a call by weights, rows and way, one figure a round; all versions alive, calls in random order."""
    with contextlib.ExitStack() as stack:
        calls: dict[tuple[str, int, str], Callable[[], list[float]]] = {}
        for kind, found in versions.items():
            folder = pathlib.Path(found.pop("folder"))
            model = stack.enter_context(ServedModel(folder))
            answers = model.answers(rows)
            found |= {"load_seconds": answers.load_seconds, "memory_gb": answers.memory / 1e9}
            client = stack.enter_context(serving(folder, found))
            arrays = encode(rows, Preprocessor(client.describe()), progress=False)
            for size in BATCHES:
                inputs = {"image": arrays.images[:size], "tokens": arrays.tokens[:size]}
                ask = functools.partial(client.run, SERVING_DEFAULT, inputs, timeout=120)
                calls[kind, size, "server"] = functools.partial(times, ask, 2)
                calls[kind, size, "in process"] = functools.partial(model.latencies, size, 0.5)
                ask()
        milliseconds: dict[tuple[str, int, str], list[float]] = {case: [] for case in calls}
        for _ in range(rounds):
            for case in random.sample(list(calls), len(calls)):
                milliseconds[case].append(statistics.median(calls[case]()) * 1e3)
        return milliseconds


def versions_of(run: pathlib.Path, data: pathlib.Path, scratch: pathlib.Path, rounds: int) -> dict[str, Any]:
    facts = facts_of(run)
    rows = load_dataset(data, seed=facts["seed"], progress=False).select("test")[: max(BATCHES)]
    versions = {kind: alone(exported, run, data, scratch, kind) for kind in WEIGHTS}
    milliseconds = served(versions, rows, rounds)
    for kind, found in versions.items():
        say(f"{facts['preset']}, {kind}", found)
    latencies = [
        {
            "preset": facts["preset"],
            "weights": kind,
            "rows": size,
            "where": where,
            "ms": spread(each),
            "to_float32": spread(list(np.divide(each, milliseconds[WEIGHTS[0], size, where]))),
        }
        for (kind, size, where), each in milliseconds.items()
    ]
    return {
        "model": {
            "preset": facts["preset"],
            "fusion": facts["fusion"],
            "epochs": facts["settings"]["epochs"],
            "accuracy": facts["metrics"]["accuracy"],
            "train_seconds": facts["seconds"],
            **alone(shape, run),
        },
        "versions": [{"preset": facts["preset"], "weights": kind, **found} for kind, found in versions.items()],
        "latencies": latencies,
    }


def shape(run: pathlib.Path) -> dict[str, Any]:
    from export.training.train import TrainedModel

    loaded = TrainedModel.load(run)
    return {
        "parameters": loaded.model.count_params(),
        "image_size": loaded.spec.image_height,
        "token_length": loaded.spec.token_length,
        "run_gb": sum(path.stat().st_size for path in run.rglob("*")) / 1e9,
    }


def machine() -> str:
    """The machine, and its load."""
    memory = psutil.virtual_memory().total / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, load average {os.getloadavg()[2]:.1f} at the end"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--runs", type=pathlib.Path, nargs="+", required=True, metavar="RUN")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    options = parser.parse_args()
    report: dict[str, Any] = {
        "when": time.strftime("%Y-%m-%d"),
        "machine": "",
        "models": [],
        "versions": [],
        "latencies": [],
    }
    options.out.mkdir(exist_ok=True)
    path = options.out / "large_model.json"
    with tempfile.TemporaryDirectory() as scratch:
        report["trainings"] = trainings(options.data, pathlib.Path(scratch))
        for run in options.runs:
            found = versions_of(run, options.data, pathlib.Path(scratch), options.rounds)
            report["models"].append(found["model"])
            report["versions"] += found["versions"]
            report["latencies"] += found["latencies"]
            report["machine"] = machine()
            path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
