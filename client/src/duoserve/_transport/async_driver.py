"""Performs the core's effects by awaiting."""

import asyncio
import contextlib
import inspect
import time
from collections.abc import Callable
from typing import Any, ClassVar, Final, TypeVar

import grpc.aio

from duoserve._calls.effects import Background, Call, Effect, Gather, Offload, SingleFlight, Sleep, Steps
from duoserve._transport.fork import Lock
from duoserve._transport.managed_channel import BaseChannel, ManagedChannel
from duoserve.errors import ClientClosed

T = TypeVar("T")
_CLOSE_WAIT: Final = 5.0  # seconds that close() waits for another thread's event loop
_retiring: set[asyncio.Task[None]] = set()  # an event loop itself holds its tasks only weakly


class AsyncChannel(BaseChannel):
    """A grpc.aio.Channel and its callables."""

    library: ClassVar[Any] = grpc.aio

    def connect(self) -> None:
        self._channel.get_state(try_to_connect=True)

    def connected(self) -> bool:
        return bool(self._channel.get_state() is grpc.ChannelConnectivity.READY)

    def retire(self, within: float) -> None:
        task = asyncio.get_running_loop().create_task(self.close(within))
        _retiring.add(task)
        task.add_done_callback(_retiring.discard)

    async def close(self, grace: float | None = None) -> None:
        if self._owned:
            await self._channel.close(grace)


class _Loop:
    """The state of one event loop: gRPC's async channels, and asyncio's locks and tasks, belong to one loop."""

    def __init__(self, managed: ManagedChannel) -> None:
        self.managed = managed
        self.once: dict[Any, asyncio.Lock] = {}
        self.renewing = asyncio.Lock()
        self.tasks: set[asyncio.Task[Any]] = set()

    async def close(self) -> None:
        channels = self.managed.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for channel in channels:
            await channel.close()


class AsyncDriver:
    """Runs steps in the running event loop. Thread-safe; each thread may have its own event loop."""

    def __init__(self, new_managed_channel: Callable[[], ManagedChannel]) -> None:
        self._new_managed_channel = new_managed_channel
        self._lock = Lock()
        self._loops: dict[asyncio.AbstractEventLoop, _Loop] = {}
        self._closed = False

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
        """Closes the channels of every event loop. Calls in progress fail."""
        here = asyncio.get_running_loop()
        with self._lock:
            self._closed = True
            loops, self._loops = self._loops, {}
        closing = []
        for loop, state in loops.items():
            if loop is here:
                closing.append(state.close())
            elif loop.is_running():
                closing.append(_close_elsewhere(state, loop))
            # A stopped loop can't close anything: gRPC closes a channel once nothing refers to it.
        await asyncio.gather(*closing, return_exceptions=True)

    def _here(self) -> _Loop:
        """The state of the running event loop. Raises ClientClosed after `close`."""
        loop = asyncio.get_running_loop()
        found = self._loops.get(loop)
        if found is None:
            with self._lock:
                if self._closed:
                    raise ClientClosed("Expected an open client. Received: a call after close()")
                for ended in [known for known in self._loops if known.is_closed()]:
                    del self._loops[ended]  # its channels close with it
                found = self._loops[loop] = _Loop(self._new_managed_channel())
        return found

    async def _perform(self, effect: Effect) -> Any:
        if isinstance(effect, Call):
            return await self._call(effect)
        if isinstance(effect, Offload):
            found = await asyncio.get_running_loop().run_in_executor(None, effect.function)
            return await found if inspect.isawaitable(found) else found
        if isinstance(effect, Sleep):
            return await asyncio.sleep(effect.seconds)
        if isinstance(effect, SingleFlight):
            return await self._run_single_flight(effect)
        if isinstance(effect, Gather):
            return await self._gather(effect)
        return self._in_background(effect)

    async def _run_single_flight(self, single: SingleFlight) -> Any:
        lock = self._here().once.setdefault(single.key, asyncio.Lock())
        taken = False
        try:
            with contextlib.suppress(asyncio.TimeoutError):
                taken = await asyncio.wait_for(lock.acquire(), single.timeout)
            return await self.run(single.steps)
        finally:
            if taken:
                lock.release()

    async def _call(self, call: Call) -> bytes:
        here = self._here()
        managed = here.managed
        channel: Any = managed.current
        if channel is None or time.monotonic() >= managed.check_at:
            channel = await _renew(here)
        managed.longest = max(managed.longest, call.timeout)
        method = channel.method(call.method)
        try:
            if call.hedge_after is None or call.hedge_after >= call.timeout:
                reply: bytes = await method(call.request, timeout=call.timeout, metadata=call.metadata)
                return reply
            return await self._hedged(method, call)
        except (grpc.aio.UsageError, grpc.RpcError, asyncio.CancelledError) as error:
            if not managed.closed:
                raise
            raise ClientClosed("Expected an open client. Received: close() during the call") from error

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
        tasks = self._here().tasks
        if len(tasks) >= background.limit:
            return False
        task = asyncio.get_running_loop().create_task(self.run(background.steps))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return True


async def _renew(state: _Loop) -> Any:
    managed = state.managed
    if managed.current is not None and state.renewing.locked():
        return managed.current  # another task renews it
    async with state.renewing:
        return managed.renew(await asyncio.get_running_loop().run_in_executor(None, managed.make_plan))


async def _close_elsewhere(state: _Loop, loop: asyncio.AbstractEventLoop) -> None:
    """Closes the channels of another thread's event loop, in that loop."""
    closing = state.close()
    try:
        done = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(closing, loop))
    except RuntimeError:  # the loop has just ended
        closing.close()
        return
    await asyncio.wait([done], timeout=_CLOSE_WAIT)
