"""Answers one unary method by the core under `grpc.server`, without the hand-offs of `grpc.server` itself.

`grpc.server` polls in one thread, and hands each call over between that thread and a pool four times. The threads here
wait for a call, answer it and wait for the next one.

`grpc._cython`, and `_cy_server` and `_state` of a server, are private to gRPC. Only this file uses them; the
constraints pin gRPC, and the conformance tests run over this file.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from serving.local.errors import Code, Failure

_LOG = logging.getLogger(__name__)
_NO_FLAGS: Final = 0


class Deadline:
    """When the caller of a call stops waiting; the part of `grpc.ServicerContext` that a direct method has.

    Args:
        at: Seconds since the epoch.
    """

    __slots__ = ("_at",)

    def __init__(self, at: float) -> None:
        self._at = at

    def time_remaining(self) -> float:
        """Seconds, at least 0."""
        return max(0.0, self._at - time.time())


class DirectMethod:
    """A method of `server` with its own threads. Other methods stay with the server's handlers.

    Make it before the server starts, start it after the server; it ends when the server stops. A call holds its
    thread from its headers until its reply is sent.

    Args:
        server: Made by `grpc.server`.
        path: "/package.Service/Method".
        respond: The reply to the bytes of a request. It should not raise.
        threads: How many calls are answered at once; more wait in gRPC, which refuses them after a while.
    """

    def __init__(
        self, server: grpc.Server, path: str, respond: Callable[[bytes, Deadline], bytes | Failure], threads: int
    ) -> None:
        self._core: Any = server._cy_server  # type: ignore[attr-defined]
        self._lock: Any = server._state.lock  # type: ignore[attr-defined]
        self._path = path
        self._respond = respond
        self._waiting = 0
        self._core.register_method(path)
        # One for each thread: an event wakes the thread that waits for it, and no other.
        self._unused = [cygrpc.CompletionQueue() for _ in range(threads)]
        for queue in self._unused:
            self._core.register_completion_queue(queue)

    def start(self) -> None:
        """Starts one thread; others start when all are busy. Even a waiting thread wakes five times a second."""
        self._start(self._unused.pop())

    def _start(self, queue: Any) -> None:
        threading.Thread(target=self._serve, args=(queue,), name="direct", daemon=True).start()

    def _serve(self, queue: Any) -> None:
        """One call after the other, until the server stops. There is never more than one event to wait for."""
        while self._ask(queue):
            event = queue.poll()
            with self._lock:
                self._waiting -= 1
                unused = self._unused.pop() if self._unused and not self._waiting and event.success else None
            if unused is not None:
                try:
                    self._start(unused)
                except RuntimeError:  # no thread to be had: the next call tries again
                    with self._lock:
                        self._unused.append(unused)
            if event.success:
                self._handle(queue, event.call, event.call_details.deadline)
            del event  # It keeps the call and its connection alive, perhaps for hours, until the next call comes.

    def _ask(self, queue: Any) -> bool:
        """Asks for the next call; False when the server is stopping."""
        with self._lock:  # which the server holds while it stops and frees its core
            try:
                self._core.request_registered_call(queue, queue, self._path, None)
            except ValueError:
                return False
            self._waiting += 1
            return True

    def _handle(self, queue: Any, call: Any, deadline: float) -> None:
        call.start_server_batch((cygrpc.ReceiveMessageOperation(_NO_FLAGS),), None)
        reply = self._reply(queue.poll().batch_operations[0].message(), Deadline(deadline))
        call.start_server_batch(_ending(reply), None)
        queue.poll()

    def _reply(self, data: bytes | None, deadline: Deadline) -> bytes | Failure:
        if data is None:  # a caller that has left, or sent too much, gets no reply; one that sent nothing gets this
            return Failure(Code.INTERNAL, "Expected a request. Received: none")
        try:
            return self._respond(data, deadline)
        except Exception as error:  # the thread must go on
            _LOG.exception("A call failed")
            return Failure(Code.INTERNAL, f"Expected a reply. Received: {type(error).__name__}")


def _ending(reply: bytes | Failure) -> tuple[Any, ...]:
    """The operations that end a call."""
    start = (
        cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS),
        cygrpc.SendInitialMetadataOperation(None, _NO_FLAGS),
    )
    if isinstance(reply, Failure):
        code, text = reply.code.value[0], reply.message.encode(errors="backslashreplace")
        return (*start, cygrpc.SendStatusFromServerOperation(None, code, text, _NO_FLAGS))
    return (
        *start,
        cygrpc.SendMessageOperation(reply, _NO_FLAGS),
        cygrpc.SendStatusFromServerOperation(None, cygrpc.StatusCode.ok, b"", _NO_FLAGS),
    )
