"""Performs the core's effects by awaiting."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from collections.abc import Generator
from typing import Any, TypeVar

import grpc

from duoserve._calls.effects import Background, Call, Compute, Effect, Gather, Once, Sleep, Steps
from duoserve._transport.channel import Plan
from duoserve._transport.managed_channel import BaseLine, Lines
from duoserve.errors import ClientClosed

__all__ = ["AsyncDriver", "AsyncLine", "open_channel"]

T = TypeVar("T")
_retiring: set[asyncio.Task[None]] = set()  # an event loop itself holds its tasks only weakly


class AsyncLine(BaseLine):
    """A grpc.aio.Channel and its callables."""

    def connect(self) -> None:
        """Starts to connect."""
        self._channel.get_state(try_to_connect=True)

    def connected(self) -> bool:
        """Whether calls can go out at once."""
        return bool(self._channel.get_state() is grpc.ChannelConnectivity.READY)

    def retire(self, within: float) -> None:
        """Closes the channel when its last call has ended, after `within` seconds at most."""
        task = asyncio.get_running_loop().create_task(self.close(within))
        _retiring.add(task)
        task.add_done_callback(_retiring.discard)

    async def close(self, grace: float | None = None) -> None:
        """Closes the channel."""
        if self._owned:
            await self._channel.close(grace)


def open_channel(plan: Plan) -> AsyncLine:
    """Opens the channel that a plan describes, in the running event loop."""
    import grpc.aio

    if plan.credentials is None:
        channel = grpc.aio.insecure_channel(plan.target, plan.options)
    else:
        channel = grpc.aio.secure_channel(plan.target, plan.credentials, plan.options)
    return AsyncLine(channel, plan.fingerprint)


class AsyncDriver:
    """Runs steps in the running event loop. Another loop, or a forked child, gets channels of its own."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._loop: asyncio.AbstractEventLoop | None = None
        self._once: dict[Any, asyncio.Lock] = {}
        self._renewing = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self, steps: Steps[T]) -> T:
        """The result of the steps. Raises what they raise."""
        try:
            effect = next(steps)
            while True:
                try:
                    value = await self._perform(effect)
                except BaseException as error:
                    effect = steps.throw(error)
                else:
                    effect = steps.send(value)
        except StopIteration as stop:
            found: T = stop.value
            return found

    async def close(self) -> None:
        """Closes the channels. Calls that are under way fail."""
        self._enter_loop()
        lines = self._lines.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for line in lines:
            await line.close()  # type: ignore[attr-defined]

    def _enter_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            if self._loop is not None:
                self._lines.after_fork()  # channels are tied to their loop
            self._loop = loop
            self._once, self._renewing, self._tasks = {}, asyncio.Lock(), set()

    async def _perform(self, effect: Effect) -> Any:
        if isinstance(effect, Call):
            return await self._call(effect)
        if isinstance(effect, Compute):
            return await self._compute(effect)
        if isinstance(effect, Sleep):
            return await asyncio.sleep(effect.seconds)
        self._enter_loop()
        if isinstance(effect, Once):
            return await self._run_once(effect)
        if isinstance(effect, Gather):
            return await self._gather(effect)
        return self._in_background(effect)

    async def _run_once(self, once: Once) -> Any:
        lock = self._once.setdefault(once.key, asyncio.Lock())
        taken = False
        try:
            with contextlib.suppress(asyncio.TimeoutError):
                taken = await asyncio.wait_for(lock.acquire(), once.timeout)
            return await self.run(once.steps)
        finally:
            if taken:
                lock.release()

    async def _compute(self, compute: Compute) -> Any:
        found = await asyncio.get_running_loop().run_in_executor(None, compute.function)
        return await found if inspect.isawaitable(found) else found

    async def _call(self, call: Call) -> bytes:
        self._enter_loop()
        lines = self._lines
        line: Any = lines.current
        if line is None or time.monotonic() >= lines.check_at:
            line = await self._renew()
        lines.longest = max(lines.longest, call.timeout)
        method = line.method(call.method)
        try:
            if call.hedge_after is None or call.hedge_after >= call.timeout:
                reply: bytes = await method(call.request, timeout=call.timeout, metadata=call.metadata)
                return reply
            return await self._hedged(method, call)
        except (grpc.aio.UsageError, grpc.RpcError, asyncio.CancelledError) as error:
            if not lines.closed:
                raise
            raise ClientClosed("Expected an open client. Received: close() during the call") from error

    async def _renew(self) -> Any:
        lines = self._lines
        if lines.current is not None and self._renewing.locked():
            return lines.current  # another task sees to it
        async with self._renewing:
            plan = None
            if lines.needs_plan():
                plan = await asyncio.get_running_loop().run_in_executor(None, lines.make_plan)
            return lines.renew(plan)

    async def _hedged(self, method: Any, call: Call) -> bytes:
        async def send(timeout: float) -> bytes:
            reply: bytes = await method(call.request, timeout=timeout, metadata=call.metadata)
            return reply

        started = time.monotonic()
        running = {asyncio.ensure_future(send(call.timeout))}
        try:
            done, _ = await asyncio.wait(running, timeout=call.hedge_after)
            left = call.timeout - (time.monotonic() - started)
            if not done and left > 0 and call.on_hedge():
                running.add(asyncio.ensure_future(send(left)))
            while True:
                done, pending = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                good = next((task for task in done if task.exception() is None), None)
                if good is not None or not pending:
                    return (good or done.pop()).result()
                running = pending
        finally:
            for task in running:
                task.cancel()

    async def _gather(self, gather: Gather) -> list[Any]:
        if len(gather.steps) == 1:
            return [await self.run(gather.steps[0])]
        gate = asyncio.Semaphore(gather.limit)

        async def one(steps: Steps[Any]) -> Any:
            async with gate:
                return await self.run(steps)

        return await asyncio.gather(*[one(steps) for steps in gather.steps])

    def _in_background(self, background: Background) -> bool:
        if len(self._tasks) >= background.limit:
            return False
        task = asyncio.get_running_loop().create_task(self._finish(background.steps))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def _finish(self, steps: Generator[Effect, Any, Any]) -> None:
        await self.run(steps)
