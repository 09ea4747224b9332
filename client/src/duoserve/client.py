"""The blocking client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

import grpc

from duoserve._base import BaseClient, documented, named
from duoserve._calls.effects import Steps
from duoserve._calls.operations import Operations
from duoserve._checks import expect_kind
from duoserve._transport.channel import ChannelPlan
from duoserve._transport.managed_channel import BaseChannel, ManagedChannel
from duoserve._transport.sync_driver import SyncChannel, SyncDriver

__all__ = ["Client"]

P = ParamSpec("P")
T = TypeVar("T")


def _blocking(operation: Callable[Concatenate[Operations, P], Steps[T]]) -> Callable[Concatenate[Client, P], T]:
    steps = named(operation, "Client")

    def method(client: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return client._driver.run(steps(client._operations, *args, **kwargs))

    return documented(method, steps)


class Client(BaseClient[grpc.Channel]):
    """Predicts with one model on TensorFlow Serving. Thread-safe, and safe across a fork.

    Nothing is opened until the first call. Use it as a context manager, or call `close`.
    """

    _open = SyncChannel.open

    predict = _blocking(Operations.predict)
    predict_batch = _blocking(Operations.predict_batch)
    embed = _blocking(Operations.embed)
    embed_batch = _blocking(Operations.embed_batch)
    explain = _blocking(Operations.explain)
    predict_tensors = _blocking(Operations.predict_tensors)
    run = _blocking(Operations.run)
    preprocessor = _blocking(Operations.preprocessor)
    describe = _blocking(Operations.describe)
    status = _blocking(Operations.status)
    signatures = _blocking(Operations.signatures)

    def close(self) -> None:
        """Closes the connections. Calls in progress fail; further calls raise ClientClosed."""
        self._operations.tally.close()
        self._driver.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _adopt(self, channel: grpc.Channel) -> Callable[[ChannelPlan], BaseChannel]:
        expect_kind("channel", channel, grpc.Channel, "a grpc.Channel")
        adopted = SyncChannel(channel, owned=False)
        return lambda _: adopted

    def _start(self, new_managed_channel: Callable[[], ManagedChannel]) -> None:
        self._driver = SyncDriver(new_managed_channel())
