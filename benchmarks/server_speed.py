"""How fast is the embedded server? Compared with the same model in-process, and with an empty gRPC server.

    python -m benchmarks.server_speed [--preset demo|reference | --model DIR] [--rounds 5] [--seconds 2]

All in one run, interleaved, round by round; ratios are taken within a round. The callers run
on the same cores as the server: their cost is part of the throughput, but not of the CPU
times, which are those of the server process only. Writes
results/server_speed_NAME.json beside this file.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
import psutil

from benchmarks import _load, _rounds
from serving.local.testing import LocalServer

RESULTS = pathlib.Path(__file__).with_name("results")
CALLERS = (1, 8, 32)
BATCH_THREADS = 2
BATCHING = f"""
max_batch_size {{ value: 32 }} batch_timeout_micros {{ value: 2000 }} max_enqueued_batches {{ value: 64 }}
num_batch_threads {{ value: {BATCH_THREADS} }}
"""


class InProcess:
    """The same signature without a server: the same Session, called from threads."""

    def __init__(self, model: pathlib.Path) -> None:
        from tensorflow.core.protobuf import config_pb2

        from serving.local.model import savedmodel
        from serving.local.model.servable import Servable

        version = max((each for each in model.iterdir() if each.name.isdigit()), key=lambda each: int(each.name))
        self._servable = Servable(*savedmodel.load(version, ["serve"], config_pb2.ConfigProto()))
        self._signature = self._servable.signatures["serving_default"]

    def inputs(self, rows: int) -> dict[str, np.ndarray]:
        """Random images and token ids, by the signature's keys."""
        generator, made = np.random.default_rng(0), {}
        for key, info in self._signature.inputs.items():
            shape = [rows if dim.size < 0 else dim.size for dim in info.tensor_shape.dim]
            made[key] = generator.integers(0, 255 if key == "image" else 100, shape).astype(
                np.uint8 if key == "image" else np.int32
            )
        return made

    def request(self, model: str) -> bytes:
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()
        request.model_spec.name = model
        for key, array in self.inputs(1).items():
            request.inputs[key].CopyFrom(tf.make_tensor_proto(array))
        return bytes(request.SerializeToString())

    def measure(self, rows: int, threads: int, seconds: float) -> dict[str, float]:
        feeds = {self._signature.inputs[key].name: array for key, array in self.inputs(rows).items()}
        fetches = [info.name for info in self._signature.outputs.values()]
        _load.in_threads(threads, 0.3, lambda: self._servable.run(feeds, fetches, None))
        began = time.process_time()
        seen = _load.in_threads(threads, seconds, lambda: self._servable.run(feeds, fetches, None))
        return {**seen, "cpu_ms": (time.process_time() - began) * 1e3 / seen["calls"] / rows}


