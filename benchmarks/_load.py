"""Calls a gRPC method from many threads for a while; prints the measurements as JSON.

Sends bytes and ignores the content of replies, so that it measures the server.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys
import threading
import time
from typing import Any

from benchmarks._rounds import quantile

ROOT = pathlib.Path(__file__).resolve().parents[1]
PREDICT = "/tensorflow.serving.PredictionService/Predict"


def summary(latencies: list[float], seconds: float, errors: int = 0) -> dict[str, float]:
    """Calls a second, and latencies in milliseconds."""
    return {
        "calls": len(latencies),
        "per_second": len(latencies) / seconds,
        "p50_ms": quantile(latencies, 0.5) * 1e3,
        "p99_ms": quantile(latencies, 0.99) * 1e3,
        "errors": errors,
    }


def in_threads(callers: int, seconds: float, call: Any) -> dict[str, float]:
    """Run `call()` again and again in `callers` threads."""
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
    return summary(latencies, time.perf_counter() - begin, len(errors))


def run(address: str, request: pathlib.Path, callers: int, seconds: float) -> dict[str, float]:
    """Measure in a separate process, so that the caller's threads cost the server only CPU."""
    command = [sys.executable, "-m", "benchmarks._load", address, str(request), str(callers), str(seconds)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def main() -> None:
    import grpc

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("request", type=pathlib.Path)
    parser.add_argument("callers", type=int)
    parser.add_argument("seconds", type=float)
    options = parser.parse_args()
    data = options.request.read_bytes()
    with grpc.insecure_channel(options.address) as channel:
        method = channel.unary_unary(PREDICT)
        method(data, timeout=30, wait_for_ready=True)
        warm = in_threads(options.callers, 0.3, lambda: method(data, timeout=30))
        seen = in_threads(options.callers, options.seconds, lambda: method(data, timeout=30))
        print(json.dumps({**seen, "all_calls": 1 + warm["calls"] + seen["calls"]}))


if __name__ == "__main__":
    main()
