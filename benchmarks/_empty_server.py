"""Answers Predict at once, with prepared bytes: the upper limit for a gRPC server in Python."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc

from benchmarks._worker import Worker, answer


@contextlib.contextmanager
def empty_server(reply: bytes, spec: bytes = b"") -> Iterator[str]:
    """The address of such a server in a separate process; `spec` is its reply to `describe`."""
    with Worker("benchmarks._empty_server") as worker:
        worker.ask(reply.hex(), spec.hex())
        yield f"127.0.0.1:{worker.first}"


def main() -> None:
    prepared = [b"", b""]

    def prepare(*replies: str) -> dict[str, float]:
        prepared[:] = map(bytes.fromhex, replies)
        return {}

    def predict(request: bytes, context: grpc.ServicerContext) -> bytes:
        return prepared[b"describe" in request[:100]]

    method = grpc.unary_unary_rpc_method_handler(predict)
    handler = grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", {"Predict": method})
    server = grpc.server(ThreadPoolExecutor(16), [handler], options=[("grpc.max_receive_message_length", -1)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    answer(port, prepare)


if __name__ == "__main__":
    main()
