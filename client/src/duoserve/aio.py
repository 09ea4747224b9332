"""The async client: the same methods, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

import grpc.aio

from duoserve._base import BaseClient, documented, named
from duoserve._calls.effects import Steps
from duoserve._calls.operations import Operations
from duoserve._checks import expect_kind
from duoserve._transport.async_driver import AsyncChannel, AsyncDriver
from duoserve._transport.channel import ChannelPlan
from duoserve._transport.managed_channel import BaseChannel, ManagedChannel
from duoserve.errors import InvalidInput

__all__ = ["AsyncClient"]

P = ParamSpec("P")
T = TypeVar("T")


def _awaited(
    operation: Callable[Concatenate[Operations, P], Steps[T]],
) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    steps = named(operation, "AsyncClient")

    async def method(client: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await client._driver.run(steps(client._operations, *args, **kwargs))

    return documented(method, steps)


class AsyncClient(BaseClient[grpc.aio.Channel]):
    """`Client` for asyncio: same options, same methods, awaited.

    Images are decoded in the event loop's thread pool, so the loop stays free. Use it as an
    async context manager, or await `close`. One client serves any number of event loops, in any
    number of threads: each loop gets its own channels, which close when the loop has ended.
    """

    _open = AsyncChannel.open

    predict = _awaited(Operations.predict)
    predict_batch = _awaited(Operations.predict_batch)
    embed = _awaited(Operations.embed)
    embed_batch = _awaited(Operations.embed_batch)
    explain = _awaited(Operations.explain)
    predict_tensors = _awaited(Operations.predict_tensors)
    run = _awaited(Operations.run)
    preprocessor = _awaited(Operations.preprocessor)
    describe = _awaited(Operations.describe)
    status = _awaited(Operations.status)
    signatures = _awaited(Operations.signatures)

    async def close(self) -> None:
        """Closes the connections. Calls in progress fail; further calls raise ClientClosed."""
        self._operations.tally.close()
        await self._driver.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    def _adopt(self, channel: grpc.aio.Channel) -> Callable[[ChannelPlan], BaseChannel]:
        expect_kind("channel", channel, grpc.aio.Channel, "a grpc.aio.Channel")
        adopted = AsyncChannel(channel, owned=False)

        def adopt(_: ChannelPlan) -> BaseChannel:
            here = asyncio.get_running_loop()
            if getattr(channel, "_loop", here) is not here:
                raise InvalidInput("Expected a call in the event loop of the channel. Received: another event loop")
            return adopted

        return adopt

    def _start(self, new_managed_channel: Callable[[], ManagedChannel]) -> None:
        self._driver = AsyncDriver(new_managed_channel)
