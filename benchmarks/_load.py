"""Calls from many threads. As a program, a `benchmarks._worker` that calls a gRPC method.

    python -m benchmarks._load ADDRESS FILE

It sends the bytes of the file and ignores the content of replies, so that it measures the server.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil

from benchmarks._rounds import quantile
from benchmarks._worker import Worker, answer
from serving.local.testing import LocalServer

PROGRAMS: dict[str, tuple[str, ...]] = {"embedded": ()}
"""The servers to measure: the embedded one, and the stock one if TENSORFLOW_SERVING names its program."""
if stock := os.environ.get("TENSORFLOW_SERVING"):
    PROGRAMS["stock"] = (stock,)

ONE_THREAD = "--tensorflow_intra_op_parallelism=1"
"""One thread for each operation, as in the manifests and the container; without it, as many as CPUs."""

PREDICT = "/tensorflow.serving.PredictionService/Predict"
_WARM_UP = 0.3
Measure = Callable[[int, float], dict[str, float]]
"""The figures of this number of callers for this number of seconds."""


def in_threads(callers: int, seconds: float, call: Callable[[], Any]) -> dict[str, float]:
    """Runs `call()` again and again in `callers` threads: calls a second, latencies in milliseconds, errors."""
    latencies: list[float] = []
    errors = []

    def work(stop: float) -> None:
        own = []
        while (started := time.perf_counter()) < stop:
            try:
                call()
            except Exception as error:
                errors.append(error)
            own.append(time.perf_counter() - started)
        latencies.extend(own)

    begin = time.perf_counter()
    threads = [threading.Thread(target=work, args=(begin + seconds,)) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {
        "calls": len(latencies),
        "per_second": len(latencies) / (time.perf_counter() - begin),
        "p50_ms": quantile(latencies, 0.5) * 1e3,
        "p99_ms": quantile(latencies, 0.99) * 1e3,
        "errors": len(errors),
    }


def warmed(callers: int, seconds: float, call: Callable[[], Any]) -> dict[str, float]:
    """Like `in_threads`, after some calls that don't count; `all_calls` has them too."""
    warm = in_threads(callers, _WARM_UP, call)
    seen = in_threads(callers, seconds, call)
    return {**seen, "all_calls": warm["calls"] + seen["calls"]}


def random_inputs(signature: Any, rows: int, length: int) -> dict[str, np.ndarray]:
    """Random pixels and token ids by the keys of a SignatureDef.

    Args:
        signature: Of inputs like the contract's `serving_default`.
        rows: Size of the batch.
        length: Tokens of each text, then padding.
    """
    draw, found = np.random.default_rng(0), {}
    for key, info in signature.inputs.items():
        shape = [rows, *(dim.size for dim in info.tensor_shape.dim[1:])]
        if len(shape) == 4:
            found[key] = draw.integers(0, 256, shape, np.uint8)
        else:
            inside = np.arange(shape[1]) < length
            found[key] = np.where(inside, draw.integers(1, 100, shape), 0).astype(np.int32)
    return found


def request_of(inputs: Mapping[str, Any]) -> bytes:
    """A Predict request to the model `m` with these arrays."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    made = predict_pb2.PredictRequest()
    made.model_spec.name = "m"
    for key, array in inputs.items():
        made.inputs[key].CopyFrom(tf.make_tensor_proto(array))
    return bytes(made.SerializeToString())


def started(*flags: str, program: tuple[str, ...] = ()) -> LocalServer:
    """A server with the model `m` and threads for many callers: the program, or the embedded server without one."""
    own = () if program else ("--log_level=error",)
    return LocalServer("--model_name=m", "--grpc_max_threads=64", *own, *flags, command=program or None)


@contextlib.contextmanager
def under_load(server: LocalServer, request: Path) -> Iterator[Measure]:
    """Callers in a separate process; with the server's CPU time a call."""

    def cpu_seconds() -> float:
        times = psutil.Process(server.process.pid).cpu_times()
        return float(times.user + times.system)

    with Worker("benchmarks._load", server.address, str(request)) as worker:

        def measure(callers: int, seconds: float) -> dict[str, float]:
            before = cpu_seconds()
            seen = worker.ask(callers, seconds)
            # Warm-up calls cost CPU too, and count as calls here.
            return seen | {"cpu_ms": (cpu_seconds() - before) * 1e3 / seen["all_calls"]}

        yield measure


def main() -> None:
    address, file = sys.argv[1:]
    data = Path(file).read_bytes()
    with grpc.insecure_channel(address) as channel:
        method = channel.unary_unary(PREDICT)
        method(data, timeout=30, wait_for_ready=True)
        answer("ready", lambda callers, seconds: warmed(callers, seconds, lambda: method(data, timeout=30)))


if __name__ == "__main__":
    main()
