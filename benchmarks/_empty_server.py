"""Answers Predict at once, with a reply and a spec from standard input. Prints its port."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc


def main() -> None:
    given = json.loads(sys.stdin.readline())
    reply, spec = bytes.fromhex(given["reply"]), bytes.fromhex(given["spec"])

    def predict(request: bytes, context: grpc.ServicerContext) -> bytes:
        return spec if b"describe" in request[:100] else reply

    method = grpc.unary_unary_rpc_method_handler(predict)
    handler = grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", {"Predict": method})
    server = grpc.server(ThreadPoolExecutor(16), [handler], options=[("grpc.max_receive_message_length", -1)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
