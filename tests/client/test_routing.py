"""A canary takes its share and keeps its callers; a shadow is compared in the background."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duoserve import Canary, Client, InvalidInput, ModelNotFound, PreprocessingSpec, Retry, Shadow
from tests.client.fake import Abort, FakeServer, Version, wait_until

MakeClient = Callable[..., Any]


@given(st.text(max_size=30), st.floats(0, 100), st.floats(0, 100))
def test_a_caller_stays_on_its_side_and_a_larger_share_takes_none_away(key: str, one: float, two: float) -> None:
    low, high = sorted((one, two))
    small, large = Canary(label="canary", percent=low), Canary(label="canary", percent=high)
    assert small.takes(key) == small.takes(key)
    assert large.takes(key) or not small.takes(key)


@pytest.mark.parametrize("percent", [0, 5, 50, 100])
@pytest.mark.parametrize("sticky", [True, False])
def test_the_share_is_kept(percent: float, sticky: bool) -> None:
    canary = Canary(label="canary", percent=percent)
    taken = sum(canary.takes(f"caller {i}" if sticky else None) for i in range(4000))
    assert abs(taken / 40 - percent) < 4


def test_calls_go_where_their_key_says(make_client: MakeClient, server: FakeServer, jpeg: bytes) -> None:
    canary = Canary(label="canary", percent=50)
    client = make_client(server.address, label="stable", canary=canary)
    for i in range(12):
        answer = client.predict(jpeg, "x", key=str(i))
        assert answer.target == ("canary" if canary.takes(str(i)) else "stable")
        assert answer.version == (2 if canary.takes(str(i)) else 1)


def test_a_canary_that_fails_costs_no_call(make_client: MakeClient, server: FakeServer, jpeg: bytes) -> None:
    canary = Canary(label="gone", percent=100)
    assert make_client(server.address, label="stable", canary=canary).predict(jpeg, "x").version == 1
    strict = Canary(label="gone", percent=100, fallback=False)
    with pytest.raises(ModelNotFound, match="label gone"):
        make_client(server.address, label="stable", canary=strict).predict(jpeg, "x")


def test_a_batch_follows_the_canary_as_a_whole(make_client: MakeClient, server: FakeServer, jpeg: bytes) -> None:
    canary = Canary(label="canary", percent=50)
    client = make_client(server.address, label="stable", canary=canary, max_batch_size=2)
    for i in range(8):
        wanted = 2 if canary.takes(str(i)) else 1
        assert {answer.version for answer in client.predict_batch([(jpeg, "x")] * 5, key=str(i))} == {wanted}


def test_rows_that_a_canary_fails_on_are_answered_by_the_main_version(
    make_client: MakeClient, server: FakeServer, jpeg: bytes
) -> None:
    def broken(request: Any, context: Any) -> None:
        asked = request.model_spec
        rows = request.inputs["tokens"].tensor_shape.dim[0].size if "tokens" in request.inputs else 0
        if rows == 2 and (asked.version_label == "canary" or asked.version.value == 2):
            raise Abort(grpc.StatusCode.INTERNAL, "broken")

    server.on_predict = broken
    pairs = [(jpeg, "x"), (b"no image", "x"), *[(jpeg, str(i)) for i in range(6)]]
    client = make_client(
        server.address,
        label="stable",
        canary=Canary(label="canary", percent=100),
        max_batch_size=2,
        retry=Retry(attempts=1),
    )
    found = client.predict_batch(pairs)
    assert list(found.errors) == [1] and isinstance(found.errors[1], InvalidInput)
    assert [answer.version for i, answer in enumerate(found.outcomes) if i != 1] == [2, 1, 1, 1, 1, 1, 1]
    gone = make_client(server.address, label="stable", canary=Canary(label="gone", percent=100))
    assert {answer.version for answer in gone.predict_batch([(jpeg, "x")] * 3)} == {1}


def test_a_batch_is_shadowed_row_by_row(make_client: MakeClient, server: FakeServer, jpeg: bytes) -> None:
    client = make_client(server.address, label="stable", shadow=Shadow(label="canary"), max_batch_size=4)
    assert len(client.predict_batch([(jpeg, f"text {i}") for i in range(10)])) == 10
    wait_until(lambda: client.shadow_report().compared == 10)
    assert client.shadow_report().failed == client.shadow_report().dropped == 0


@pytest.mark.parametrize("kind", [Canary, Shadow])
def test_routes_are_checked(kind: Any) -> None:
    for options in ({}, {"label": "a", "version": 1}, {"label": "a", "percent": 101}):
        with pytest.raises(InvalidInput):
            kind(**options)


def test_a_shadow_is_compared(make_client: MakeClient, server: FakeServer, jpeg: bytes) -> None:
    client = make_client(server.address, label="stable", shadow=Shadow(label="canary"))
    assert client.shadow_report().agreement is None
    for i in range(10):
        assert client.predict(jpeg, f"text {i}").version == 1
    wait_until(lambda: client.shadow_report().compared == 10)
    report = client.shadow_report()
    assert report.agreed + sum(report.disagreements.values()) == 10 and report.failed == report.dropped == 0
    assert report.agreement == report.agreed / 10 and report.largest_difference > 0


def test_an_equal_shadow_agrees(
    make_client: MakeClient, server: FakeServer, spec1: PreprocessingSpec, jpeg: bytes
) -> None:
    server.versions[5] = Version(PreprocessingSpec(16, 16, 8, spec1.tokenizer, spec1.labels, 5))
    client = make_client(server.address, label="stable", shadow=Shadow(version=5))
    for i in range(5):
        client.predict(jpeg, f"text {i}")
    wait_until(lambda: client.shadow_report().compared == 5)
    assert client.shadow_report().agreement == 1 and client.shadow_report().largest_difference == 0


def test_a_slow_shadow_delays_no_caller_and_is_bounded(
    make_client: MakeClient, server: FakeServer, jpeg: bytes
) -> None:
    release = threading.Event()

    def slow(request: Any, context: Any) -> None:
        if request.model_spec.version_label == "canary":
            release.wait(10)

    server.on_predict = slow
    client = make_client(server.address, label="stable", shadow=Shadow(label="canary", max_pending=3))
    client.predict(jpeg, "x")
    began = time.monotonic()
    for _ in range(9):
        client.predict(jpeg, "x")
    assert time.monotonic() - began < 5
    assert client.shadow_report().dropped == 7
    release.set()
    wait_until(lambda: client.shadow_report().compared == 3)


def test_a_broken_shadow_is_counted_and_nothing_else(make_client: MakeClient, server: FakeServer, jpeg: bytes) -> None:
    def broken(request: Any, context: Any) -> None:
        if request.model_spec.version_label == "canary":
            raise Abort(grpc.StatusCode.INTERNAL, "broken")

    server.on_predict = broken
    client = make_client(server.address, label="stable", shadow=Shadow(label="canary"))
    for _ in range(5):
        assert client.predict(jpeg, "x").version == 1
    wait_until(lambda: client.shadow_report().failed == 5)


def test_a_shadow_on_the_main_version_is_counted_separately(
    make_client: MakeClient, server: FakeServer, jpeg: bytes
) -> None:
    client = make_client(server.address, label="stable", shadow=Shadow(version=1))
    client.predict(jpeg, "x")
    wait_until(lambda: client.shadow_report().same_version == 1)
    assert client.shadow_report().compared == 0


def test_closing_does_not_wait_for_shadows(server: FakeServer, jpeg: bytes) -> None:
    release = threading.Event()
    server.on_predict = lambda request, context: (
        release.wait(10) and None if request.model_spec.version_label == "canary" else None
    )
    client = Client(server.address, model="pairs", label="stable", shadow=Shadow(label="canary"))
    client.predict(jpeg, "x")
    began = time.monotonic()
    client.close()
    assert time.monotonic() - began < 5
    release.set()
