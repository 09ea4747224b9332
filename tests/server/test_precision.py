"""--mixed_precision and --xla_cpu_compilation_enabled change how a graph is computed, as on the stock server."""

from __future__ import annotations

import pathlib

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving.local.flags import Flags
from serving.local.settings import session_config
from serving.local.testing import LocalServer

BFLOAT16 = "avx512_bf16" in pathlib.Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")


class Layers(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        draw = np.random.default_rng(0)
        self.filters = tf.Variable(draw.normal(size=(3, 3, 3, 32)).astype("f4"))
        self.kernel = tf.Variable(draw.normal(size=(32, 10)).astype("f4"))

    def call(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.reduce_mean(tf.nn.relu(tf.nn.conv2d(x, self.filters, 1, "SAME")), [1, 2]) @ self.kernel}


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    base = tmp_path_factory.mktemp("layers")
    module, spec = Layers(), [tf.TensorSpec([None, 32, 32, 3], tf.float32, "x")]
    signatures = {
        name: tf.function(module.call, input_signature=spec, jit_compile=compiled)
        for name, compiled in (("serving_default", False), ("compiled", True))
    }
    tf.saved_model.save(module, str(base / "1"), signatures=signatures)
    return base


def answer(server: LocalServer, signature: str = "serving_default") -> np.ndarray:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "layers"
    request.model_spec.signature_name = signature
    image = np.random.default_rng(1).random((2, 32, 32, 3), np.float32)
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(image))
    with grpc.insecure_channel(server.address) as channel:
        reply = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=60)
    return tf.make_ndarray(reply.outputs["y"])


def test_precision_and_compilation(layers: pathlib.Path) -> None:
    flags = ("--model_name=layers", f"--model_base_path={layers}")
    with LocalServer(*flags) as server:
        exact = answer(server)
        with pytest.raises(grpc.RpcError) as refused:
            answer(server, "compiled")
        assert refused.value.code() is grpc.StatusCode.INTERNAL
        assert "XLA compilation disabled" in refused.value.details()
    with LocalServer(*flags, "--xla_cpu_compilation_enabled", "--mixed_precision=bfloat16") as server:
        compiled, rounded = answer(server, "compiled"), answer(server)
    for result in (compiled, rounded):
        np.testing.assert_allclose(result, exact, rtol=0.03, atol=0.1)
    # In bfloat16 some of 20 sums differ; on a processor without it, none may.
    assert np.array_equal(rounded, exact) is not BFLOAT16


def test_another_precision_is_reported_and_ignored(caplog: pytest.LogCaptureFixture) -> None:
    assert session_config(Flags(mixed_precision="float16")) == session_config(Flags())
    assert "Expected --mixed_precision=bfloat16. Received: float16, without effect" in caplog.text


def test_a_session_config_file_is_under_the_flags(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "session.config"
    path.write_text("intra_op_parallelism_threads: 7 isolate_session_state: true")
    config = session_config(Flags(tensorflow_session_config_file=str(path), tensorflow_intra_op_parallelism=2))
    assert (config.intra_op_parallelism_threads, config.isolate_session_state) == (2, True)
