"""Answers Predict at once, with prepared bytes: what gRPC for Python costs."""

import contextlib
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from benchmarks._load import PREDICT
from benchmarks._worker import Worker, answer
from serving.local.rpc.direct import DirectMethod


@contextlib.contextmanager
def empty_server(reply: bytes, spec: bytes = b"", *, direct: bool = False) -> Iterator[str]:
    """The address of such a server in a separate process.

    Args:
        reply: To every call but those of `describe`.
        spec: To calls of `describe`.
        direct: Answer with the embedded server's `DirectMethod`, not with a handler of `grpc.server`.
    """
    with Worker("benchmarks._empty_server", *["direct"] * direct) as worker:
        worker.ask(reply.hex(), spec.hex())
        yield f"127.0.0.1:{worker.first}"


def main() -> None:
    prepared = [b"", b""]

    def prepare(*replies: str) -> dict[str, float]:
        prepared[:] = map(bytes.fromhex, replies)
        return {}

    def predict(request: bytes, context: Any) -> bytes:
        return prepared[b"describe" in request[:100]]

    server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.max_receive_message_length", -1)])
    direct = DirectMethod(server, PREDICT, predict, 64) if "direct" in sys.argv else None
    if direct is None:
        method = grpc.unary_unary_rpc_method_handler(predict)
        service, _, name = PREDICT[1:].partition("/")
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    if direct is not None:
        direct.start()
    answer(port, prepare)


if __name__ == "__main__":
    main()
