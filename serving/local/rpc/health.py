"""grpc.health.v1.Health, offered with --enable_grpc_healthcheck_service."""

import threading
from collections.abc import Callable
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2

from serving.local.errors import Code, ServingError
from serving.local.rpc.handlers import CallLimiter, Handler, answer, method, parse

HEALTHY: Final = ("", "PredictionService")
"""Service names that the stock server knows; the short one, without its package."""

Send = Callable[["bytes | None"], None]


class Health:
    """grpc.health.v1.Health. The stock server is SERVING from its start to its end; ours ends with the drain."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._draining = False
        self._watchers: dict[Send, str] = {}

    def drain(self) -> None:
        """Answers NOT_SERVING from now on, and sends it to all watchers."""
        with self._lock:
            self._draining = True
            watchers = list(self._watchers.items())
        for send, name in watchers:
            send(self._reply(name).SerializeToString())

    def _reply(self, name: str) -> Any:
        kinds = health_pb2.HealthCheckResponse
        known = kinds.NOT_SERVING if self._draining else kinds.SERVING
        return kinds(status=known if name in HEALTHY else kinds.SERVICE_UNKNOWN)

    def _check(self, data: bytes, _: grpc.ServicerContext) -> Any:
        name = parse(health_pb2.HealthCheckRequest, data).service
        if name not in HEALTHY:
            raise ServingError(Code.NOT_FOUND, "service name unknown")
        return self._reply(name)

    def _watch(self, data: bytes, context: grpc.ServicerContext, send_response_callback: Send) -> None:
        name = health_pb2.HealthCheckRequest.FromString(data).service
        turn = threading.Lock()

        def send(reply: bytes | None) -> None:
            # One at a time: gRPC refuses a message while another one is being sent, and then never ends the call.
            with turn:
                send_response_callback(reply)

        with self._lock:
            self._watchers[send] = name

        def forget() -> None:  # on gRPC's own thread, which must not wait for a message that it has to send itself
            with self._lock:
                self._watchers.pop(send, None)
            send_response_callback(None)

        if not context.add_callback(forget):
            forget()
        send(self._reply(name).SerializeToString())

    # Clients that balance by health watch permanently: each would hold a thread.
    _watch.experimental_non_blocking = True  # type: ignore[attr-defined]

    def handler(self, limiter: CallLimiter) -> Handler:
        return grpc.method_handlers_generic_handler(
            "grpc.health.v1.Health",
            {"Check": method(answer(limiter, self._check)), "Watch": grpc.unary_stream_rpc_method_handler(self._watch)},
        )
