"""The gRPC front: PredictionService, ModelService and, with its flag, grpc.health.v1.Health.

Requests arrive as bytes and are parsed here, so that bytes which are no message are an
answer (INTERNAL, as in the stock server) and not a stack trace in the log.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import grpc
from google.protobuf import message
from grpc_health.v1 import health_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.local._errors import Code, ServingError, from_exception
from serving.local._servable import Deadline
from serving.local._service import Service

_LOG = logging.getLogger(__name__)
M = TypeVar("M", bound=message.Message)

# What the stock server knows; it takes the short name of the service.
HEALTHY: Final = ("", "PredictionService")


class Gate:
    """Counts the calls in flight and lets no more than `limit` in at once."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._calls = 0
        self._lock = threading.Condition()

    def enter(self) -> None:
        with self._lock:
            if self._calls >= self._limit:
                raise ServingError(Code.RESOURCE_EXHAUSTED, "Server Threadpool Exhausted")
            self._calls += 1

    def leave(self) -> None:
        with self._lock:
            self._calls -= 1


def _deadline(context: grpc.ServicerContext) -> Deadline:
    return Deadline.after(context.time_remaining())


def _parse(kind: type[M], data: bytes) -> M:
    try:
        return kind.FromString(data)
    except message.DecodeError as error:
        raise ServingError(Code.INTERNAL, f"Expected a {kind.DESCRIPTOR.name}. Received bytes that are none") from error


def _answer(kind: type[M], gate: Gate, call: Callable[[M, grpc.ServicerContext], message.Message]) -> Any:
    """A handler: bytes in, bytes out, errors as statuses."""

    def handle(data: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            gate.enter()
            try:
                return call(_parse(kind, data), context).SerializeToString()
            finally:
                gate.leave()
        except Exception as error:
            told = from_exception(error)
            if told.code is Code.INTERNAL:
                _LOG.exception("A call failed")
        context.abort(told.code, told.message)
        raise AssertionError("abort returned")

    return grpc.unary_unary_rpc_method_handler(handle)


def handlers(service: Service, gate: Gate) -> list[grpc.GenericRpcHandler[bytes, bytes]]:
    """The handlers of the two services of TensorFlow Serving."""
    prediction = {
        "Predict": _answer(
            predict_pb2.PredictRequest, gate, lambda request, context: service.predict(request, _deadline(context))
        ),
        "Classify": _answer(
            classification_pb2.ClassificationRequest,
            gate,
            lambda request, context: service.classify(request, _deadline(context)),
        ),
        "Regress": _answer(
            regression_pb2.RegressionRequest,
            gate,
            lambda request, context: service.regress(request, _deadline(context)),
        ),
        "MultiInference": _answer(
            inference_pb2.MultiInferenceRequest,
            gate,
            lambda request, context: service.multi_inference(request, _deadline(context)),
        ),
        "GetModelMetadata": _answer(
            get_model_metadata_pb2.GetModelMetadataRequest, gate, lambda request, _: service.metadata(request)
        ),
    }
    model = {
        "GetModelStatus": _answer(
            get_model_status_pb2.GetModelStatusRequest, gate, lambda request, _: service.status(request)
        ),
        "HandleReloadConfigRequest": _answer(
            model_management_pb2.ReloadConfigRequest,
            gate,
            lambda request, context: service.reload(request, lambda: not context.is_active()),
        ),
    }
    return [
        grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", prediction),
        grpc.method_handlers_generic_handler("tensorflow.serving.ModelService", model),
    ]


class Health:
    """grpc.health.v1.Health. The stock server is SERVING from its start to its end; ours ends with the drain."""

    def __init__(self) -> None:
        self._draining = threading.Event()

    def drain(self) -> None:
        """From now on say NOT_SERVING."""
        self._draining.set()

    def _status(self, name: str) -> int:
        if name not in HEALTHY:
            return int(health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
        if self._draining.is_set():
            return int(health_pb2.HealthCheckResponse.NOT_SERVING)
        return int(health_pb2.HealthCheckResponse.SERVING)

    def _check(self, request: Any, _: grpc.ServicerContext) -> message.Message:
        status = self._status(request.service)
        if status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN:
            raise ServingError(Code.NOT_FOUND, "service name unknown")
        return health_pb2.HealthCheckResponse(status=status)  # type: ignore[no-any-return]

    def _watch(self, data: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        name = health_pb2.HealthCheckRequest.FromString(data).service
        sent = None
        while context.is_active():
            status = self._status(name)
            if status != sent:
                sent = status
                yield health_pb2.HealthCheckResponse(status=status).SerializeToString()
            self._draining.wait(0.5)
            if self._draining.is_set() and sent == self._status(name):
                return

    def handler(self, gate: Gate) -> grpc.GenericRpcHandler[bytes, bytes]:
        return grpc.method_handlers_generic_handler(
            "grpc.health.v1.Health",
            {
                "Check": _answer(health_pb2.HealthCheckRequest, gate, self._check),
                "Watch": grpc.unary_stream_rpc_method_handler(self._watch),
            },
        )
