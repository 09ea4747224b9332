"""A client survives a fork, and may be used by many threads and several event loops."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc.aio
import pytest

from duoserve import (
    AsyncClient,
    Client,
    ClientClosed,
    DeadlineExceeded,
    InvalidInput,
    Prediction,
    PreprocessingSpec,
    Shadow,
)
from tests.client.fake import FakeServer, Hold, wait_until
from tests.client.net import ROOT, Replica

# Run in a separate process: a fork copies the locks of all threads of this one.
PRE_FORK = """
import os, sys
from duoserve import Client
from tests.client.conftest import photo

client = Client(sys.argv[1], model="pairs")
if sys.argv[2] == "used":
    client.predict(photo(), "x")
children = []
for _ in range(3):
    child = os.fork()
    if child == 0:
        try:
            versions = [client.predict(photo(), "x", timeout=60).version for _ in range(5)]
            os._exit(0 if versions == [1] * 5 else 1)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    children.append(child)
codes = [os.waitpid(child, 0)[1] for child in children]
assert client.predict(photo(), "x").version == 1
client.close()
sys.exit(max(codes) > 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("parent", ["unused", "used"])
def test_workers_that_are_forked_after_the_client_was_made(spec1: PreprocessingSpec, parent: str) -> None:
    with Replica(spec1) as server:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(PRE_FORK), server.address, parent],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=ROOT,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-2000:]


def test_many_threads_share_a_client(make_client: Callable[..., Any], server: FakeServer, jpeg: bytes) -> None:
    client = make_client(server.address, label="stable")
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda i: client.predict(jpeg, f"text {i % 5}"), range(100)))
    assert {answer.version for answer in answers} == {1}
    for i, answer in enumerate(answers):
        assert answer.label == answers[i % 5].label
    assert len(server.predictions("describe")) == 1, "the spec is asked for once, whoever comes first"


def test_a_client_in_one_event_loop_after_another(server: FakeServer, jpeg: bytes) -> None:
    client = AsyncClient(server.address, model="pairs")

    async def call() -> int:
        return (await client.predict(jpeg, "x")).version

    async def last() -> int:
        async with client:
            return await call()

    assert [asyncio.run(call()), asyncio.run(call()), asyncio.run(last())] == [3, 3, 3]


def test_one_async_client_in_threads_with_an_event_loop_each(server: FakeServer, jpeg: bytes) -> None:
    """As async views under WSGI do: a new event loop for every request, in whatever thread."""
    client = AsyncClient(server.address, model="pairs", max_batch_size=1)

    async def call(i: int) -> list[int]:
        single, batch = await asyncio.gather(client.predict(jpeg, f"text {i}"), client.predict_batch([(jpeg, "x")] * 3))
        return [single.version, *[answer.version for answer in batch]]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda i: asyncio.run(call(i)), range(160))) == [[3] * 4] * 160
    asyncio.run(client.close())
    with pytest.raises(ClientClosed):
        asyncio.run(call(0))


def test_event_loops_that_ended_leave_nothing_behind(server: FakeServer, jpeg: bytes) -> None:
    client = AsyncClient(server.address, model="pairs")

    async def call() -> weakref.ref[Any]:
        await client.predict(jpeg, "x")
        return weakref.ref(asyncio.get_running_loop())

    loops = [asyncio.run(call()) for _ in range(20)]
    asyncio.run(client.close())

    def gone() -> bool:
        gc.collect()  # does nothing while another thread collects
        # gRPC's poller itself holds the loop that used it last.
        return len([loop for loop in loops if loop() is not None]) <= 1

    wait_until(gone)


def test_closing_an_async_client_ends_a_call_in_another_threads_loop(server: FakeServer, jpeg: bytes) -> None:
    client = AsyncClient(server.address, model="pairs")
    asyncio.run(client.describe())
    server.on_predict = hold = Hold()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(lambda: asyncio.run(client.predict(jpeg, "x", timeout=30)))
        assert hold.arrived.wait(5)
        asyncio.run(client.close())
        with pytest.raises(ClientClosed):
            call.result(10)
    hold.release.set()


