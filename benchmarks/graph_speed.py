"""The gain from the rules of `export.optimise`: the same models written in several ways.

    python -m benchmarks.graph_speed [--models demo reference own large] [--rounds 5] [--seconds 1]

plain       `model.export()` of Keras
as-is       `export export --as-is`: the contract's signatures around the same layers
optimised   `export export`
bfloat16    the same on a server with `--mixed_precision=bfloat16`
xla         plain, compiled by XLA, with LSTMs unrolled: not something that `export` does; the demo's model only

Each way runs in a separate process, in a Session as in TensorFlow Serving; they take turns, round by round. The
floor is the time of the model's matrix products at the rate of one large float32 product. The models are not
trained (their biases are random, as TensorFlow leaves out zeros); texts have 6 tokens. Then a server answers 1 and 8
callers, with as many threads for an operation as CPUs, or one, as in the manifests: the embedded one, and the stock
server if TENSORFLOW_SERVING names its program. Writes results/graph_speed.json after each model; models that are not
named keep their results.
"""

import argparse
import contextlib
import functools
import itertools
import json
import math
import pathlib
import sys
import tempfile
import time
from typing import Any, Final

import keras
import numpy as np
import psutil
import tensorflow as tf

from benchmarks._load import ONE_THREAD, PROGRAMS, random_inputs, request_of, started, under_load
from benchmarks._report import RESULTS, markdown, parser, write
from benchmarks._rounds import Seen, alternate, medians
from benchmarks._worker import Worker, answer
from duoserve.contract import ONE_CLASS, PreprocessingSpec
from export.publish.answers import serve
from export.publish.session import SessionModel, start_runtime
from export.publish.signatures import write_saved_model
from export.training.heads import head
from export.training.model import build_model
from export.training.presets import PRESETS
from export.training.tokenizer import train_tokenizer

WAYS: Final = ("plain", "as-is", "optimised", "bfloat16", "xla")
_BFLOAT16: Final = "--mixed_precision=bfloat16"
SERVED: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "plain": ("plain", ()),
    "plain, one thread": ("plain", (ONE_THREAD,)),
    "optimised": ("optimised", ()),
    "optimised, one thread": ("optimised", (ONE_THREAD,)),
    "bfloat16": ("optimised", (_BFLOAT16,)),
    "bfloat16, one thread": ("optimised", (_BFLOAT16, ONE_THREAD)),
}
"""The ways to serve: how the model was written, and the server's flags."""

MODELS: Final = {"demo": "compact", "reference": "reference", "large": "large", "own": None}
ROWS: Final = (1, 8, 32)
CALLERS: Final = (1, 8)
LENGTH: Final = 6


def build(name: str) -> tuple[Any, Any]:
    """The Keras model and its spec."""
    keras.utils.set_random_seed(1)
    preset = PRESETS[MODELS[name] or "compact"]
    size = 128 if name == "own" else preset.image_size
    words = [f"{one} {other}" for one, other in itertools.permutations(("red", "cat", "blue", "tree", "sea", "hot"), 2)]
    spec = PreprocessingSpec(size, size, 24, train_tokenizer(words, vocabulary=300), tuple("abcdefghi"), 1)
    if name == "own":
        model = _own(spec)
    else:
        answer = head(ONE_CLASS, np.eye(len(spec.labels)))
        model = build_model(preset, spec, fusion="concat", vocabulary=1000, head=answer)
    draw = np.random.default_rng(0)
    for each in model.weights:
        if each.dtype == "float32" and not np.any(each.numpy()):  # TensorFlow removes additions of zeros
            each.assign(draw.normal(0, 0.1, each.shape))
    return model, spec


def _own(spec: Any) -> Any:
    """A backbone of `keras.applications` beside a bidirectional LSTM."""
    image = keras.Input((spec.image_height, spec.image_width, 3), dtype="uint8", name="image")
    tokens = keras.Input((spec.token_length,), dtype="int32", name="tokens")
    backbone = keras.applications.MobileNetV2((128, 128, 3), include_top=False, weights=None, pooling="avg")
    seen = backbone(keras.layers.Rescaling(1 / 127.5, offset=-1)(image))
    words = keras.layers.Embedding(5000, 128, mask_zero=True)(tokens)
    read = keras.layers.Bidirectional(keras.layers.LSTM(128))(words)
    fused = keras.layers.Concatenate()([seen, read])
    answer = keras.layers.Dense(len(spec.labels), activation="softmax", name="probabilities")(fused)
    return keras.Model({"image": image, "tokens": tokens}, answer)


