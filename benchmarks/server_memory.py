"""Does the embedded server's memory stay flat? Over hot loads of new versions, and over calls.

    python -m benchmarks.server_memory [--loads 100] [--calls 100000]

One server: first the loads, each a new version that is called and then replaced by the next,
then the calls, from 8 callers. Writes results/server_memory.json and .png beside this file.
"""

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import psutil
from tensorflow_serving.apis import predict_pb2
from tqdm import trange

from benchmarks._load import PREDICT
from benchmarks._report import RESULTS, parser, write
from benchmarks.server_speed import InProcess, made
from serving.local.testing import LocalServer

CALLERS = 8
POINTS = 100


def megabytes(server: LocalServer) -> float:
    return float(psutil.Process(server.process.pid).memory_info().rss) / 2**20


def hot_loads(server: LocalServer, store: Path, model: Path, call: Callable[[], bytes], count: int) -> list[float]:
    """Memory after each load, once the previous version is unloaded."""
    curve = []
    for version in trange(2, count + 2, desc="Loads"):
        shutil.copytree(model, store / ".next")
        (store / ".next").rename(store / str(version))
        deadline = time.monotonic() + 60
        while predict_pb2.PredictResponse.FromString(call()).model_spec.version.value != version:
            assert time.monotonic() < deadline, "the new version does not answer"
            time.sleep(0.05)
        shutil.rmtree(store / str(version - 1))
        curve.append(megabytes(server))
    return curve


def many_calls(server: LocalServer, call: Callable[[], bytes], count: int) -> tuple[list[float], float]:
    """Memory at a hundred points over the calls, and the calls a second."""
    began, curve = time.monotonic(), []
    with ThreadPoolExecutor(CALLERS) as pool:
        for point in trange(POINTS, desc="Calls"):
            share = count * (point + 1) // POINTS - count * point // POINTS
            list(pool.map(lambda _: call(), range(share)))
            curve.append(megabytes(server))
    return curve, count / (time.monotonic() - began)


def growth(curve: list[float]) -> float:
    """Megabytes between the medians of the second and the last quarter; the first quarter warms up."""
    quarter = max(1, len(curve) // 4)
    return statistics.median(curve[-quarter:]) - statistics.median(curve[quarter : 2 * quarter])


def plot(loads: list[float], calls: list[float], count: int, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    left.plot(range(1, len(loads) + 1), loads)
    left.set(title="Hot loads", xlabel="versions loaded", ylabel="resident memory, MB")
    right.plot([count * (index + 1) / len(calls) for index in range(len(calls))], calls)
    right.set(title="Calls", xlabel="calls answered")
    left.set_ylim(0, max(loads + calls) * 1.15)
    figure.savefig(path, dpi=130)


def main() -> None:
    asked = parser(__doc__)
    asked.add_argument("--loads", type=int, default=100)
    asked.add_argument("--calls", type=int, default=100_000)
    asked.add_argument("--batching", action="store_true", help="with server-side batching, by its defaults")
    asked.add_argument("--out", type=Path, default=RESULTS)
    options = asked.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        store = Path(scratch) / "store"
        model = made("demo", Path(scratch)) / "1"
        shutil.copytree(model, store / "1")
        request = InProcess(model.parent).request()
        flags = ["--model_name=m", f"--model_base_path={store}", "--grpc_max_threads=16"]
        with (
            LocalServer(*flags, *(["--enable_batching"] if options.batching else [])) as server,
            grpc.insecure_channel(server.address) as channel,
        ):
            method = channel.unary_unary(PREDICT)
            loads = hot_loads(server, store, model, lambda: method(request, timeout=30), options.loads)
            calls, speed = many_calls(server, lambda: method(request, timeout=60), options.calls)
    report = {
        "when": time.strftime("%Y-%m-%d"),
        "batching": options.batching,
        "growth_over_loads_mb": growth(loads),
        "growth_over_calls_mb": growth(calls),
        "calls_per_second": speed,
        "loads_mb": [round(value, 1) for value in loads],
        "calls_mb": [round(value, 1) for value in calls],
    }
    write(report, options.out / "server_memory.json")
    plot(loads, calls, options.calls, options.out / "server_memory.png")
    for what, count, curve in (("hot loads", options.loads, loads), ("calls", options.calls, calls)):
        print(f"{growth(curve):8.1f} MB from the second to the last quarter of {count} {what}")


if __name__ == "__main__":
    main()
