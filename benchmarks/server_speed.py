"""How fast is the embedded server? Compared with the same model in-process, and with an empty gRPC server.

    python -m benchmarks.server_speed [--preset demo|reference] [--rounds 5] [--seconds 2]

All in one run, interleaved, round by round; ratios are taken within a round. The callers run on the same cores as the
server: their cost is part of the throughput, but not of the CPU times, which are those of the server process only.
Writes results/server_speed_NAME.json beside this file.
"""

import contextlib
import pathlib
import sys
import tempfile
import time

import numpy as np
from tensorflow.core.protobuf import config_pb2

from benchmarks._empty_server import empty_server
from benchmarks._load import Measure, random_inputs, request_of, started, under_load, warmed
from benchmarks._report import RESULTS, parser, write
from benchmarks._rounds import Seen, alternate, spread
from benchmarks._worker import Worker
from benchmarks.graph_speed import build, write_ways
from serving.local.model import savedmodel
from serving.local.model.servable import Servable

CALLERS = (1, 8, 32)
BATCH_THREADS = 2
BATCHING = f"""
max_batch_size {{ value: 32 }} batch_timeout_micros {{ value: 2000 }} max_enqueued_batches {{ value: 64 }}
num_batch_threads {{ value: {BATCH_THREADS} }}
"""


class InProcess:
    """The same signature without a server: the same Session, called from threads."""

    def __init__(self, version: pathlib.Path) -> None:
        self._servable = Servable(*savedmodel.load(version, ["serve"], config_pb2.ConfigProto()))
        self._signature = self._servable.signatures["serving_default"]

    def request(self) -> bytes:
        """A request with one row, to the model `m`."""
        return request_of(random_inputs(self._signature, 1))

    def measure(self, rows: int, threads: int, seconds: float) -> dict[str, float]:
        """The figures, with the CPU time a row."""
        inputs = random_inputs(self._signature, rows)
        feeds = {self._signature.inputs[key].name: array for key, array in inputs.items()}
        fetches = [info.name for info in self._signature.outputs.values()]
        began = time.process_time()
        seen = warmed(threads, seconds, lambda: self._servable.run(feeds, fetches, None))
        return {**seen, "cpu_ms": (time.process_time() - began) * 1e3 / seen["all_calls"] / rows}


def measured(local: InProcess, servers: dict[str, Measure], rounds: int, seconds: float) -> Seen:
    """The figures of the servers and of the model in-process, row by row and in batches of the size just reached."""
    reached = {}

    def batched(callers: int, seconds: float) -> dict[str, float]:
        found = servers["batched"](callers, seconds)
        reached[callers] = max(1, round(found["batch"]))
        return found

    def batch(callers: int, seconds: float) -> dict[str, float]:
        size = reached[callers]
        found = local.measure(size, BATCH_THREADS, seconds)
        return found | {"batch": size, "rows_per_second": found["per_second"] * size}

    def row_by_row(callers: int, seconds: float) -> dict[str, float]:
        return local.measure(1, callers, seconds)

    ways = {**servers, "batched": batched, "in-process": row_by_row, "in-process batch": batch}
    return alternate(ways, CALLERS, rounds, seconds)


def ratios(seen: Seen) -> dict[str, dict[str, float]]:
    """The reported figures: each within a round, then the median and the spread over the rounds."""

    def of(name: str, n: int, figure: str) -> np.ndarray:
        return np.array([each[figure] for each in seen[name, n]])

    found: dict[str, np.ndarray] = {}
    for n in CALLERS:
        speed = of("server", n, "per_second")
        found[f"throughput, server / in-process, {n} callers"] = speed / of("in-process", n, "per_second")
        found[f"throughput, server / empty server, {n} callers"] = speed / of("floor", n, "per_second")
    for n in (8, 32):
        speed, cpu = of("batched", n, "per_second"), of("batched", n, "cpu_ms")
        found[f"throughput, batching server / in-process at its batch size, {n} callers"] = speed / of(
            "in-process batch", n, "rows_per_second"
        )
        found[f"CPU a row, in-process at its batch size / batching server, {n} callers"] = (
            of("in-process batch", n, "cpu_ms") / cpu
        )
        found[f"batch size reached, {n} callers"] = of("batched", n, "batch")
    found["added at batch 1, 1 caller, median, ms"] = of("server", 1, "p50_ms") - of("in-process", 1, "p50_ms")
    found["of which an empty gRPC call, ms"] = of("floor", 1, "p50_ms")
    return {name: spread(values.tolist()) for name, values in found.items()}


def main() -> int:
    asked = parser(__doc__, rounds=5, seconds=2.0)
    asked.add_argument("--preset", choices=("demo", "reference"), default="demo", help="a model made for this")
    options = asked.parse_args()
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        work = pathlib.Path(scratch)
        write_ways(*build(options.preset), work)  # not trained: the weights do not matter
        local = InProcess(work / "optimised" / "1")
        request = work / "request.bin"
        request.write_bytes(local.request())
        (work / "batching.config").write_text(BATCHING)
        (work / "monitoring.config").write_text("prometheus_config { enable: true }")
        served = f"--model_base_path={work}/optimised"
        batching = [
            "--enable_batching",
            f"--batching_parameters_file={work}/batching.config",
            f"--monitoring_config_file={work}/monitoring.config",
        ]
        floor = Worker("benchmarks._load", stack.enter_context(empty_server(bytes(80))), str(request))
        servers = {"floor": stack.enter_context(floor).ask}
        for name, server in {"server": started(served), "batched": started(served, *batching, rest=True)}.items():
            servers[name] = stack.enter_context(under_load(stack.enter_context(server), request))
        seen = measured(local, servers, options.rounds, options.seconds)
    found = ratios(seen)
    write({"ratios": found}, RESULTS / f"server_speed_{options.preset}.json")
    for what, value in found.items():
        print(f"{value['median']:8.2f}  ({value['least']:.2f} to {value['most']:.2f})  {what}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
