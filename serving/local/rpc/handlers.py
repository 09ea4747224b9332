"""The gRPC API: PredictionService and ModelService.

Requests arrive as bytes and are parsed here, so that bytes that do not parse are answered with
INTERNAL, as the stock server does, and leave no stack trace in the log.
"""

import threading
import time
from collections.abc import Callable
from typing import Any, Final, TypeAlias, TypeVar

import grpc
from google.protobuf import message
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest

from serving.local import memory
from serving.local.calls.service import INFERENCE, Service, spec_of
from serving.local.errors import Code, Failure, ServingError, from_exception, status_of
from serving.local.rpc.direct import Deadline, DirectMethod

M = TypeVar("M", bound=message.Message)
Handler: TypeAlias = "grpc.GenericRpcHandler[bytes, bytes]"
C = TypeVar("C")
Call: TypeAlias = "Callable[[bytes, grpc.ServicerContext], message.Message]"

PREDICT: Final = "Predict"


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


def parse(kind: type[M], data: bytes) -> M:
    try:
        return kind.FromString(data)
    except message.DecodeError as error:
        raise ServingError(Code.INTERNAL, f"Expected a {kind.DESCRIPTOR.name}. Received: other bytes") from error


def answer(limiter: CallLimiter, call: Callable[[bytes, C], message.Message]) -> Callable[[bytes, C], bytes | Failure]:
    """A call with bytes out, and errors as statuses."""

    def respond(data: bytes, context: C) -> bytes | Failure:
        try:
            with limiter:
                return call(data, context).SerializeToString()
        except Exception as error:
            return status_of(error)
        finally:
            if len(data) >= memory.BIG_MESSAGE:
                memory.give_back_soon()

    return respond


def method(respond: Callable[[bytes, grpc.ServicerContext], bytes | Failure]) -> Any:
    """gRPC's handler of a unary method."""

    def handle(data: bytes, context: grpc.ServicerContext) -> bytes:
        reply = respond(data, context)
        if isinstance(reply, Failure):
            context.abort(*reply)
            raise AssertionError("abort returned")
        return reply

    return grpc.unary_unary_rpc_method_handler(handle)


def _inference(service: Service, api: str) -> Callable[[bytes, grpc.ServicerContext | Deadline], message.Message]:
    """A call of PredictionService that runs a model, counted and timed."""

    def call(data: bytes, context: grpc.ServicerContext | Deadline) -> Any:
        started = time.monotonic()
        request = parse(INFERENCE[api][0], data)
        model, code = "", Code.OK
        try:
            model = spec_of(request).name
            return service.infer(api, request, context.time_remaining())
        except Exception as error:
            code = from_exception(error).code
            raise
        finally:
            service.metrics.count_call(model, api, "GRPC", code.name, started)

    return call


def predict(server: grpc.Server, service: Service, limiter: CallLimiter, threads: int) -> DirectMethod:
    """Predict, which is called most, as a method with its own threads."""
    respond = answer(limiter, _inference(service, PREDICT))
    return DirectMethod(server, f"/tensorflow.serving.PredictionService/{PREDICT}", respond, threads)


def handlers(service: Service, limiter: CallLimiter) -> list[Handler]:
    """The handlers of the two services of TensorFlow Serving, but for Predict."""
    prediction: dict[str, Call] = {
        **{api: _inference(service, api) for api in INFERENCE if api != PREDICT},
        "GetModelMetadata": lambda data, _: service.metadata(parse(GetModelMetadataRequest, data)),
    }
    model: dict[str, Call] = {
        "GetModelStatus": lambda data, _: service.status(parse(GetModelStatusRequest, data)),
        "HandleReloadConfigRequest": lambda data, context: service.reload(
            parse(ReloadConfigRequest, data), lambda: not context.is_active()
        ),
    }
    return [
        grpc.method_handlers_generic_handler(
            f"tensorflow.serving.{service_name}", {name: method(answer(limiter, call)) for name, call in calls.items()}
        )
        for service_name, calls in (("PredictionService", prediction), ("ModelService", model))
    ]


class UnknownMethods(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Answers calls of unknown methods as the C++ server does: UNIMPLEMENTED, without a message."""

    def service(self, _: grpc.HandlerCallDetails) -> Any:
        return grpc.stream_stream_rpc_method_handler(lambda _, context: context.abort(Code.UNIMPLEMENTED, ""))
