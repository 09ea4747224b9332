"""An empty gRPC server: answers Predict with fixed bytes. What no Python gRPC server can be faster than."""

from __future__ import annotations

import concurrent.futures
import sys

import grpc


def main() -> None:
    port, threads, reply = int(sys.argv[1]), int(sys.argv[2]), bytes(int(sys.argv[3]))
    method = grpc.unary_unary_rpc_method_handler(lambda _request, _context: reply)
    handler = grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", {"Predict": method})
    options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)]
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(threads), handlers=[handler], options=options)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
