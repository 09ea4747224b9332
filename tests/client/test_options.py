"""Invalid options and arguments are refused as InvalidInput, with their name, before anything is sent."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest

from duoserve import (
    TLS,
    AsyncClient,
    Canary,
    Client,
    Connection,
    Hedge,
    InvalidInput,
    PermissionDenied,
    Retry,
    Shadow,
    UnsupportedModel,
)
from duoserve._calls.operations import Operations
from tests.client.fake import FakeServer, wait_until
from tests.conftest import FOR_USERS

MakeClient = Callable[..., Any]
ADDRESS = "127.0.0.1:1"


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, 5) for name in ("address", "model", "label", "canary", "shadow", "tls", "retry", "hedge")],
        *[(name, 5) for name in ("connection", "observers", "token", "metadata", "send")],
        *[("retry", None), ("connection", None), ("canary", Shadow(label="x")), ("shadow", "x"), ("tls", True)],
        *[("version", "7"), ("version", True), ("version", 0), ("version", 1 << 63), ("label", ""), ("model", "")],
        *[("timeout", None), ("timeout", "1"), ("timeout", 0), ("timeout", float("nan")), ("timeout", 1e9)],
        *[("max_batch_size", 0), ("max_batch_size", 2.5), ("max_batch_size", True), ("metadata", [("A", "b")])],
        *[("observers", [5]), ("observers", None), ("metadata", None), ("metadata", [5]), ("token", "secret")],
    ],
)
def test_an_option_of_another_kind_is_named(kind: Any, name: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=f"^Expected .*{re.escape(name)}.* Received: ") as refused:
        kind(**{"address": ADDRESS, "model": "pairs", name: value})
    assert "secret" not in str(refused.value)


def test_a_call_takes_no_longer_than_10_s_and_a_start_60_unless_told() -> None:
    assert FOR_USERS == (10.0, 60.0)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_each_client_has_every_operation_with_its_parameters_and_docstring(kind: Any) -> None:
    operations = {name: method for name, method in vars(Operations).items() if name[0] != "_" and callable(method)}
    assert {"predict", "embed", "explain", "describe", "run"} < operations.keys()
    for name, operation in operations.items():
        method = getattr(kind, name)
        assert inspect.signature(method).parameters == inspect.signature(operation).parameters
        assert "Steps" not in str(inspect.signature(method)) and method.__doc__ == operation.__doc__ != ""
        assert inspect.iscoroutinefunction(method) is (kind is AsyncClient)


@pytest.mark.parametrize(("kind", "other"), [(Client, "aio"), (AsyncClient, "sync")])
def test_a_channel_of_the_other_kind_is_refused(kind: Any, other: str) -> None:
    async def make() -> Any:
        return grpc.aio.insecure_channel(ADDRESS)

    for channel in (5, asyncio.run(make()) if other == "aio" else grpc.insecure_channel(ADDRESS)):
        with pytest.raises(InvalidInput, match="Expected channel to be a grpc"):
            kind(channel=channel, model="pairs")


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_missing_and_conflicting_options_are_refused(kind: Any) -> None:
    async def channel() -> Any:
        return (grpc if kind is Client else grpc.aio).insecure_channel(ADDRESS)

    with pytest.raises(InvalidInput, match=r"Expected an address or a channel. Received: neither"):
        kind(None, model="pairs")
    with pytest.raises(InvalidInput, match=r"Expected an address or a channel. Received: both"):
        kind(ADDRESS, model="pairs", channel=asyncio.run(channel()))
    with pytest.raises(InvalidInput, match=r"Expected channel to be a grpc\..*Channel. Received: int"):
        kind(ADDRESS, model="pairs", channel=5)
    for option in (Canary, Shadow):
        with pytest.raises(InvalidInput, match=r"Expected a label or a version. Received: neither"):
            option(percent=5)
        with pytest.raises(InvalidInput, match=r"Expected a label or a version. Received: label='x' and version=3"):
            option(label="x", version=3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Retry(attempts=2.5),  # type: ignore[arg-type]
        lambda: Retry(budget="9"),  # type: ignore[arg-type]
        lambda: Hedge(after=None),  # type: ignore[arg-type]
        lambda: Connection(health_check="yes"),  # type: ignore[arg-type]
        lambda: TLS(ca=5),  # type: ignore[arg-type]
        lambda: TLS(server_name=""),
        lambda: Canary(label=5),  # type: ignore[arg-type]
        lambda: Canary(label="x", percent="5"),  # type: ignore[arg-type]
        lambda: Canary(label="x", percent=float("nan")),
        lambda: Shadow(version="x"),  # type: ignore[arg-type]
        lambda: Shadow(label="x", max_pending=0),
    ],
)
def test_options_check_themselves(make: Callable[[], Any]) -> None:
    with pytest.raises(InvalidInput, match=r"^Expected .* Received: "):
        make()


@pytest.mark.parametrize(
    ("method", "arguments", "options"),
    [
        ("predict", (b"", 5), {}),
        ("predict", (None, "x"), {"key": 5}),
        ("predict", (None, "x"), {"timeout": "1"}),
        ("predict", (None, "x"), {"metadata": 5}),
        ("predict", (None, "x"), {"metadata": None}),
        ("predict_batch", (None,), {}),
        ("predict_batch", (5,), {}),
        ("predict_tensors", (np.zeros(1), np.zeros(1), 5), {}),
        ("run", ("describe", None), {}),
        ("run", (5, {}), {}),
        ("run", ("describe", {5: np.zeros(1)}), {}),
        ("run", ("describe", {}), {"outputs": "spec"}),
        ("run", ("describe", {}), {"outputs": 5}),
        ("describe", (), {"timeout": -1}),
    ],
)
def test_an_argument_of_another_kind_is_refused(
    make_client: MakeClient, server: FakeServer, method: str, arguments: Any, options: Any
) -> None:
    client = make_client(server.address, label="stable", canary=Canary(label="canary"))
    with pytest.raises(InvalidInput, match=r"^Expected .* Received: "):
        getattr(client, method)(*arguments, **options)


@pytest.mark.parametrize(("value", "kind"), [(["a"], "list"), (5, "int"), ({}, "dict"), (None, "NoneType")])
def test_an_input_of_run_that_is_not_an_array_is_named(
    make_client: MakeClient, server: FakeServer, value: Any, kind: str
) -> None:
    with pytest.raises(InvalidInput, match=f"Expected input key to be a numpy array. Received: {kind}"):
        make_client(server.address).run("describe", {"key": value})
    assert not server.calls


def test_text_that_utf8_can_not_carry_is_refused_by_run(make_client: MakeClient, server: FakeServer) -> None:
    with pytest.raises(InvalidInput, match=r"Expected str to be valid Unicode. Received: surrogates"):
        make_client(server.address).run("describe", {"key": np.array(["\ud800"], object)})


def test_a_signature_that_the_model_lacks_is_named(make_client: MakeClient, server: FakeServer) -> None:
    with pytest.raises(UnsupportedModel, match=r"Expected a model with the signature nope. Received: Serving"):
        make_client(server.address).run("nope", {"image": np.zeros((1, 2), np.float32)})


@pytest.mark.parametrize("k", ["x", None, 1.5])
def test_an_invalid_number_of_classes_is_refused(
    make_client: MakeClient, server: FakeServer, jpeg: bytes, k: Any
) -> None:
    answer = make_client(server.address).predict(jpeg, "x")
    assert len(answer.top(np.int64(2))) == 2
    with pytest.raises(InvalidInput, match=f"Expected k to be a whole number. Received: {k!r}"):
        answer.top(k)


def test_a_token_that_can_not_be_had_is_an_error_of_ours(
    make_client: MakeClient, server: FakeServer, jpeg: bytes
) -> None:
    def broken() -> str:
        raise KeyError("no secret mounted")

    with pytest.raises(PermissionDenied, match="Received: KeyError") as failed:
        make_client(server.address, token=broken).predict(jpeg, "x")
    assert isinstance(failed.value.__cause__, KeyError)
    with pytest.raises(InvalidInput, match=r"Expected token.*Received: NoneType"):
        make_client(server.address, token=lambda: None).predict(jpeg, "x")


def test_copies_that_a_close_cuts_off_are_counted(make_client: MakeClient, server: FakeServer, jpeg: bytes) -> None:
    import threading

    release = threading.Event()

    def slow(request: Any, context: Any) -> None:
        if request.model_spec.version_label == "canary":
            release.wait(10)

    client = make_client(server.address, label="stable", shadow=Shadow(label="canary"))
    client.predict(jpeg, "x")
    wait_until(lambda: client.shadow_report().compared == 1)
    server.on_predict = slow
    for _ in range(10):
        client.predict(jpeg, "x")
    client.close()
    release.set()
    report = client.shadow_report()
    assert (report.compared, report.failed, report.dropped) == (1, 0, 10)
