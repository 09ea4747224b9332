"""Replays a version's recorded requests before it serves; if one fails, the version is not served."""

import logging
import pathlib
import time
from collections.abc import Iterator
from typing import Final

import tensorflow as tf
from google.protobuf import message
from tensorflow_serving.apis import prediction_log_pb2

from serving.local.calls.service import INFERENCE
from serving.local.calls.version_call import VersionCall
from serving.local.errors import Code, ServingError, from_exception, invalid_argument
from serving.local.metrics import Metrics
from serving.local.model.servable import Servable
from serving.local.versions.states import ServableId

_LOG = logging.getLogger(__name__)

MAX_RECORDS: Final = 1000
_APIS: Final = {
    "predict_log": "Predict",
    "classify_log": "Classify",
    "regress_log": "Regress",
    "multi_inference_log": "MultiInference",
}


def warm_up(
    servable: Servable, servable_id: ServableId, export_dir: pathlib.Path, metrics: Metrics, *, iterations: int = 1
) -> None:
    """Runs each record of `assets.extra/tf_serving_warmup_requests`, if it exists.

    Raises:
        ServingError, tf.errors.OpError: Of the first record that fails.
    """
    path = export_dir / "assets.extra" / "tf_serving_warmup_requests"
    started, status, count = time.monotonic(), Code.OK, 0
    try:
        for record in _records(path) if path.exists() else ():
            kind = record.WhichOneof("log_type")
            if kind not in _APIS:
                raise ServingError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {kind or 'none'}")
            call = VersionCall(servable_id, servable, _APIS[kind])
            for _ in range(max(1, iterations)):
                INFERENCE[call.api][1](call, getattr(record, kind).request)
            count += 1
        metrics.warmup_records.add(str(export_dir), by=count)
        _LOG.info("Warmed up %s with %d records in %.2f s", servable_id, count, time.monotonic() - started)
    except Exception as error:
        status = from_exception(error).code
        raise
    finally:
        metrics.warmup_latency.observe(str(export_dir), status.name, value=(time.monotonic() - started) * 1e6)


def _records(path: pathlib.Path) -> Iterator[prediction_log_pb2.PredictionLog]:
    for count, data in enumerate(tf.data.TFRecordDataset(str(path)).as_numpy_iterator(), 1):
        if count > MAX_RECORDS:
            raise invalid_argument(f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {path}")
        try:
            yield prediction_log_pb2.PredictionLog.FromString(data)
        except message.DecodeError as error:
            raise invalid_argument(f"Failed to parse warmup record: {data[:64]!r} from {path}") from error
