"""The parts of the client's work (import, requests, replies, images), each compared with its floor and with peers."""

import io
import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import predict_pb2

from benchmarks._rounds import Timings, interleave, microseconds, row, spread, times, versus
from duoserve import PreprocessingSpec, Preprocessor
from duoserve._wire import messages as _messages
from duoserve._wire import wire_pb2 as wire

SHAPE = (64, 1000)
SIZES = {"640x480": (480, 640, 5, 1.0), "12 megapixels": (3000, 4000, 1, 0.4)}
"""Height, width, calls in a turn, aim."""
IMPORTS = {
    "floor": "import grpc, numpy; from google.protobuf import descriptor_pool, message",
    "duoserve": "from duoserve import Client; from duoserve._wire import wire_pb2",
    "tensorflow-serving-api": "import tensorflow as tf; from tensorflow_serving.apis import predict_pb2",
}
MEASURE = """
import time
began = time.perf_counter()
{statement}
seconds = time.perf_counter() - began
import json
line = next(line for line in open("/proc/self/status") if line.startswith("VmRSS"))
print(json.dumps([seconds, int(line.split()[1]) / 1024]))
"""


def imports(rounds: int) -> dict[str, Any]:
    """Seconds and RSS in MiB of each import, interleaved."""
    # pip compiles packages; the first, uncounted round does that for a source tree.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    found: dict[str, dict[str, list[float]]] = {name: {"seconds": [], "mib": []} for name in IMPORTS}
    for attempt in range(rounds + 1):
        for name, statement in IMPORTS.items():
            command = [sys.executable, "-c", MEASURE.format(statement=statement)]
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
            if attempt:  # the first one also warms the file cache
                for values, value in zip(found[name].values(), json.loads(done.stdout), strict=True):
                    values.append(value)
    rows = []
    for which, unit in (("seconds", "time"), ("mib", "RSS")):
        for peer, aim, inverse in (("floor", 1.5, False), ("tensorflow-serving-api", 10.0, True)):
            pairs = list(zip(found["duoserve"][which], found[peer][which], strict=True))
            values = [other / ours if inverse else ours / other for ours, other in pairs]
            what = f"import, {unit}" + (", how many times less" if inverse else "")
            rows.append(row(what, peer, spread(values), aim, more_is_better=inverse))
    return {"rows": rows, "measured": {name: {k: spread(v) for k, v in by.items()} for name, by in found.items()}}


def encode(rounds: int) -> dict[str, Any]:
    """Builds and serialises a request with a float32 image of 1x224x224x3."""
    image = np.random.default_rng(0).random((1, 224, 224, 3), np.float32)
    data = memoryview(image.tobytes())

    def ours() -> bytes:
        return _messages.encode_predict("pairs", None, "serving_default", {"image": image})

    def official() -> bytes:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "pairs"
        request.inputs["image"].CopyFrom(tf.make_tensor_proto(image))
        return bytes(request.SerializeToString())

    found = interleave(
        {
            "memcpy": lambda: times(lambda: bytes(data), 30),
            "duoserve": lambda: times(ours, 30),
            "tf.make_tensor_proto": lambda: times(official, 10),
        },
        rounds,
    )
    what = "build and serialise 1x224x224x3 float32"
    rows = [versus(found, f"{what}, {which}", "memcpy", 3, which) for which in ("p50", "p95")]
    rows.append(versus(found, f"{what}, p95", "tf.make_tensor_proto", 1, "p95"))
    return {"rows": rows, "microseconds": microseconds(found)}


def decode(rounds: int) -> dict[str, Any]:
    """Reads a reply with float32 probabilities of 64x1000, in both forms that servers send."""
    values = np.random.default_rng(0).random(SHAPE, np.float32)
    forms = {"float_val": values.ravel(), "tensor_content": values.tobytes()}
    rows, timings = [], {}
    for form, content in forms.items():
        found = _decoded(reply("probabilities", 1, SHAPE, **{form: content}), values, rounds)
        for to, aim in (("np.frombuffer", 2), ("tf.make_ndarray", 1)):
            rows.append(versus(found, f"decode 64x1000, {form}", to, aim))
        timings[form] = microseconds(found)
    return {"rows": rows, "microseconds": timings}


def _decoded(data: bytes, values: np.ndarray, rounds: int) -> Any:
    offset = data.index(values[0, :4].tobytes())

    def copy() -> np.ndarray:
        """From the reply's bytes into the caller's own array, as every client does."""
        return np.frombuffer(data, np.float32, values.size, offset).reshape(SHAPE).copy()

    def official() -> np.ndarray:
        return tf.make_ndarray(predict_pb2.PredictResponse.FromString(data).outputs["probabilities"])

    return interleave(
        {
            "np.frombuffer": lambda: times(copy, 30),
            "duoserve": lambda: times(lambda: _messages.decode_predict(data), 30),
            "tf.make_ndarray": lambda: times(official, 3),
        },
        rounds,
    )


def reply(name: str, dtype: int, shape: tuple[int, ...], **content: Any) -> bytes:
    """A PredictResponse with one output; `content` is the field of TensorProto that has the values."""
    made = wire.PredictResponse()
    made.model_spec.name, made.model_spec.version.value = "pairs", 1
    made.outputs[name].MergeFrom(wire.TensorProto(dtype=dtype, **content))
    for size in shape:
        made.outputs[name].tensor_shape.dim.add(size=size)
    return bytes(made.SerializeToString())


def images(rounds: int) -> dict[str, Any]:
    """JPEG bytes to a serialised request for a model of 224x224."""
    rows, timings = [], {}
    for name, (height, width, count, aim) in SIZES.items():
        found = _measured(jpeg(height, width), count, rounds)
        rows.append(versus(found, f"JPEG {name} to request", "usual Pillow path", aim))
        rows.append(versus(found, f"JPEG {name} to request", "full decode", None))
        timings[name] = microseconds(found)
    return {"rows": rows, "microseconds": timings}


def _measured(data: bytes, count: int, rounds: int) -> Timings:
    preprocessor = Preprocessor(PreprocessingSpec(224, 224, 32, b"not needed for images", ("a",), 1))

    def request(image: np.ndarray) -> bytes:
        return _messages.encode_predict("pairs", None, "serving_default", {"image": image[None]})

    def usual() -> bytes:
        image = Image.open(io.BytesIO(data)).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
        return request(np.asarray(image))

    cases = {
        "full decode": lambda: times(lambda: Image.open(io.BytesIO(data)).load(), count),
        "usual Pillow path": lambda: times(usual, count),
        "duoserve": lambda: times(lambda: request(preprocessor.image(data)), count),
    }
    return interleave(cases, rounds)


def jpeg(height: int, width: int) -> bytes:
    """A photo-like image of soft noise."""
    noise = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).save(data, "JPEG", quality=90)
    return data.getvalue()
