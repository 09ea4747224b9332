"""The whole path of a caller: a JPEG and a text in, the label out.

    python -m benchmarks.whole_path [--rounds 5] [--seconds 3]

Duoserve (`export`, `duoserve.Client`, the threads of its manifests) compared with the usual way: `model.export()`,
Pillow, sentencepiece, TensorFlow's own tensors and stubs, and the server's defaults. The same model, 64 pixels, and the
same JPEG of 640x480, on the embedded server, and on the stock one if TENSORFLOW_SERVING names its program; the callers
are threads of one process for each way, on the same cores as the server. The ways are measured in turns, round by
round. Writes results/whole_path.json.
"""

import argparse
import contextlib
import io
import itertools
import json
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, Final

from benchmarks._load import ONE_THREAD, PROGRAMS, in_threads, started
from benchmarks._report import RESULTS, markdown, parser, write
from benchmarks._rounds import Seen, alternate, medians
from benchmarks._worker import Worker, answer

CALLERS: Final = (1, 8, 32)
WAYS: Final = {"Duoserve": ("optimised", ONE_THREAD), "the usual way": ("plain",)}
"""The ways: how the model was written, and the server's flags."""

TEXT: Final = "red cat"


@contextlib.contextmanager
def duoserve(address: str, folder: pathlib.Path) -> Iterator[Callable[[], str]]:
    """A call of the client."""
    from duoserve import Client

    data = (folder / "photo.jpg").read_bytes()
    with Client(address, model="m") as client:
        yield lambda: client.predict(image=data, text=TEXT).label


@contextlib.contextmanager
def usual(address: str, folder: pathlib.Path) -> Iterator[Callable[[], str]]:
    """A call by the code of TensorFlow Serving's sample client."""
    import grpc
    import numpy as np
    import sentencepiece
    import tensorflow as tf
    from PIL import Image
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    data, about = (folder / "photo.jpg").read_bytes(), json.loads((folder / "about.json").read_text())
    size, length, labels = about["size"], about["length"], about["labels"]
    tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spm.model"))
    with grpc.insecure_channel(address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

        def call() -> str:
            image = Image.open(io.BytesIO(data)).convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
            ids = tokenizer.encode(TEXT)[:length]
            tokens = np.array([ids + [0] * (length - len(ids))], np.int32)
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "m"
            request.inputs["image"].CopyFrom(tf.make_tensor_proto(np.asarray(image)[np.newaxis]))
            request.inputs["tokens"].CopyFrom(tf.make_tensor_proto(tokens))
            (output,) = stub.Predict(request, 10).outputs.values()
            return str(labels[int(tf.make_ndarray(output).argmax())])

        yield call


def work(name: str, address: str, folder: pathlib.Path) -> None:
    """A process of callers, for `Worker`."""
    with (duoserve if name == "Duoserve" else usual)(address, folder) as call:
        answer(call(), lambda callers, seconds: in_threads(callers, seconds, call))


def measure(folder: pathlib.Path, rounds: int, seconds: float) -> dict[str, dict[str, Any]]:
    """By server, way and number of callers: medians, and the throughput relative to the usual way."""
    with contextlib.ExitStack() as stack:
        workers = {}
        for (kind, program), (name, (way, *flags)) in itertools.product(PROGRAMS.items(), WAYS.items()):
            server = stack.enter_context(started(f"--model_base_path={folder / way}", *flags, program=program))
            worker = Worker("benchmarks.whole_path", "--work", name, server.address, str(folder))
            workers[f"{kind} {name}"] = stack.enter_context(worker)
        assert len({worker.first for worker in workers.values()}) == 1, "all have the same answer"
        seen = alternate({name: worker.ask for name, worker in workers.items()}, CALLERS, rounds, seconds)
    return {kind: {name: _compared(seen, kind, name) for name in WAYS} for kind in PROGRAMS}


def _compared(seen: Seen, kind: str, name: str) -> dict[str, Any]:
    return medians(seen, f"{kind} {name}", "times_usual", lambda each: each["per_second"], f"{kind} the usual way")


def table(found: dict[str, Any]) -> str:
    """The measurements as Markdown."""
    lines = [["server", "callers", "way", "calls a second", "p50", "p99"]]
    for (kind, ways), callers, name in itertools.product(found.items(), CALLERS, WAYS):
        each = ways[name][str(callers)]
        rate = f"{each['per_second']:,.0f} ({each['times_usual']['median']:.2f} x)"
        lines.append([kind, str(callers), name, rate, f"{each['p50_ms']:.1f} ms", f"{each['p99_ms']:.1f} ms"])
    return markdown(lines)


def main() -> int:
    made = parser(__doc__, rounds=5, seconds=3.0)
    made.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    options = made.parse_args()
    if options.work:
        work(options.work[0], options.work[1], pathlib.Path(options.work[2]))
        return 0
    from benchmarks.client_parts import jpeg
    from benchmarks.graph_speed import build, write_ways

    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        model, spec = build("demo")
        write_ways(model, spec, folder)
        (folder / "photo.jpg").write_bytes(jpeg(480, 640))
        (folder / "spm.model").write_bytes(spec.tokenizer)
        about = {"size": spec.image_height, "length": spec.token_length, "labels": spec.labels}
        (folder / "about.json").write_text(json.dumps(about))
        found = measure(folder, options.rounds, options.seconds)
    write(found, RESULTS / "whole_path.json")
    print(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
