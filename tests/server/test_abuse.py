"""Hostile input gets an error, and the server keeps serving without leaks."""

from __future__ import annotations

import concurrent.futures
import contextlib
import pathlib
import random
import resource
import socket
import struct
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import grpc
import psutil
import pytest
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from serving.local.testing import LocalServer
from tests.conformance.pair import predict_request

GOOD_REST = b'{"signature_name": "describe_rows", "instances": [{"key": ""}]}'


@pytest.fixture(scope="module")
def server(pair_models: pathlib.Path) -> Iterator[LocalServer]:
    flags = ("--model_name=pair", f"--model_base_path={pair_models}", "--grpc_max_threads=16")
    with LocalServer(*flags, rest=True) as started:
        yield started


def still_serving(server: LocalServer) -> None:
    with grpc.insecure_channel(server.address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        assert stub.Predict(predict_request(), timeout=20).outputs
    request = urllib.request.Request(f"{server.rest_url}/v1/models/pair:predict", GOOD_REST)
    with urllib.request.urlopen(request, timeout=20) as reply:
        assert reply.status == 200


def until(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


@pytest.fixture(autouse=True)
def leaks_nothing(server: LocalServer) -> Iterator[None]:
    """Each abuse leaves the server answering, with the files and threads that it had."""
    still_serving(server)
    process = psutil.Process(server.process.pid)
    files, threads = process.num_fds(), process.num_threads()
    yield
    still_serving(server)
    # Connections are closed in the background; thread pools may have grown to their size.
    assert until(lambda: process.num_fds() <= files + 8), (files, process.num_fds())
    assert process.num_threads() <= threads + 40


def method(channel: grpc.Channel, name: str = "Predict") -> grpc.UnaryUnaryMultiCallable:
    return channel.unary_unary(f"/tensorflow.serving.PredictionService/{name}")


def test_bytes_that_do_not_parse(server: LocalServer) -> None:
    chance = random.Random(1)
    good = predict_request().SerializeToString()
    with grpc.insecure_channel(server.address) as channel:
        for round_ in range(300):
            data = bytearray(good if round_ % 2 else chance.randbytes(chance.randrange(200)))
            for _ in range(chance.randrange(1, 8)):
                if data:
                    data[chance.randrange(len(data))] = chance.randrange(256)
            name = chance.choice(["Predict", "Classify", "Regress", "MultiInference", "GetModelMetadata"])
            with contextlib.suppress(grpc.RpcError):
                method(channel, name)(bytes(data), timeout=60)
        with pytest.raises(grpc.RpcError) as error:
            method(channel)(b"\xff" * 50, timeout=60)
    assert error.value.code() is grpc.StatusCode.INTERNAL
    assert "Traceback" not in server.log


def test_a_call_without_a_request(server: LocalServer) -> None:
    with grpc.insecure_channel(server.address) as channel:
        predict = channel.stream_unary("/tensorflow.serving.PredictionService/Predict")
        for _ in range(30):
            with pytest.raises(grpc.RpcError) as error:
                predict(iter(()), timeout=20)
            assert error.value.code() is grpc.StatusCode.INTERNAL


def test_bytes_that_are_not_http2(server: LocalServer) -> None:
    chance = random.Random(2)
    post = b"POST /v1/models/pair:predict HTTP/1.1\r\nContent-Length: 10\r\n\r\n"
    starts = [b"", post, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
    for port in (server.port, server.rest_port):
        for _ in range(60):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as connection:
                connection.sendall(chance.choice(starts) + chance.randbytes(chance.randrange(2000)))
                if chance.random() < 0.5:
                    connection.settimeout(0.05)
                    connection.recv(4096)
                else:
                    # Reset instead of close.
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_rest_bodies_that_are_not_json(server: LocalServer) -> None:
    chance = random.Random(3)
    for _ in range(150):
        data = bytearray(GOOD_REST)
        for _ in range(chance.randrange(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(f"{server.rest_url}/v1/models/pair:predict", bytes(data), timeout=60).close()
    for deep in (b"[" * 100_000, b'{"instances":' + b"[" * 100_000):
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(f"{server.rest_url}/v1/models/pair:predict", deep, timeout=20)
        with error.value as reply:
            assert reply.code == 400


def test_a_huge_shape_with_one_value(server: LocalServer) -> None:
    request = predict_request()
    request.inputs["image"].CopyFrom(
        tensor_pb2.TensorProto(dtype="DT_UINT8", tensor_shape={"dim": [{"size": 1 << 40}]}, int_val=[1])
    )
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as error:
        prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=60)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.value.details() == "tensor parsing error: image"


def big_message(size: int, model: str) -> bytes:
    request = predict_request(model=model)
    request.inputs["image"].CopyFrom(
        tensor_pb2.TensorProto(dtype="DT_UINT8", tensor_shape={"dim": [{"size": size}]}, tensor_content=bytes(size))
    )
    return request.SerializeToString()


def refused(server: LocalServer, data: bytes) -> grpc.StatusCode:
    unlimited = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server.address, unlimited) as channel, pytest.raises(grpc.RpcError) as error:
        method(channel)(data, timeout=120)
    return error.value.code()


def test_big_messages_that_the_model_refuses_leave_no_memory_behind(server: LocalServer) -> None:
    size, process = 64 << 20, psutil.Process(server.process.pid)
    data = big_message(size, "pair")
    # The first one grows TensorFlow's own pool, which it keeps.
    assert refused(server, data) is grpc.StatusCode.INVALID_ARGUMENT
    before = process.memory_info().rss
    for _ in range(5):
        assert refused(server, data) is grpc.StatusCode.INVALID_ARGUMENT
    assert until(lambda: process.memory_info().rss < before + 3 * size)


@pytest.mark.slow
def test_a_tensor_of_a_gigabyte(server: LocalServer) -> None:
    size, process = 1 << 30, psutil.Process(server.process.pid)
    before = process.memory_info().rss
    assert refused(server, big_message(size, "nobody")) is grpc.StatusCode.NOT_FOUND
    assert until(lambda: process.memory_info().rss < before + size // 4)


def test_clients_that_disconnect_during_a_call(server: LocalServer) -> None:
    for _ in range(20):
        channel = grpc.insecure_channel(server.address)
        calls = [method(channel).future(predict_request(rows=64).SerializeToString(), timeout=20) for _ in range(8)]
        calls[0].cancel()
        channel.close()
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", server.rest_port), 5) as connection:
            connection.sendall(b"POST /v1/models/pair:predict HTTP/1.1\r\nContent-Length: 100000\r\n\r\n{")
        with socket.create_connection(("127.0.0.1", server.rest_port), 5) as connection:
            length = f"Content-Length: {len(GOOD_REST)}\r\n\r\n".encode()
            connection.sendall(b"POST /v1/models/pair:predict HTTP/1.1\r\n" + length + GOOD_REST)


def test_many_idle_connections(server: LocalServer) -> None:
    # The server inherits our limit of open files.
    count = min(2000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
    with contextlib.ExitStack() as stack:
        for index in range(count):
            port = server.port if index % 2 else server.rest_port
            stack.enter_context(socket.create_connection(("127.0.0.1", port), 10))
        assert until(lambda: psutil.Process(server.process.pid).num_fds() > count * 0.9)
        still_serving(server)


def test_rows_that_make_the_model_raise(server: LocalServer) -> None:
    with grpc.insecure_channel(server.address) as channel:
        predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            calls = [pool.submit(predict, predict_request(token=10 if i % 2 else 1), timeout=20) for i in range(200)]
        failed = [call.exception() for call in calls]
    assert [error is None for error in failed] == [i % 2 == 0 for i in range(200)]
    for error in filter(None, failed):
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "indices" in error.details()
