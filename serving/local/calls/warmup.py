"""Replays a version's recorded requests before it serves; if one fails, the version is not served."""

from __future__ import annotations

import logging
import pathlib
import time
from collections.abc import Iterator
from typing import Final

import tensorflow as tf
from google.protobuf import message
from tensorflow_serving.apis import prediction_log_pb2

from serving.local.calls import examples, predict
from serving.local.deadline import Deadline
from serving.local.errors import Code, ServingError, invalid_argument
from serving.local.model.servable import Runner
from serving.local.versions.states import ServableId

_LOG = logging.getLogger(__name__)

FILE: Final = "tf_serving_warmup_requests"
MAX_RECORDS: Final = 1000


def _records(path: pathlib.Path) -> Iterator[prediction_log_pb2.PredictionLog]:
    for count, data in enumerate(tf.data.TFRecordDataset(str(path)).as_numpy_iterator(), 1):
        if count > MAX_RECORDS:
            raise invalid_argument(f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {path}")
        record = prediction_log_pb2.PredictionLog()
        try:
            record.ParseFromString(data)
        except message.DecodeError as error:
            raise invalid_argument(f"Failed to parse warmup record: {data[:64]!r} from {path}") from error
        yield record


def warm_up(servable: Runner, servable_id: ServableId, export_dir: pathlib.Path, *, iterations: int = 1) -> int:
    """Run each record of `assets.extra/tf_serving_warmup_requests`, if it exists; return their number.

    Raises:
        ServingError, tf.errors.OpError: Of the first record that fails.
    """
    path = export_dir / "assets.extra" / FILE
    if not path.exists():
        return 0
    started, count = time.monotonic(), 0
    for record in _records(path):
        for _ in range(max(1, iterations)):
            _replay(servable, servable_id, record)
        count += 1
    _LOG.info("Warmed up %s with %d records in %.2f s", servable_id, count, time.monotonic() - started)
    return count


def _replay(servable: Runner, servable_id: ServableId, record: prediction_log_pb2.PredictionLog) -> None:
    kind, version, never = record.WhichOneof("log_type"), servable_id.version, Deadline()
    if kind == "predict_log":
        predict.predict(servable, version, record.predict_log.request, never, as_content=False)
    elif kind == "classify_log":
        examples.classify(servable, version, record.classify_log.request, never)
    elif kind == "regress_log":
        examples.regress(servable, version, record.regress_log.request, never)
    elif kind == "multi_inference_log":
        examples.multi_inference(servable, version, record.multi_inference_log.request, never)
    else:
        raise ServingError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {kind or 'none'}")