def test_a_channel_that_was_handed_in_stays_in_its_event_loop(server: FakeServer, jpeg: bytes) -> None:
    async def make() -> tuple[AsyncClient, grpc.aio.Channel]:
        channel = grpc.aio.insecure_channel(server.address)
        client = AsyncClient(model="pairs", channel=channel)
        await client.predict(jpeg, "x")
        return client, channel

    own = asyncio.new_event_loop()
    client, channel = own.run_until_complete(make())
    with pytest.raises(InvalidInput, match="in the event loop of the channel"):
        asyncio.run(client.predict(jpeg, "x"))
    own.run_until_complete(channel.close())
    own.close()


def test_calls_of_one_loop_run_side_by_side(server: FakeServer, jpeg: bytes) -> None:
    async def all_at_once() -> list[int]:
        async with AsyncClient(server.address, model="pairs") as client:
            answers = await asyncio.gather(*[client.predict(jpeg, str(i)) for i in range(50)])
            return [answer.version for answer in answers]

    assert asyncio.run(all_at_once()) == [3] * 50


def test_after_a_cancelled_call_the_client_still_works(server: FakeServer, jpeg: bytes) -> None:
    async def run() -> int:
        async with AsyncClient(server.address, model="pairs") as client:
            await client.predict(jpeg, "x")
            server.on_predict = lambda request, context: time.sleep(0.3)
            task = asyncio.create_task(client.predict(jpeg, "x"))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            server.on_predict = lambda request, context: None
            return (await client.predict(jpeg, "x")).version

    assert asyncio.run(run()) == 3


def test_an_async_token(server: FakeServer, jpeg: bytes) -> None:
    seen: list[str] = []
    server.on_predict = lambda request, context: seen.append(dict(context.invocation_metadata())["authorization"])

    async def token() -> str:
        return "fresh"

    async def run() -> None:
        async with AsyncClient(server.address, model="pairs", token=token) as client:
            await client.predict(jpeg, "x")

    asyncio.run(run())
    assert set(seen) == {"Bearer fresh"}


def test_a_closed_client_leaves_no_thread(server: FakeServer, jpeg: bytes) -> None:
    before = set(threading.enumerate())
    with Client(server.address, model="pairs", max_batch_size=1) as client:
        client.predict_batch([(jpeg, "x")] * 8)
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("duoserve")]


def test_closing_ends_a_call_that_is_under_way(
    make_client: Callable[..., Any], server: FakeServer, jpeg: bytes
) -> None:
    client = make_client(server.address)
    client.predict(jpeg, "x")
    server.on_predict = hold = Hold()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.predict, jpeg, "x", timeout=30)
        assert hold.arrived.wait(5)
        client.close()
        with pytest.raises(ClientClosed):
            call.result(10)
    hold.release.set()


class SlowPool(ThreadPoolExecutor):
    """Another thread closes the client while this one hands over its work."""

    client: Client

    def submit(self, *arguments: Any) -> Any:
        closing = threading.Thread(target=self.client.close)
        closing.start()
        closing.join(0.2)
        return super().submit(*arguments)


def test_closing_while_a_copy_or_a_part_of_a_batch_starts(
    server: FakeServer, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("duoserve._transport.sync_driver.ThreadPoolExecutor", SlowPool)
    SlowPool.client = Client(server.address, model="pairs", shadow=Shadow(label="canary"))
    assert SlowPool.client.predict(jpeg, "x").version == 3
    SlowPool.client = Client(server.address, model="pairs", max_batch_size=1)
    for outcome in SlowPool.client.predict_batch([(jpeg, "x")] * 2).outcomes:
        assert isinstance(outcome, Prediction | ClientClosed)


def test_a_caller_waits_for_anothers_question_only_until_its_own_deadline(
    make_client: Callable[..., Any], server: FakeServer, jpeg: bytes
) -> None:
    client = make_client(server.address)
    server.on_predict = hold = Hold()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(client.predict, jpeg, "x", timeout=30)
        assert hold.arrived.wait(5)
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            client.predict(jpeg, "x", timeout=0.3)
        assert time.monotonic() - began < 5
        hold.release.set()
        assert slow.result(10).version == 3
