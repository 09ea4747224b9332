"""The tiny two-input model that the stock server's answers were recorded with, and requests for it."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

_SCRIPT = pathlib.Path(__file__).with_name("pair_model.py")


@pytest.fixture(scope="session")
def pair_models(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with versions 1, 2 and 3 of the model. Copy from it, change nothing in it."""
    out = tmp_path_factory.mktemp("pair-models")
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, str(_SCRIPT), str(out)], check=True, env=environment, capture_output=True)
    return out / "pair"


def predict_request(
    *, rows: int = 1, length: int = 3, token: int = 1, version: int | None = None, label: str = "", model: str = "pair"
) -> predict_pb2.PredictRequest:
    """A good request: `rows` images, each with `length` times the same token."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    if version is not None:
        request.model_spec.version.value = version
    if label:
        request.model_spec.version_label = label
    image = np.arange(rows * 48, dtype=np.uint8).reshape(rows, 4, 4, 3)
    request.inputs["image"].CopyFrom(tf.make_tensor_proto(image))
    request.inputs["tokens"].CopyFrom(tf.make_tensor_proto(np.full((rows, length), token, np.int32)))
    return request


def write_warmup(version_dir: pathlib.Path, *requests: predict_pb2.PredictRequest) -> None:
    """Put warmup records into a version's assets.extra."""
    folder = version_dir / "assets.extra"
    folder.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / "tf_serving_warmup_requests")) as writer:
        for request in requests:
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())
