"""Does the embedded server's memory stay flat? Over hot loads of new versions, and over calls.

    python -m benchmarks.server_memory [--loads 100] [--calls 100000]

One server: first the loads, each a new version that is called and then replaced by the next,
then the calls, from 8 callers. Writes results/server_memory.json and .png beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shutil
import statistics
import sys
import tempfile
import threading
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import grpc
import psutil
from tensorflow_serving.apis import predict_pb2

from benchmarks import _load
from benchmarks.server_speed import RESULTS, InProcess, made
from serving.local.testing import LocalServer

CALLERS = 8


def megabytes(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / 2**20


def bar(what: str, done: int, total: int, value: float) -> None:
    print(f"\r{what} {done}/{total}  {value:.0f} MB   ", end="", file=sys.stderr, flush=True)


def answering(reply: bytes) -> int:
    """The version that a reply came from."""
    return int(predict_pb2.PredictResponse.FromString(reply).model_spec.version.value)


def hot_loads(server: LocalServer, store: pathlib.Path, model: pathlib.Path, request: bytes, count: int) -> list[float]:
    """Memory after each load, once the previous version is unloaded."""
    process, curve = psutil.Process(server.process.pid), []
    with grpc.insecure_channel(server.address) as channel:
        method = channel.unary_unary(_load.PREDICT)
        for version in range(2, count + 2):
            shutil.copytree(model, store / ".next")
            (store / ".next").rename(store / str(version))
            deadline = time.monotonic() + 60
            while answering(method(request, timeout=30)) != version:
                assert time.monotonic() < deadline, "the new version does not answer"
                time.sleep(0.05)
            shutil.rmtree(store / str(version - 1))
            curve.append(megabytes(process))
            bar("loads", version - 1, count, curve[-1])
    print(file=sys.stderr)
    return curve


def many_calls(server: LocalServer, request: bytes, count: int) -> tuple[list[float], float]:
    """Memory at a hundred points over the calls, and the calls a second."""
    process, curve = psutil.Process(server.process.pid), []
    left, lock = [count], threading.Lock()

    def work() -> None:
        with grpc.insecure_channel(server.address) as channel:
            method = channel.unary_unary(_load.PREDICT)
            while True:
                with lock:
                    left[0] -= 1
                    number = left[0]
                if number < 0:
                    return
                method(request, timeout=60)
                if number % max(1, count // 100) == 0:
                    curve.append(megabytes(process))
                    bar("calls", count - number, count, curve[-1])

    began = time.monotonic()
    threads = [threading.Thread(target=work) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(file=sys.stderr)
    return curve, count / (time.monotonic() - began)


def growth(curve: list[float]) -> float:
    """Megabytes between the medians of the second and the last quarter; the first quarter warms up."""
    quarter = max(1, len(curve) // 4)
    return statistics.median(curve[-quarter:]) - statistics.median(curve[quarter : 2 * quarter])


def plot(loads: list[float], calls: list[float], count: int, path: pathlib.Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained", sharey=True)
    left.plot(range(1, len(loads) + 1), loads)
    left.set(title="Hot loads", xlabel="versions loaded", ylabel="resident memory, MB")
    right.plot([count * (index + 1) / len(calls) for index in range(len(calls))], calls)
    right.set(title="Calls", xlabel="calls answered")
    left.set_ylim(0, max(loads + calls) * 1.15)
    figure.savefig(path, dpi=130)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loads", type=int, default=100)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--batching", action="store_true", help="with server-side batching, by its defaults")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        store = pathlib.Path(scratch) / "store"
        model = made("demo", pathlib.Path(scratch)) / "1"
        shutil.copytree(model, store / "1")
        request = InProcess(model.parent).request("m")
        flags = ["--model_name=m", f"--model_base_path={store}", "--grpc_max_threads=16"]
        with LocalServer(*flags, *(["--enable_batching"] if options.batching else [])) as server:
            loads = hot_loads(server, store, model, request, options.loads)
            calls, speed = many_calls(server, request, options.calls)
    report = {
        "when": time.strftime("%Y-%m-%d"),
        "batching": options.batching,
        "growth_over_loads_mb": growth(loads),
        "growth_over_calls_mb": growth(calls),
        "calls_per_second": speed,
        "loads_mb": [round(value, 1) for value in loads],
        "calls_mb": [round(value, 1) for value in calls],
    }
    options.out.mkdir(exist_ok=True)
    (options.out / "server_memory.json").write_text(json.dumps(report, indent=1) + "\n")
    plot(loads, calls, options.calls, options.out / "server_memory.png")
    print(f"{report['growth_over_loads_mb']:8.1f} MB from the second to the last quarter of {options.loads} hot loads")
    print(f"{report['growth_over_calls_mb']:8.1f} MB from the second to the last quarter of {options.calls} calls")
    return 0


if __name__ == "__main__":
    sys.exit(main())
