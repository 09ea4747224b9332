"""The gRPC API: PredictionService and ModelService.

Requests arrive as bytes and are parsed here, so that bytes that do not parse are answered with
INTERNAL, as the stock server does, and leave no stack trace in the log.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, TypeVar

import grpc
from google.protobuf import message
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.local import memory
from serving.local.calls.service import Service
from serving.local.deadline import Deadline
from serving.local.errors import Code, ServingError, from_exception, status_of

M = TypeVar("M", bound=message.Message)
Handler: TypeAlias = "grpc.GenericRpcHandler[bytes, bytes]"


class CallLimiter:
    """Refuses calls beyond `limit` at once. A context manager around each call."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._calls = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            if self._calls >= self._limit:
                raise ServingError(Code.RESOURCE_EXHAUSTED, "Server Threadpool Exhausted")
            self._calls += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._calls -= 1


def _deadline(context: grpc.ServicerContext) -> Deadline:
    return Deadline.after(context.time_remaining())


def parse(kind: type[M], data: bytes) -> M:
    try:
        return kind.FromString(data)
    except message.DecodeError as error:
        raise ServingError(Code.INTERNAL, f"Expected a {kind.DESCRIPTOR.name}. Received other bytes") from error


def answer(limiter: CallLimiter, call: Callable[[bytes, grpc.ServicerContext], message.Message]) -> Any:
    """A handler: bytes in, bytes out, errors as statuses."""

    def handle(data: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            with limiter:
                return call(data, context).SerializeToString()
        except Exception as error:
            code, text = status_of(error)
        finally:
            if len(data) >= memory.BIG_MESSAGE:
                memory.give_back_soon()
        # Not from within `except`, and with no reference to the error: its traceback holds this
        # frame, and so the request's bytes, which would then wait for the garbage collector.
        context.abort(code, text)
        raise AssertionError("abort returned")

    return grpc.unary_unary_rpc_method_handler(handle)


def _inference(
    service: Service, kind: type[M], api: str, run: Callable[[M, Deadline], message.Message]
) -> Callable[[bytes, grpc.ServicerContext], message.Message]:
    """A call of PredictionService that runs a model, counted and timed."""
    metrics = service.metrics

    def call(data: bytes, context: grpc.ServicerContext) -> message.Message:
        started = time.monotonic()
        request = parse(kind, data)
        model = _model_of(request)
        code = Code.OK
        try:
            return run(request, _deadline(context))
        except Exception as error:
            code = from_exception(error).code
            raise
        finally:
            metrics.request_count.add(model, code.name)
            if code is Code.OK:
                micros = (time.monotonic() - started) * 1e6
                metrics.request_latency.observe(model, api, "GRPC", value=micros)

    return call


def _model_of(request: Any) -> str:
    if isinstance(request, inference_pb2.MultiInferenceRequest):
        return request.tasks[0].model_spec.name if request.tasks else ""
    return str(request.model_spec.name)


def handlers(service: Service, limiter: CallLimiter) -> list[Handler]:
    """The handlers of the two services of TensorFlow Serving."""
    inference = {
        "Predict": _inference(service, predict_pb2.PredictRequest, "Predict", service.predict),
        "Classify": _inference(service, classification_pb2.ClassificationRequest, "Classify", service.classify),
        "Regress": _inference(service, regression_pb2.RegressionRequest, "Regress", service.regress),
        "MultiInference": _inference(
            service, inference_pb2.MultiInferenceRequest, "MultiInference", service.multi_inference
        ),
    }

    def metadata(data: bytes, _: grpc.ServicerContext) -> Any:
        return service.metadata(parse(get_model_metadata_pb2.GetModelMetadataRequest, data))

    def status(data: bytes, _: grpc.ServicerContext) -> Any:
        return service.status(parse(get_model_status_pb2.GetModelStatusRequest, data))

    def reload(data: bytes, context: grpc.ServicerContext) -> Any:
        request = parse(model_management_pb2.ReloadConfigRequest, data)
        return service.reload(request, lambda: not context.is_active())

    prediction = {**inference, "GetModelMetadata": metadata}
    model = {"GetModelStatus": status, "HandleReloadConfigRequest": reload}
    return [
        grpc.method_handlers_generic_handler(
            f"tensorflow.serving.{name}", {method: answer(limiter, call) for method, call in calls.items()}
        )
        for name, calls in (("PredictionService", prediction), ("ModelService", model))
    ]


class UnknownMethods(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Answers calls of unknown methods as the C++ server does: UNIMPLEMENTED, without a message."""

    def service(self, _: grpc.HandlerCallDetails) -> Any:
        def refuse(_: Any, context: grpc.ServicerContext) -> Iterator[bytes]:
            context.abort(Code.UNIMPLEMENTED, "")
            yield b""

        return grpc.stream_stream_rpc_method_handler(refuse)


def listen(front: grpc.Server, address: str, secret: grpc.ServerCredentials | None) -> bool:
    """Bind an address; False when it is busy or can't be bound."""
    try:
        return bool(front.add_secure_port(address, secret) if secret else front.add_insecure_port(address))
    except RuntimeError:
        return False
