"""Building requests and reading replies, compared with memcpy, np.frombuffer and TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks._rounds import interleave, microseconds, ratio, row, times
from duoserve._wire import messages as _messages
from duoserve._wire import wire_pb2 as wire

SHAPE = (64, 1000)


def encode(rounds: int) -> dict[str, Any]:
    """Builds and serialises a request with a float32 image of 1x224x224x3."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    image = np.random.default_rng(0).random((1, 224, 224, 3), np.float32)
    data = memoryview(image.tobytes())

    def official() -> bytes:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "pairs"
        request.inputs["image"].CopyFrom(tf.make_tensor_proto(image))
        return bytes(request.SerializeToString())

    cases: dict[str, Callable[[], list[float]]] = {
        "memcpy": lambda: times(lambda: bytes(data), 30),
        "duoserve": lambda: times(
            lambda: _messages.encode_predict("pairs", None, "serving_default", {"image": image}), 30
        ),
        "tf.make_tensor_proto": lambda: times(official, 10),
    }
    found = interleave(cases, rounds)
    what = "build and serialise 1x224x224x3 float32"
    rows = [row(f"{what}, {which}", "memcpy", ratio(found, "duoserve", "memcpy", which), 3) for which in ("p50", "p95")]
    against = "tf.make_tensor_proto"
    rows.append(row(f"{what}, p95", against, ratio(found, "duoserve", against, "p95"), 1))
    return {"rows": rows, "microseconds": microseconds(found)}


def decode(rounds: int) -> dict[str, Any]:
    """Reads a reply with float32 probabilities of 64x1000, in both forms that servers send."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    values = np.random.default_rng(0).random(SHAPE, np.float32)
    rows, timings = [], {}
    for form in ("float_val", "tensor_content"):
        reply = _reply(values, form)
        offset = reply.index(values[0, :4].tobytes())
        cases: dict[str, Callable[[], list[float]]] = {
            # Copied from the reply's bytes into the caller's own array, as every client does.
            "np.frombuffer": lambda reply=reply, offset=offset: times(
                lambda: np.frombuffer(reply, np.float32, values.size, offset).reshape(SHAPE).copy(), 30
            ),
            "duoserve": lambda reply=reply: times(lambda: _messages.decode_predict(reply), 30),
            "tf.make_ndarray": lambda reply=reply: times(
                lambda: tf.make_ndarray(predict_pb2.PredictResponse.FromString(reply).outputs["probabilities"]), 3
            ),
        }
        found = interleave(cases, rounds)
        what = f"decode 64x1000, {form}"
        rows.append(row(what, "np.frombuffer", ratio(found, "duoserve", "np.frombuffer"), 2))
        rows.append(row(what, "tf.make_ndarray", ratio(found, "duoserve", "tf.make_ndarray"), 1))
        timings[form] = microseconds(found)
    return {"rows": rows, "microseconds": timings}


def _reply(values: np.ndarray, form: str) -> bytes:
    reply = wire.PredictResponse()
    reply.model_spec.name, reply.model_spec.version.value = "pairs", 1
    tensor = reply.outputs["probabilities"]
    tensor.dtype = 1
    for size in values.shape:
        tensor.tensor_shape.dim.add(size=size)
    if form == "float_val":
        tensor.float_val.extend(values.ravel().tolist())
    else:
        tensor.tensor_content = values.tobytes()
    return bytes(reply.SerializeToString())
