"""With a healthy replica left, network faults fail no call and give no wrong answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from duoserve import TLS, Connection, DeadlineExceeded, Hedge, PreprocessingSpec, Retry, ServerUnavailable
from tests.client.fake import FakeServer, Version, wait_until
from tests.client.load import Load
from tests.client.net import Authority, Proxy

MakeClient = Callable[..., Any]


@pytest.mark.parametrize("reset", [False, True], ids=["cut", "reset"])
def test_connections_that_break_again_and_again(make_client: MakeClient, spec1: PreprocessingSpec, reset: bool) -> None:
    with FakeServer(Version(spec1)) as good, FakeServer(Version(spec1)) as other, Proxy(other.port) as proxy:
        client = make_client([good.address, proxy.address], label=None)
        with Load(client, spec1) as load:
            load.run_until(lambda: bool(good.predictions()) and bool(other.predictions()))
            for _ in range(5):
                before = len(other.predictions())
                proxy.cut(reset=reset)
                load.more(20)
                load.run_until(lambda before=before: len(other.predictions()) > before)  # it is used again
        load.assert_clean()
        sent = len(good.predictions()) + len(other.predictions())
        # A call whose connection broke may have run twice; more often than breaks would be a flood.
        assert load.calls <= sent <= load.calls + 5 * 4


def test_the_only_server_behind_breaking_connections(make_client: MakeClient, spec1: PreprocessingSpec) -> None:
    """Without a second replica the retries bridge what reconnecting takes."""
    with FakeServer(Version(spec1)) as server, Proxy(server.port) as proxy:
        client = make_client(proxy.address, retry=Retry(attempts=5, initial_backoff=0.2))
        with Load(client, spec1, callers=2) as load:
            for _ in range(3):
                load.more(10)
                proxy.cut()
        load.assert_clean()


def test_a_replica_that_turns_slow_is_outrun_by_hedging(make_client: MakeClient, spec1: PreprocessingSpec) -> None:
    with FakeServer(Version(spec1)) as good, FakeServer(Version(spec1)) as other, Proxy(other.port) as proxy:
        client = make_client([good.address, proxy.address], hedge=Hedge(after=0.1), retry=Retry(budget=1000))
        with Load(client, spec1, timeout=5) as load:
            load.run_until(lambda: bool(good.predictions()) and bool(other.predictions()))
            proxy.delay = 1.0
            load.more(60)
            proxy.delay = 0.0
            load.more(10)
        load.assert_clean()


def test_a_silent_replica_is_given_up_and_its_calls_go_elsewhere(
    make_client: MakeClient, spec1: PreprocessingSpec
) -> None:
    with FakeServer(Version(spec1)) as good, FakeServer(Version(spec1)) as other, Proxy(other.port) as proxy:
        client = make_client([good.address, proxy.address], connection=Connection(keepalive=1))
        with Load(client, spec1) as load:
            load.run_until(lambda: bool(good.predictions()) and bool(other.predictions()))
            proxy.silent = True
            load.more(40)
        load.assert_clean()


def test_a_silent_server_is_noticed_by_keepalive(make_client: MakeClient, spec1: PreprocessingSpec) -> None:
    """Without a second replica the call ends by keepalive or deadline, and the next one finds a new connection."""
    with FakeServer(Version(spec1)) as server, Proxy(server.port) as proxy:
        client = make_client(proxy.address, connection=Connection(keepalive=1), retry=Retry(attempts=1), timeout=30)
        client.predict(*_input())
        proxy.silent = True
        began = time.monotonic()
        with pytest.raises((ServerUnavailable, DeadlineExceeded)):
            client.predict(*_input())
        assert time.monotonic() - began < 15, "sooner than the deadline"
        proxy.silent = False
        proxy.cut()
        wait_until(lambda: _works(client))


def _input() -> tuple[Any, str]:
    from tests.client.conftest import photo

    return photo(), "x"


def _works(client: Any) -> bool:
    try:
        return bool(client.predict(*_input()).version)
    except ServerUnavailable:
        time.sleep(0.1)
        return False


def test_corrupted_bytes_never_become_an_answer(
    make_client: MakeClient, spec1: PreprocessingSpec, tmp_path: Path
) -> None:
    """Under TLS every flipped byte breaks the connection; the call goes to the other replica."""
    authority = Authority(tmp_path)
    credentials = authority.server_credentials()
    with (
        FakeServer(Version(spec1), credentials=credentials) as good,
        FakeServer(Version(spec1), credentials=credentials) as other,
        Proxy(other.port) as proxy,
    ):
        client = make_client([good.address, proxy.address], tls=TLS(ca=authority.path))
        with Load(client, spec1) as load:
            load.run_until(lambda: bool(good.predictions()) and bool(other.predictions()))
            for _ in range(4):
                proxy.corrupt = True
                load.more(20)
                proxy.corrupt = False
                before = len(other.predictions())
                load.run_until(lambda before=before: len(other.predictions()) > before)
        load.assert_clean()


def test_corrupted_plain_text_is_an_error_of_ours_or_an_answer(
    make_client: MakeClient, spec1: PreprocessingSpec
) -> None:
    """Plain text has no checksum end to end, so a wrong answer can't be ruled out; a foreign exception can."""
    with FakeServer(Version(spec1)) as server, Proxy(server.port) as proxy:
        client = make_client(proxy.address, timeout=2)
        with Load(client, spec1, callers=2) as load:
            load.more(5)
            proxy.corrupt = True
            load.more(10)
            proxy.corrupt = False
            failed = len(load.failures)
            load.run_until(lambda: load.calls > 20)
    assert load.calls and failed <= load.calls
