"""How fast is the embedded server? Compared with the model in-process, an empty server and the stock one.

    python -m benchmarks.server_speed [--preset demo|reference] [--rounds 5] [--seconds 2]

All in one run, interleaved, round by round; ratios are taken within a round. The callers run on the same cores as the
server: their cost is part of the throughput. The stock server takes part if TENSORFLOW_SERVING names its program.
Writes results/server_speed_NAME.json beside this file.
"""

import argparse
import contextlib
import itertools
import pathlib
import sys
import tempfile

import numpy as np
from tensorflow.core.protobuf import config_pb2

from benchmarks._empty_server import empty_server
from benchmarks._load import ONE_THREAD, PROGRAMS, Measure, random_inputs, started, under_load, warmed
from benchmarks._report import RESULTS, parser, write
from benchmarks._rounds import Seen, alternate, spread
from benchmarks._worker import Worker, answer
from benchmarks.graph_speed import LENGTH, build, request, write_ways
from serving.local.model import savedmodel
from serving.local.model.servable import Servable

CALLERS = (1, 8, 32)
THREADS = {"": ((), 0), ", one thread": ((ONE_THREAD,), 1)}
"""By suffix of a way's name: the server's flags, and the threads of an operation in-process (0: as many as CPUs)."""


def work(version: pathlib.Path, threads: int) -> None:
    """Measures the same signature without a server, called from threads, for `Worker`.

    In a process of its own: all Sessions of a process share the threads of the first one.
    """
    config = config_pb2.ConfigProto(intra_op_parallelism_threads=threads)
    servable = Servable(*savedmodel.load(version, ["serve"], config))
    signature = servable.signatures["serving_default"]
    fetches = [info.name for info in signature.outputs.values()]
    inputs = random_inputs(signature, 1, LENGTH)
    feeds = {signature.inputs[key].name: array for key, array in inputs.items()}
    answer("ready", lambda callers, seconds: warmed(callers, seconds, lambda: servable.run(feeds, fetches, None)))


def ratios(seen: Seen) -> dict[str, dict[str, float]]:
    """The reported figures: each within a round, then the median and the spread over the rounds."""

    def of(name: str, n: int, figure: str) -> np.ndarray:
        return np.array([each[figure] for each in seen[name, n]])

    def faster(one: str, other: str, callers: int) -> None:
        speed = of(one, callers, "per_second") / of(other, callers, "per_second")
        found[f"throughput, {one} / {other}, {callers} callers"] = speed

    found: dict[str, np.ndarray] = {}
    for suffix, n in itertools.product(THREADS, CALLERS):
        for kind in PROGRAMS:
            faster(f"{kind}{suffix}", f"in-process{suffix}", n)
        if "stock" in PROGRAMS:
            faster(f"embedded{suffix}", f"stock{suffix}", n)
    for n in CALLERS:
        faster("embedded", "empty server", n)
    found["added at batch 1, 1 caller, median, ms"] = of("embedded", 1, "p50_ms") - of("in-process", 1, "p50_ms")
    found["of which an empty gRPC call, ms"] = of("empty server", 1, "p50_ms")
    return {name: spread(values.tolist()) for name, values in found.items()}


def main() -> int:
    asked = parser(__doc__, rounds=5, seconds=2.0)
    asked.add_argument("--preset", choices=("demo", "reference"), default="demo", help="a model made for this")
    asked.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    options = asked.parse_args()
    if options.work:
        work(pathlib.Path(options.work[0]), int(options.work[1]))
        return 0
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        folder = pathlib.Path(scratch)
        write_ways(*build(options.preset), folder)  # not trained: the weights do not matter
        version = folder / "optimised" / "1"
        file = folder / "request.bin"
        file.write_bytes(request(folder, 1))
        empty = Worker("benchmarks._load", stack.enter_context(empty_server(bytes(80), direct=True)), str(file))
        ways: dict[str, Measure] = {"empty server": stack.enter_context(empty).ask}
        for suffix, (flags, threads) in THREADS.items():
            local = Worker("benchmarks.server_speed", "--work", f"{version}", f"{threads}")
            ways[f"in-process{suffix}"] = stack.enter_context(local).ask
            for kind, program in PROGRAMS.items():
                server = stack.enter_context(started(f"--model_base_path={version.parent}", *flags, program=program))
                ways[f"{kind}{suffix}"] = stack.enter_context(under_load(server, file))
        seen = alternate(ways, CALLERS, options.rounds, options.seconds)
    found = ratios(seen)
    write({"ratios": found}, RESULTS / f"server_speed_{options.preset}.json")
    for what, value in found.items():
        print(f"{value['median']:8.2f}  ({value['least']:.2f} to {value['most']:.2f})  {what}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
