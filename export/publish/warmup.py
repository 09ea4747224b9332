"""Warmup records: requests that a server runs before a version serves.

They make the first real call as fast as later ones, and they are a check by the server itself:
a record that fails ends the load, and the previous version keeps serving.
Every signature is run at every batch size that the batching configuration allows; `explain`, which
runs the model a hundred times for each row, only at the smallest.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from duoserve import contract
from duoserve.artifact.samples import GoldenSample
from duoserve.preprocessing.preprocessor import Preprocessor
from export.dataset.data import encode_pairs
from export.errors import ExportError

WARMUP_PATH: Final = "assets.extra/tf_serving_warmup_requests"
"""The name that TensorFlow Serving looks for, relative to the version's folder."""

_MOST_RECORDS: Final = 1000
"""TensorFlow Serving refuses a file with more (`WarmupConsts::kMaxNumRecords`)."""


def _requests(
    name: str, spec: contract.PreprocessingSpec, samples: Sequence[GoldenSample], sizes: Sequence[int]
) -> Iterator[predict_pb2.PredictRequest]:
    """For each batch size, the requests to warm up."""
    samples = samples[: max(sizes)]
    image, tokens = encode_pairs(((sample.encoded, sample.text) for sample in samples), Preprocessor(spec))
    encoded = np.array([sample.encoded for sample in samples], object)
    text = np.array([sample.text.encode("utf-8") for sample in samples], object)
    for rows in sizes:
        chosen = np.resize(np.arange(len(samples)), rows)
        tensors = {"image": image[chosen], "tokens": tokens[chosen]}
        inputs: dict[str, dict[str, Any]] = {
            contract.SERVING_DEFAULT: tensors,
            contract.SERVING_BYTES: {spec.bytes_input: encoded[chosen], "text": text[chosen]},
            contract.DESCRIBE: {"key": np.array([b""] * rows, object)},
            contract.EMBED: tensors,
            contract.EXPLAIN: {**tensors, "class_id": np.full(rows, -1, np.int32)},
        }
        for signature in contract.signatures(spec):
            if rows in warmed_up(signature, sizes):
                # Without a version: the server fills in the one that it loads.
                request = predict_pb2.PredictRequest(model_spec={"name": name, "signature_name": signature})
                for key, array in inputs[signature].items():
                    request.inputs[key].CopyFrom(tf.make_tensor_proto(array))
                yield request


def warmed_up(signature: str, batch_sizes: Iterable[int]) -> list[int]:
    """The batch sizes of a signature's records, among those that the server allows."""
    sizes = sorted(set(batch_sizes))
    return sizes[:1] if signature == contract.EXPLAIN else sizes


def write_warmup(
    path: Path,
    *,
    name: str,
    spec: contract.PreprocessingSpec,
    samples: Sequence[GoldenSample],
    batch_sizes: Sequence[int],
) -> None:
    """Writes the records of one version.

    Raises:
        ExportError: A batch size below 1, none at all, or more records than the server reads.
    """
    if not batch_sizes or min(batch_sizes) < 1:
        raise ExportError(f"Expected batch sizes of at least 1, one or more. Received: {list(batch_sizes)}")
    requests = list(_requests(name, spec, samples, sorted(set(batch_sizes))))
    if len(requests) > _MOST_RECORDS:
        raise ExportError(
            f"Expected at most {_MOST_RECORDS} warmup records, one for each signature and batch size."
            f" Received: {len(requests)}"
        )
    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in requests:
            log = prediction_log_pb2.PredictionLog(predict_log={"request": request})
            writer.write(log.SerializeToString())


def read_warmup(path: Path) -> list[predict_pb2.PredictRequest]:
    """The Predict requests in a file of warmup records.

    Raises:
        ExportError: The file is incomplete, or holds a record that is not a Predict request.
    """
    requests = []
    try:
        for data in tf.data.TFRecordDataset(str(path)):
            log = prediction_log_pb2.PredictionLog.FromString(data.numpy())
            if not log.HasField("predict_log"):
                raise ExportError(f"Expected Predict requests in {path.name}. Received: {log.WhichOneof('log_type')}")
            requests.append(log.predict_log.request)
    except tf.errors.OpError as error:
        raise ExportError(f"Expected {path.name} to be a whole TFRecord file. Received: {error.message}") from error
    return requests
