"""A method with its own threads answers whatever its callers do, and ends with its server."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from serving.local.errors import Code, Failure
from serving.local.rpc.direct import Deadline, DirectMethod
from tests.client.fake import wait_until

PATH = "/duoserve.test/Echo"
Respond = Callable[[bytes, Deadline], "bytes | Failure"]


@contextlib.contextmanager
def served(respond: Respond, most: int = 2) -> Iterator[grpc.Channel]:
    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.max_receive_message_length", 1 << 20)])
    direct = DirectMethod(server, PATH, respond, most)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    direct.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    assert server.stop(5).wait(10)
    wait_until(lambda: threads() == 0)


def threads() -> int:
    return sum(thread.name == "direct" for thread in threading.enumerate())


def echo(data: bytes, deadline: Deadline) -> bytes:
    return data


def held_open(data: bytes) -> Iterator[bytes]:
    """A stream with one message, or none if it is empty, that does not end for a while."""
    if data:
        yield data
    time.sleep(2)


def test_replies_statuses_and_deadlines() -> None:
    seen = []

    def respond(data: bytes, deadline: Deadline) -> bytes | Failure:
        seen.append(deadline.time_remaining())
        return data if data else Failure(Code.NOT_FOUND, "Größe \ud800")

    with served(respond) as channel:
        call = channel.unary_unary(PATH)
        assert call(b"x" * 500_000, timeout=20) == b"x" * 500_000
        with pytest.raises(grpc.RpcError) as error:
            call(b"", timeout=5)
    assert (error.value.code(), error.value.details()) == (Code.NOT_FOUND, "Größe \\ud800")
    assert 15 < seen[0] < 21 and 0 < seen[1] < 6


def test_an_exception_costs_no_thread() -> None:
    def respond(data: bytes, deadline: Deadline) -> bytes:
        if data == b"bad":
            raise ValueError
        return data

    with served(respond, most=1) as channel:
        call = channel.unary_unary(PATH)
        for _ in range(3):
            with pytest.raises(grpc.RpcError) as error:
                call(b"bad", timeout=20)
            assert error.value.code() is Code.INTERNAL
        assert call(b"good", timeout=20) == b"good"


def test_more_callers_than_threads_wait_and_threads_start_as_needed() -> None:
    together, at_once = threading.Barrier(3), []

    def respond(data: bytes, deadline: Deadline) -> bytes:
        at_once.append(threads())
        if data == b"slow":
            together.wait(20)
        return data

    with served(respond, most=3) as channel:
        call = channel.unary_unary(PATH)
        for _ in range(5):
            call(b"fast", timeout=20)
            time.sleep(0.05)  # until its thread waits again
        assert max(at_once) <= 2
        calls = [call.future(b"slow", timeout=20) for _ in range(9)]
        assert [each.result() for each in calls] == [b"slow"] * 9
        assert max(at_once) == 3


def test_callers_that_send_nothing_or_too_much_or_leave() -> None:
    with served(echo) as channel:
        call, stream = channel.unary_unary(PATH), channel.stream_unary(PATH)
        for _ in range(10):
            with pytest.raises(grpc.RpcError) as error:
                stream(iter(()), timeout=20)
            assert error.value.code() is Code.INTERNAL
            with pytest.raises(grpc.RpcError) as error:
                call(bytes(2 << 20), timeout=20)
            assert error.value.code() is Code.RESOURCE_EXHAUSTED
        silent = [stream.future(held_open(b""), timeout=20) for _ in range(5)]
        wait_until(lambda: threads() == 2)
        with pytest.raises(grpc.RpcError) as error:  # both threads wait for a request
            call(b"x", timeout=0.5)
        assert error.value.code() is Code.DEADLINE_EXCEEDED
        for each in silent:
            each.cancel()
        assert call(b"x", timeout=20) == b"x"


def test_a_caller_that_keeps_its_stream_open_gets_its_reply() -> None:
    with served(echo) as channel:
        assert channel.stream_unary(PATH)(held_open(b"x"), timeout=20) == b"x"


def test_a_thread_that_cannot_start_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    together, start = threading.Barrier(2), threading.Thread.start

    def respond(data: bytes, deadline: Deadline) -> bytes:
        if data == b"slow":
            together.wait(20)
        return data

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "direct":
            raise RuntimeError("can't start new thread")
        start(thread)

    with served(respond) as channel:
        call = channel.unary_unary(PATH)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            assert call(b"x", timeout=20) == b"x"
            assert threads() == 1
        calls = [call.future(b"slow", timeout=20) for _ in range(2)]
        assert [each.result() for each in calls] == [b"slow"] * 2


def test_it_ends_with_its_server() -> None:
    for _ in range(20):
        with served(echo, most=4) as channel:
            call = channel.unary_unary(PATH)
            calls = [call.future(b"x", timeout=20) for _ in range(20)]
            assert {each.result() for each in calls} == {b"x"}


def test_a_call_in_flight_ends_before_the_server() -> None:
    began, server = threading.Event(), grpc.server(ThreadPoolExecutor(2))

    def respond(data: bytes, deadline: Deadline) -> bytes:
        began.set()
        time.sleep(0.5)
        return data

    direct = DirectMethod(server, PATH, respond, 2)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    direct.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(PATH).future(b"x", timeout=20)
        assert began.wait(20)
        assert server.stop(10).wait(20)
        assert call.result() == b"x"
