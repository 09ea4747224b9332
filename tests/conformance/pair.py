"""The tiny two-input model that the stock server's answers were recorded with, and requests for it."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from tests.conformance.pair_model import write
from tests.shared import made_once


@pytest.fixture(scope="session")
def pair_models(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with versions 1, 2 and 3 of the model. Copy from it, change nothing in it."""

    def make(folder: pathlib.Path) -> pathlib.Path:
        for version in (1, 2, 3):
            write(folder, version)
        return folder / "pair"

    return made_once(tmp_path_factory, "pair-models", make)


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