def write_all(name: str, folder: pathlib.Path) -> float:
    """Writes a model in every way, each to its own folder; returns the matrix products of one row, in FLOP."""
    model, spec = build(name)
    write_ways(model, spec, folder)
    flops = sum(_flops(layer) for layer in _flat(model))
    if name != "demo":
        return flops
    for layer in _flat(model):
        if isinstance(layer, keras.layers.LSTM):
            layer.unroll = True
    compiled = tf.function(lambda image, tokens: model({"image": image, "tokens": tokens}), jit_compile=True)
    archive = keras.export.ExportArchive()
    archive.track(model)
    inputs = [
        tf.TensorSpec(each.shape, each.dtype, each.name) for each in (model.input["image"], model.input["tokens"])
    ]
    archive.add_endpoint("serving_default", compiled, input_signature=inputs)
    archive.write_out(str(folder / "xla" / "1"), verbose=False)
    return flops


def write_ways(model: Any, spec: Any, folder: pathlib.Path) -> None:
    """Writes the model plain, as-is and optimised."""
    model.export(str(folder / "plain" / "1"), verbose=False)
    for way in ("as-is", "optimised"):
        write_saved_model(serve(model, spec, as_is=way == "as-is"), spec, folder / way / "1")


def _flat(model: Any) -> list[Any]:
    return [each for each in model._flatten_layers() if not hasattr(each, "layers")]


def _flops(layer: Any) -> float:
    kind, weights = type(layer).__name__, [each.shape for each in layer.weights if len(each.shape) > 1]
    if kind == "LSTM":
        return 2.0 * LENGTH * sum(map(math.prod, weights))
    if kind in ("Conv2D", "DepthwiseConv2D"):
        return 2.0 * math.prod(weights[0]) * math.prod(layer.output.shape[1:3])
    return 2.0 * math.prod(weights[0]) if kind == "Dense" else 0.0


def rate() -> float:
    """FLOP per second of CPU time of one large float32 matrix product."""
    one, taken = tf.random.normal((1536, 1536)), []
    for _ in range(15):
        began = time.process_time()
        tf.linalg.matmul(one, one).numpy()
        taken.append(time.process_time() - began)
    return 2.0 * 1536**3 / min(taken)


def work(folder: str, bfloat16: bool) -> None:
    """Loads one version and measures it, for `Worker`."""
    start_runtime()
    before, began = psutil.Process().memory_info().rss, time.perf_counter()
    model = SessionModel(pathlib.Path(folder), bfloat16=bfloat16)
    loaded = time.perf_counter() - began
    signature = model.meta_graph.signature_def["serving_default"]
    (output,) = (info.name for info in signature.outputs.values())

    def feeds(rows: int) -> dict[str, np.ndarray]:
        inputs = random_inputs(signature, rows, LENGTH)
        return {signature.inputs[key].name: value for key, value in inputs.items()}

    def caller(rows: int) -> Any:
        run = model.session.make_callable(output, feed_list=list(feeds(rows)))
        return functools.partial(run, *feeds(rows).values())

    metadata = tf.compat.v1.RunMetadata()
    callers = {rows: caller(rows) for rows in ROWS}
    callers[1]()
    options = tf.compat.v1.RunOptions(trace_level=tf.compat.v1.RunOptions.FULL_TRACE)
    model.session.run(output, feeds(1), options, metadata)
    nodes = sum(len(device.node_stats) for device in metadata.step_stats.dev_stats)
    memory = (psutil.Process().memory_info().rss - before) / 1e6

    def measure(rows: int, seconds: float) -> dict[str, float]:
        call, count = callers[rows], 0
        call()
        wall, cpu = time.perf_counter(), time.process_time()
        while count < 3 or time.perf_counter() < wall + seconds:
            call()
            count += 1
        done = count * rows / 1e3
        return {"ms": (time.perf_counter() - wall) / done, "cpu_ms": (time.process_time() - cpu) / done}

    answer({"load_seconds": loaded, "memory_mb": memory, "nodes": nodes}, measure)


