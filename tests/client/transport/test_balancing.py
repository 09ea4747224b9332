"""Replicas share the calls evenly, a new one gets its share, and one that is killed costs no call."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from duoserve import Client, Connection, PreprocessingSpec, ServerUnavailable
from duoserve._transport.channel import parse_address, plan_channel
from duoserve.options import Retry
from tests.client.fake import FakeServer, Version, wait_until
from tests.client.load import Load
from tests.client.net import NameServer, Replica

MakeClient = Callable[..., Any]


def spread(servers: list[FakeServer]) -> list[int]:
    counts = [len(server.predictions()) for server in servers]
    for server in servers:
        server.calls.clear()
    return counts


@pytest.fixture
def three(spec1: PreprocessingSpec) -> Iterator[list[FakeServer]]:
    with ExitStack() as stack:
        yield [stack.enter_context(FakeServer(Version(spec1))) for _ in range(3)]


def test_a_list_of_addresses_is_shared_evenly(make_client: MakeClient, three: list[FakeServer], jpeg: bytes) -> None:
    client = make_client([server.address for server in three])
    wait_until(lambda: bool(client.predict(jpeg, "x")) and all(server.predictions() for server in three))
    spread(three)
    for _ in range(30):
        client.predict(jpeg, "x")
    assert spread(three) == [10, 10, 10]


def test_names_in_a_list_are_resolved(make_client: MakeClient, three: list[FakeServer], jpeg: bytes) -> None:
    client = make_client([f"localhost:{server.port}" for server in three] + ["no-such-host.invalid:8500"])
    wait_until(lambda: bool(client.predict(jpeg, "x")) and all(server.predictions() for server in three))


def test_names_that_nobody_knows_are_an_error(make_client: MakeClient, jpeg: bytes) -> None:
    with pytest.raises(ServerUnavailable, match="resolved"):
        make_client(["no-such-host.invalid:8500"]).predict(jpeg, "x")
    with pytest.raises(ServerUnavailable):
        make_client("dns:///no-such-host.invalid:8500").predict(jpeg, "x")


@pytest.fixture
def same_port(spec1: PreprocessingSpec) -> Iterator[list[FakeServer]]:
    """Three servers with one port on three addresses, as pods behind a headless service are."""
    with ExitStack() as stack:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        yield [stack.enter_context(FakeServer(Version(spec1), host=f"127.0.0.{i}", port=port)) for i in (2, 3, 4)]


def test_a_changing_dns_answer_is_followed(
    make_client: MakeClient, same_port: list[FakeServer], spec1: PreprocessingSpec
) -> None:
    """A replica comes, another goes; under load no call fails, and the newcomer gets an even share."""
    with NameServer("127.0.0.2", "127.0.0.3") as names:
        target = f"dns://127.0.0.1:{names.port}/pods.test:{same_port[0].port}"
        client = make_client(target, connection=Connection(refresh=0.2))
        with Load(client, spec1) as load:
            load.more(30)
            assert not same_port[2].predictions()
            names.answer = ["127.0.0.2", "127.0.0.3", "127.0.0.4"]
            load.run_until(lambda: bool(same_port[2].predictions()))
            load.more(30)
            spread(same_port)
            load.more(60)
            counts = spread(same_port)
            assert min(counts) > 0.6 * max(counts), counts
            names.answer = ["127.0.0.3", "127.0.0.4"]
            load.run_until(lambda: load.more(10) is None and spread(same_port)[0] == 0)
            same_port[0].stop()
            load.more(30)
        load.assert_clean()


def test_a_refreshed_channel_keeps_its_connections(same_port: list[FakeServer], jpeg: bytes) -> None:
    peers = set()
    with NameServer("127.0.0.2") as names:
        same_port[0].on_predict = lambda request, context: peers.add(context.peer())
        target = f"dns://127.0.0.1:{names.port}/pods.test:{same_port[0].port}"
        with Client(target, model="pairs", connection=Connection(refresh=0.1)) as client:
            wait_until(lambda: bool(client.predict(jpeg, "x")) and names.queries > 3)
    assert len(peers) == 1


@pytest.mark.parametrize("address", ["127.0.0.1:8500", "unix:/tmp/socket", ["127.0.0.1:1", "127.0.0.2:1"]])
def test_addresses_that_can_not_move_are_not_looked_up_again(address: Any) -> None:
    assert not parse_address(address).moves
    assert parse_address("dns:///pods:8500").moves and parse_address(["pods:8500"]).moves


def test_ipv6_addresses_are_understood() -> None:
    assert parse_address("[::1]:8500").target == "dns:///[::1]:8500"
    plan = plan_channel(parse_address(["[::1]:8500", "[::2]:8500"]), Connection(), Retry(), None)
    assert plan.target == "ipv6:[::1]:8500,[::2]:8500"


def test_killed_replicas_cost_no_call(make_client: MakeClient, spec1: PreprocessingSpec) -> None:
    """SIGKILL to one replica after another, each restarted, under load."""
    with Replica(spec1) as one, Replica(spec1) as two:
        client = make_client([one.address, two.address], label="stable")
        with Load(client, spec1) as load:
            load.more(20)
            for replica, other in ((one, two), (two, one)):
                replica.kill()
                load.more(40)
                replica.restart()
                alone = Client(replica.address, model="pairs", connection=Connection(wait_for_ready=True))
                alone.describe()
                alone.close()
                # The other one is killed only when this one takes calls again: one healthy replica is left.
                before = calls_of(replica)
                load.run_until(lambda replica=replica, before=before: calls_of(replica) > before + 5)
                assert other.process.poll() is None
        load.assert_clean()


def calls_of(replica: Replica) -> int:
    with Client(replica.address, model="pairs") as client:
        return int(client.run("count", {}).tensors["calls"])
