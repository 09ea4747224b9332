"""A call ends by its deadline, is sent again only where that is safe and useful, and never floods a failing server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from duoserve import (
    Client,
    DeadlineExceeded,
    Hedge,
    MessageTooLarge,
    RequestRejected,
    Retry,
    ServerBusy,
    ServerUnavailable,
    Shadow,
)
from duoserve._calls.retrying import Budget
from duoserve.options import Connection
from tests.client.fake import Abort, FakeServer, wait_until

MakeClient = Callable[..., Any]
STATUS = grpc.StatusCode
BUSY = (STATUS.RESOURCE_EXHAUSTED, "Server Threadpool Exhausted")
WAITED = (STATUS.RESOURCE_EXHAUSTED, "Run() timeout exceeded while waiting in batching queue")


class Failing:
    """A hook that fails the next `times` predictions."""

    def __init__(self, times: int, code: grpc.StatusCode, details: str) -> None:
        self.times, self.code, self.details, self.calls = times, code, details, 0
        self._lock = threading.Lock()

    def __call__(self, request: Any, context: Any) -> None:
        if request.model_spec.signature_name == "describe":
            return
        with self._lock:
            self.calls += 1
            fail = self.calls <= self.times
        if fail:
            raise Abort(self.code, self.details)


@pytest.mark.parametrize(
    ("code", "details"),
    [
        BUSY,
        WAITED,
        (STATUS.UNAVAILABLE, "The batch scheduling queue to which this task was submitted is full"),
        (STATUS.UNAVAILABLE, "Socket closed"),
        (STATUS.INTERNAL, "Received RST_STREAM with error code 2"),
        (STATUS.UNKNOWN, "Stream removed"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
@pytest.mark.parametrize("injected", [False, True])
def test_transient_failures_are_retried(
    make_client: MakeClient, server: FakeServer, jpeg: bytes, code: grpc.StatusCode, details: str, injected: bool
) -> None:
    server.on_predict = hook = Failing(3, code, details)
    if injected:
        with grpc.insecure_channel(server.address) as channel, Client(model="pairs", channel=channel) as client:
            assert client.predict(jpeg, "x").version == 3
    else:
        assert make_client(server.address).predict(jpeg, "x").version == 3
    assert hook.calls == 4


@pytest.mark.parametrize("details", [WAITED[1], "queue full"])
def test_attempts_are_counted_once_whoever_retries(
    make_client: MakeClient, server: FakeServer, jpeg: bytes, details: str
) -> None:
    code = STATUS.UNAVAILABLE if "full" in details else STATUS.RESOURCE_EXHAUSTED
    server.on_predict = hook = Failing(99, code, details)
    with pytest.raises(ServerBusy):
        make_client(server.address, retry=Retry(attempts=3, initial_backoff=0.01)).predict(jpeg, "x")
    assert hook.calls == 3


def test_a_call_refused_for_lack_of_threads_is_not_a_failure(
    make_client: MakeClient, server: FakeServer, jpeg: bytes
) -> None:
    """It was refused before any work: the call is repeated, at no cost to attempts or budget."""
    server.on_predict = hook = Failing(30, *BUSY)
    client = make_client(server.address, retry=Retry(attempts=2, budget=3, initial_backoff=0.001, max_backoff=0.002))
    assert client.predict(jpeg, "x").version == 3 and hook.calls == 31
    server.on_predict = hook = Failing(1, *WAITED)
    assert client.predict(jpeg, "x").version == 3 and hook.calls == 2, "the budget is whole"


def test_a_call_refused_for_lack_of_threads_is_repeated_until_its_deadline(
    make_client: MakeClient, server: FakeServer, jpeg: bytes
) -> None:
    client = make_client(server.address, retry=Retry(initial_backoff=0.1))
    client.predict(jpeg, "x")
    server.on_predict = hook = Failing(10_000, *BUSY)
    began = time.monotonic()
    with pytest.raises((ServerBusy, DeadlineExceeded)):
        client.predict(jpeg, "x", timeout=1)
    assert 0.8 < time.monotonic() - began < 3 and 5 <= hook.calls <= 21


def test_without_retries_a_busy_server_is_asked_once(make_client: MakeClient, server: FakeServer, jpeg: bytes) -> None:
    server.on_predict = hook = Failing(99, *BUSY)
    with pytest.raises(ServerBusy, match="Server Threadpool Exhausted"):
        make_client(server.address, retry=Retry(attempts=1)).predict(jpeg, "x")
    assert hook.calls == 1


def test_copies_for_a_shadow_are_not_repeated_on_a_full_server(
    make_client: MakeClient, server: FakeServer, jpeg: bytes
) -> None:
    busy = Failing(10_000, *BUSY)

    def only_copies(request: Any, context: Any) -> None:
        if request.model_spec.version_label == "canary":
            busy(request, context)

    server.on_predict = only_copies
    retry = Retry(attempts=3, initial_backoff=0.001, max_backoff=0.001)
    client = make_client(server.address, label="stable", shadow=Shadow(label="canary"), retry=retry, timeout=60)
    assert client.predict(jpeg, "x").version == 1
    wait_until(lambda: client.shadow_report().failed == 1)
    assert busy.calls == 3


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        (STATUS.INVALID_ARGUMENT, "bad input", RequestRejected),
        (STATUS.INTERNAL, "a bug in the model", RequestRejected),
        (STATUS.RESOURCE_EXHAUSTED, "Received message larger than max (8000046 vs. 4194304)", MessageTooLarge),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_lasting_failures_are_not_retried(
    make_client: MakeClient, server: FakeServer, jpeg: bytes, code: grpc.StatusCode, details: str, kind: type
) -> None:
    server.on_predict = hook = Failing(99, code, details)
    with pytest.raises(kind):
        make_client(server.address, version=3).predict(jpeg, "x")
    assert hook.calls == 1


def test_a_reply_over_our_own_limit_names_the_option(make_client: MakeClient, server: FakeServer, jpeg: bytes) -> None:
    client = make_client(server.address, connection=Connection(max_message_bytes=1024))
    with pytest.raises(MessageTooLarge, match="max_message_bytes"):
        client.predict(jpeg, "x")  # the spec alone holds a tokenizer of some kilobytes
    assert len(server.calls) == 1


@pytest.mark.parametrize("seconds", [0.2, 0.5])
def test_the_deadline_holds_with_all_retries(
    make_client: MakeClient, server: FakeServer, jpeg: bytes, seconds: float
) -> None:
    client = make_client(server.address, retry=Retry(attempts=5, initial_backoff=0.3, max_backoff=10))
    client.predict(jpeg, "x")
    server.on_predict = Failing(99, *BUSY)
    began = time.monotonic()
    with pytest.raises((DeadlineExceeded, ServerBusy)):
        client.predict(jpeg, "x", timeout=seconds)
    assert time.monotonic() - began < seconds + 2


def test_a_server_that_hangs_ends_the_call_at_its_deadline(
    make_client: MakeClient, server: FakeServer, jpeg: bytes
) -> None:
    client = make_client(server.address)
    client.predict(jpeg, "x")
    release = threading.Event()
    server.on_predict = lambda request, context: release.wait(10) and None
    with pytest.raises(DeadlineExceeded) as caught:
        client.predict(jpeg, "x", timeout=0.3)
    release.set()
    assert isinstance(caught.value, TimeoutError) and caught.value.retryable


def test_the_server_gets_the_deadline(make_client: MakeClient, server: FakeServer, jpeg: bytes) -> None:
    left: list[float] = []
    server.on_predict = lambda request, context: left.append(context.time_remaining())
    make_client(server.address, timeout=7).predict(jpeg, "x")
    assert left and all(6 < seconds < 7.5 for seconds in left), "gRPC rounds it up a little"


def test_without_a_server_the_error_comes_soon(make_client: MakeClient, jpeg: bytes) -> None:
    began = time.monotonic()
    with pytest.raises(ServerUnavailable) as caught:
        make_client("127.0.0.1:1", timeout=30).predict(jpeg, "x")
    assert time.monotonic() - began < 20 and isinstance(caught.value, ConnectionError)


def test_waiting_for_a_server_that_is_still_starting(make_client: MakeClient, server: FakeServer, jpeg: bytes) -> None:
    versions, port = list(server.versions.values()), server.port
    server.stop()
    client = make_client(f"127.0.0.1:{port}", timeout=20, connection=Connection(wait_for_ready=True))
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.predict, jpeg, "x")
        time.sleep(0.3)
        with FakeServer(*versions, port=port):
            assert call.result(20).version == 3


def test_a_failing_server_gets_no_flood_of_retries(server: FakeServer, jpeg: bytes) -> None:
    server.on_predict = hook = Failing(10_000, *WAITED)
    retry = Retry(attempts=5, initial_backoff=0.001, max_backoff=0.001, budget=20)
    with Client(server.address, model="pairs", retry=retry) as client:
        for _ in range(50):
            with pytest.raises(ServerBusy):
                client.predict(jpeg, "x")
    assert 50 <= hook.calls <= 50 + 20


def test_the_budget_fills_again() -> None:
    budget = Budget(10)
    assert [budget.failure() for _ in range(6)] == [True] * 4 + [False] * 2
    for _ in range(30):
        budget.success()
    assert budget.failure()


def test_a_slow_call_is_sent_a_second_time_and_the_first_answer_counts(
    make_client: MakeClient, server: FakeServer, jpeg: bytes
) -> None:
    client = make_client(server.address, hedge=Hedge(after=0.05))
    client.predict(jpeg, "x")
    release, count = threading.Event(), Failing(0, *BUSY)

    def slow_first(request: Any, context: Any) -> None:
        if ("slow", "yes") not in context.invocation_metadata():
            return  # a late copy of the first call, on a busy machine
        count(request, context)
        if count.calls == 1:
            release.wait(10)

    server.on_predict = slow_first
    assert client.predict(jpeg, "x", metadata=[("slow", "yes")]).version == 3
    assert count.calls == 2 and not release.is_set()
    release.set()


def test_a_fast_call_is_sent_once(make_client: MakeClient, server: FakeServer, jpeg: bytes) -> None:
    client = make_client(server.address, hedge=Hedge(after=5))
    for _ in range(5):
        client.predict(jpeg, "x")
    assert len(server.predictions()) == 5


def test_a_hedged_call_fails_only_when_both_do(make_client: MakeClient, server: FakeServer, jpeg: bytes) -> None:
    client = make_client(server.address, hedge=Hedge(after=0.05), retry=Retry(attempts=1))
    client.predict(jpeg, "x")
    count = Failing(0, *BUSY)

    def first_fails_late(request: Any, context: Any) -> None:
        count(request, context)
        if count.calls == 1:
            time.sleep(0.2)
            raise Abort(STATUS.INTERNAL, "broken")
        time.sleep(0.4)

    server.on_predict = first_fails_late
    assert client.predict(jpeg, "x").version == 3
    server.on_predict = Failing(99, STATUS.INTERNAL, "broken")
    with pytest.raises(RequestRejected):
        client.predict(jpeg, "x")


def test_a_server_at_its_thread_limit(make_client: MakeClient, server: FakeServer, jpeg: bytes) -> None:
    """Answers at once that it is full, as the stock server does; every caller gets its answer in the end."""
    running = threading.Semaphore(2)

    def limited(request: Any, context: Any) -> None:
        if not running.acquire(blocking=False):
            raise Abort(*BUSY)
        try:
            time.sleep(0.005)
        finally:
            running.release()

    server.on_predict = limited
    client = make_client(server.address, timeout=30)
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda _: client.predict(jpeg, "x").version, range(120)))
    assert answers == [3] * 120