@contextlib.contextmanager
def floor(reply: bytes) -> Iterator[str]:
    """The address of a server that answers with fixed bytes: the upper limit for a gRPC server in Python."""
    command = [sys.executable, "-m", "benchmarks._empty_server"]
    process = subprocess.Popen(command, cwd=_load.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(json.dumps({"reply": reply.hex(), "spec": ""}) + "\n")
        process.stdin.flush()
        yield f"127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.communicate()


def batches(server: LocalServer) -> tuple[int, int]:
    """Rows and batches that the server has run, from its own metrics."""
    with urllib.request.urlopen(f"{server.rest_url}/monitoring/prometheus/metrics", timeout=10) as reply:
        page = reply.read().decode()
    sizes = re.findall(r'processed_batch_size_v2\{.*batch_size="(\d+)"\} (\d+)', page)
    return sum(int(size) * int(count) for size, count in sizes), sum(int(count) for _, count in sizes)


def cpu_seconds(server: LocalServer) -> float:
    times = psutil.Process(server.process.pid).cpu_times()
    return float(times.user + times.system)


def call(server: LocalServer | str, request: pathlib.Path, callers: int, seconds: float) -> dict[str, float]:
    """The measurements of `callers`; for our own server also its CPU time for each call and the batch size reached."""
    if isinstance(server, str):
        return _load.run(server, request, callers, seconds)
    batching = bool(server.rest_port)
    before, rows, runs = cpu_seconds(server), *(batches(server) if batching else (0, 0))
    seen = _load.run(server.address, request, callers, seconds)
    # Warm-up calls cost CPU too, and count as calls here.
    seen["cpu_ms"] = (cpu_seconds(server) - before) * 1e3 / seen["all_calls"]
    if batching:
        rows, runs = (now - then for now, then in zip(batches(server), (rows, runs), strict=True))
        seen["batch"] = rows / max(1, runs)
    return seen


def measure(
    local: InProcess, servers: dict[str, LocalServer | str], request: pathlib.Path, rounds: int, seconds: float
) -> list[dict[str, Any]]:
    """One dict for each round: measurements by "what/callers"."""
    found = []
    steps = len(CALLERS) * 4 + 2
    for number in range(rounds):
        seen: dict[str, Any] = {}
        done = 0

        def told(text: str, number: int = number) -> None:
            nonlocal done
            done += 1
            print(f"\rround {number + 1}/{rounds}  {done:2}/{steps}  {text:40}", end="", file=sys.stderr, flush=True)

        for callers in CALLERS:
            for name, server in servers.items():
                told(f"{name}, {callers} callers")
                seen[f"{name}/{callers}"] = call(server, request, callers, seconds)
            told(f"in-process, {callers} callers")
            seen[f"in-process/{callers}"] = local.measure(1, callers, seconds)
        for callers in (8, 32):
            size = max(1, round(seen[f"batched/{callers}"]["batch"]))
            told(f"in-process, batches of {size}")
            one = local.measure(size, BATCH_THREADS, seconds)
            seen[f"in-process batch/{callers}"] = {**one, "batch": size, "rows_per_second": one["per_second"] * size}
        found.append(seen)
    print(file=sys.stderr)
    return found


def ratios(rounds: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """The reported figures: each within a round, then the median and the spread over the rounds."""

    def over(value: Callable[[dict[str, Any]], float]) -> dict[str, float]:
        return _rounds.spread([value(seen) for seen in rounds])

    made: dict[str, dict[str, float]] = {}
    for n in CALLERS:
        made[f"throughput, server / in-process, {n} callers"] = over(
            lambda s, n=n: s[f"server/{n}"]["per_second"] / s[f"in-process/{n}"]["per_second"]
        )
        made[f"throughput, server / empty server, {n} callers"] = over(
            lambda s, n=n: s[f"server/{n}"]["per_second"] / s[f"floor/{n}"]["per_second"]
        )
    for n in (8, 32):
        made[f"throughput, batching server / in-process at its batch size, {n} callers"] = over(
            lambda s, n=n: s[f"batched/{n}"]["per_second"] / s[f"in-process batch/{n}"]["rows_per_second"]
        )
        made[f"CPU a row, in-process at its batch size / batching server, {n} callers"] = over(
            lambda s, n=n: s[f"in-process batch/{n}"]["cpu_ms"] / s[f"batched/{n}"]["cpu_ms"]
        )
        made[f"batch size reached, {n} callers"] = over(lambda s, n=n: s[f"batched/{n}"]["batch"])
    made["added at batch 1, 1 caller, median, ms"] = over(
        lambda s: s["server/1"]["p50_ms"] - s["in-process/1"]["p50_ms"]
    )
    made["of which an empty gRPC call, ms"] = over(lambda s: s["floor/1"]["p50_ms"])
    return made


def made(name: str, folder: pathlib.Path) -> pathlib.Path:
    """The folder of a model with one version, as `export` writes it. Not trained: the weights do not matter."""
    from benchmarks.graph_speed import build, write_ways

    write_ways(*build(name), folder)
    return folder / "optimised"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=("demo", "reference"), default="demo", help="a model made for this")
    parser.add_argument("--model", type=pathlib.Path, help="or your own: a folder with numbered versions")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one measurement")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        work = pathlib.Path(scratch)
        model = options.model or made(options.preset, work)
        local = InProcess(model)
        request = work / "request.bin"
        request.write_bytes(local.request("m"))
        (work / "batching.config").write_text(BATCHING)
        (work / "monitoring.config").write_text("prometheus_config { enable: true }")
        flags = ["--model_name=m", f"--model_base_path={model.resolve()}", "--grpc_max_threads=64", "--log_level=error"]
        batched = [
            "--enable_batching",
            f"--batching_parameters_file={work}/batching.config",
            f"--monitoring_config_file={work}/monitoring.config",
        ]
        servers: dict[str, LocalServer | str] = {
            "floor": stack.enter_context(floor(bytes(80))),
            "server": stack.enter_context(LocalServer(*flags)),
            "batched": stack.enter_context(LocalServer(*flags, *batched, rest=True)),
        }
        rounds = measure(local, servers, request, options.rounds, options.seconds)
        size = request.stat().st_size
    claims = ratios(rounds)
    options.out.mkdir(exist_ok=True)
    host = {"cores": len(os.sched_getaffinity(0)), "python": sys.version.split()[0], "load": os.getloadavg()[0]}
    report = {
        "when": time.strftime("%Y-%m-%d"),
        "host": host,
        "model": str(options.model.name if options.model else f"{options.preset}, untrained"),
        "request_bytes": size,
        "ratios": claims,
        "rounds": rounds,
    }
    name = f"server_speed_{options.model.name if options.model else options.preset}"
    (options.out / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")
    for name, value in claims.items():
        print(f"{value['median']:8.2f}  ({value['least']:.2f} to {value['most']:.2f})  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
