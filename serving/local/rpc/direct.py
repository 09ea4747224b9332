"""Answers one unary method by the core under `grpc.server`, without the hand-offs of `grpc.server` itself.

`grpc.server` polls in one thread, and passes each call to a pool and back four times. That takes more than half
of the CPU time of an empty call. The C++ server, and this one, have threads that wait for a call, answer it and
wait for the next one.

`grpc._cython` is private to gRPC, and only this file uses it. The release of gRPC is pinned, and the conformance
tests run over this file.
"""

import threading
import time
from typing import Any, Final

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from serving.local.errors import Code
from serving.local.rpc.handlers import Answer, Failure

_NO_FLAGS: Final = 0


class _Context:
    """What `Answer` gets of a call: its deadline, in seconds since the epoch."""

    __slots__ = ("_deadline",)

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline

    def time_remaining(self) -> float:
        return max(0.0, self._deadline - time.time())


class DirectMethod:
    """A method of `server` with its own threads. Other methods stay with the server's handlers.

    Make it before the server starts, start it after the server; it ends when the server stops.

    Args:
        server: Made by `grpc.server`.
        path: "/package.Service/Method".
        respond: What answers it. Its context has `time_remaining`, and nothing else.
        threads: How many calls are answered at once; more wait.
    """

    def __init__(self, server: grpc.Server, path: str, respond: Answer, threads: int) -> None:
        self._core: Any = server._cy_server  # type: ignore[attr-defined]
        self._path = path
        self._respond = respond
        self._core.register_method(path)
        # One for each thread: an event wakes the thread that waits for it, and no other.
        self._queues = [cygrpc.CompletionQueue() for _ in range(threads)]
        for queue in self._queues:
            self._core.register_completion_queue(queue)

    def start(self) -> None:
        for queue in self._queues:
            threading.Thread(target=self._serve, args=(queue,), name="predict", daemon=True).start()

    def _serve(self, queue: Any) -> None:
        """One call after the other, until the server stops. There is never more than one event to wait for."""
        while True:
            try:
                self._core.request_registered_call(queue, queue, self._path, None)
            except ValueError:  # the server is stopping
                return
            event = queue.poll()
            if not event.success:  # it has stopped meanwhile
                return
            self._handle(queue, event.call, event.call_details.deadline)
            del event  # It keeps the call, which gRPC has to free while this thread waits.

    def _handle(self, queue: Any, call: Any, deadline: float) -> None:
        call.start_server_batch((cygrpc.ReceiveMessageOperation(_NO_FLAGS),), None)
        data = queue.poll().batch_operations[0].message()
        if data is None:  # a caller that has left, or sent too much, gets no reply; one that sent nothing gets this
            reply: bytes | Failure = Failure(Code.INTERNAL, "Expected a request. Received: none")
        else:
            reply = self._respond(data, _Context(deadline))
        call.start_server_batch(_ending(reply), None)
        queue.poll()


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