def in_process(folder: pathlib.Path, rounds: int, seconds: float) -> dict[str, dict[str, Any]]:
    """By way: the worker's facts, and by number of rows the median time and CPU a row, and the CPU against plain."""
    with contextlib.ExitStack() as stack:
        workers = {}
        for way in WAYS if (folder / "xla").exists() else WAYS[:-1]:
            more = ["--bfloat16"] if way == "bfloat16" else []
            written = folder / ("optimised" if way == "bfloat16" else way) / "1"
            worker = Worker("benchmarks.graph_speed", "--work", str(written), *more)
            workers[way] = stack.enter_context(worker)
        seen = alternate({way: worker.ask for way, worker in workers.items()}, ROWS, rounds, seconds)
        return {way: worker.first | {"rows": _compared(seen, way)} for way, worker in workers.items()}


def _compared(seen: Seen, way: str, before: str = "") -> dict[str, Any]:
    return medians(seen, before + way, "times_plain", lambda each: 1 / each["cpu_ms"], f"{before}plain")


def request(folder: pathlib.Path, rows: int) -> bytes:
    """A serialised request of random rows for the optimised version, to the model `m`."""
    with SessionModel(folder / "optimised" / "1") as model:
        return request_of(random_inputs(model.meta_graph.signature_def["serving_default"], rows, LENGTH))


def served(folder: pathlib.Path, rounds: int, seconds: float) -> dict[str, dict[str, Any]]:
    """By server, way and number of callers: calls a second, and the server's CPU a call."""
    (folder / "request").write_bytes(request(folder, 1))
    with contextlib.ExitStack() as stack:
        servers = {}
        for (kind, program), (way, (written, flags)) in itertools.product(PROGRAMS.items(), SERVED.items()):
            base = f"--model_base_path={folder / written}"
            server = stack.enter_context(started(*flags, base, program=program))
            servers[f"{kind} {way}"] = stack.enter_context(under_load(server, folder / "request"))
        seen = alternate(servers, CALLERS, rounds, seconds)
    return {kind: {way: _compared(seen, way, f"{kind} ") for way in SERVED} for kind in PROGRAMS}


def tables(report: dict[str, Any]) -> str:
    """The measurements as Markdown."""
    head = ["model", "way", "nodes", "loads in", "memory", *(f"CPU a row, batch {rows}" for rows in ROWS)]
    lines = [head]
    for name, model in report["models"].items():
        for way, found in model["ways"].items():
            cells = [_cell(found["rows"][str(rows)]) for rows in ROWS]
            load = f"{found['load_seconds']:.1f} s"
            lines.append([name, way, f"{found['nodes']:,.0f}", load, f"{found['memory_mb']:,.0f} MB", *cells])
        lines.append([name, "floor", "", "", "", *[f"{model['floor_ms']:.2f} ms"] * len(ROWS)])
    text = markdown(lines)
    columns = (f"{kind}, {callers} at once" for callers in CALLERS for kind in ("calls/s", "p99", "server's CPU"))
    lines = [["model", "server", "way", *columns]]
    for name, servers in report.get("served", {}).items():
        for (server, ways), way in itertools.product(servers.items(), SERVED):
            by = [ways[way][str(callers)] for callers in CALLERS]
            cells = [(f"{each['per_second']:,.0f}", f"{each['p99_ms']:.1f} ms", _cell(each)) for each in by]
            lines.append([name, server, way, *itertools.chain(*cells)])
    return text + "\n\n" + markdown(lines) if lines[1:] else text


def _cell(found: dict[str, Any]) -> str:
    return f"{found['cpu_ms']:.2f} ms ({found['times_plain']['median']:.2f} x)"


def main() -> int:
    made = parser(__doc__, rounds=5, seconds=1.0)
    made.add_argument("--models", nargs="+", choices=tuple(MODELS), default=tuple(MODELS))
    made.add_argument("--out", type=pathlib.Path, default=RESULTS / "graph_speed.json")
    made.add_argument("--work", help=argparse.SUPPRESS)
    made.add_argument("--bfloat16", action="store_true", help=argparse.SUPPRESS)
    options = made.parse_args()
    if options.work:
        work(options.work, options.bfloat16)
        return 0
    report: dict[str, Any] = json.loads(options.out.read_text()) if options.out.exists() else {"models": {}}
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.models:
            folder = pathlib.Path(scratch) / name
            flops = write_all(name, folder)
            ways = in_process(folder, options.rounds, options.seconds)
            report["models"][name] = {"floor_ms": flops / rate() * 1e3, "flops": flops, "ways": ways}
            report.setdefault("served", {})[name] = served(folder, options.rounds, options.seconds)
            write(report, options.out)
            print(f"{name}: measured", file=sys.stderr)
    print(tables(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
