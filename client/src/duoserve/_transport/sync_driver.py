"""Performs the core's effects by blocking."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ClassVar, Final, TypeVar

import grpc

from duoserve._calls.effects import Background, Call, Effect, Gather, Offload, SingleFlight, Sleep, Steps
from duoserve._transport.fork import Lock, forget_in_child
from duoserve._transport.managed_channel import BaseChannel, ManagedChannel
from duoserve.errors import ClientClosed

T = TypeVar("T")
# Referenced here and by their timers: a forked child has no timers, and must not close its parent's channels.
_retiring: set[SyncChannel] = set()
_WORKERS: Final = 16  # threads for parts of batches and for shadows, started on demand


class SyncChannel(BaseChannel):
    """A grpc.Channel and its callables."""

    library: ClassVar[Any] = grpc
    _ready: Any = None

    def connect(self) -> None:
        self._ready = grpc.channel_ready_future(self._channel)

    def connected(self) -> bool:
        return self._ready is not None and self._ready.done()

    def retire(self, within: float) -> None:
        if not self._owned:
            return
        if within <= 0:
            self.close()
            return
        _retiring.add(self)
        timer = threading.Timer(within, self.close)
        timer.daemon = True
        timer.start()

    def close(self) -> None:
        if self._ready is not None and not self._ready.done():
            self._ready.cancel()
        if self._owned:
            self._channel.close()
        _retiring.discard(self)


class SyncDriver:
    """Runs steps on the calling thread. Thread-safe."""

    def __init__(self, managed: ManagedChannel) -> None:
        self._managed = managed
        self._lock = Lock()
        self._renewing = Lock()
        self._once: dict[Any, Lock] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._pending = 0
        forget_in_child(self)

    def after_fork(self) -> None:
        """The threads stayed in the parent."""
        self._pool = None
        self._pending = 0

    def run(self, steps: Steps[T]) -> T:
        """The result of the steps. Raises what they raise."""
        try:
            effect = next(steps)
            while True:
                try:
                    value = self._perform(effect)
                except BaseException as error:
                    effect = steps.throw(error)
                else:
                    effect = steps.send(value)
        except StopIteration as stop:
            found: T = stop.value
            return found

    def close(self) -> None:
        """Closes the channels. Calls in progress fail."""
        with self._lock:
            channels = self._managed.close()
            pool, self._pool = self._pool, None
        for channel in channels:
            channel.close()
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)

    def _perform(self, effect: Effect) -> Any:
        if isinstance(effect, Call):
            return self._call(effect)
        if isinstance(effect, Offload):
            return effect.function()
        if isinstance(effect, Sleep):
            time.sleep(effect.seconds)
            return None
        if isinstance(effect, SingleFlight):
            return self._run_single_flight(effect)
        if isinstance(effect, Gather):
            return self._gather(effect)
        return self._in_background(effect)

    def _call(self, call: Call) -> bytes:
        managed = self._managed
        channel = managed.current
        if channel is None or time.monotonic() >= managed.check_at:
            channel = self._renew()
        if call.timeout > managed.longest:
            managed.longest = call.timeout
        method = channel.method(call.method)
        try:
            if call.hedge_after is None or call.hedge_after >= call.timeout:
                reply: bytes = method(call.request, call.timeout, call.metadata)
                return reply
            return self._hedged(method, call)
        except (ValueError, grpc.RpcError) as error:  # grpc's errors for a closed channel
            if not managed.closed:
                raise
            raise ClientClosed("Expected an open client. Received: close() during the call") from error

    def _renew(self) -> Any:
        managed = self._managed
        current = managed.current
        if not self._renewing.acquire(timeout=-1 if current is None else 0):
            return current  # another thread renews it
        try:
            plan = managed.make_plan()
            with self._lock:
                return managed.renew(plan)
        finally:
            self._renewing.release()

    def _hedged(self, method: Any, call: Call) -> bytes:
        done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        assert call.hedge_after is not None
        started = time.monotonic()
        running = [method.future(call.request, call.timeout, call.metadata)]
        running[0].add_done_callback(done.put)
        try:
            try:
                first = done.get(timeout=call.hedge_after)
            except queue.Empty:
                left = call.timeout - (time.monotonic() - started)
                if left > 0 and call.on_hedge():
                    running.append(method.future(call.request, left, call.metadata))
                    running[1].add_done_callback(done.put)
                first = done.get()
            if first.exception() is not None and len(running) == 2:
                second = done.get()
                first = first if second.exception() is not None else second
            reply: bytes = first.result()
            return reply
        finally:
            for future in running:
                future.cancel()

    def _run_single_flight(self, single: SingleFlight) -> Any:
        with self._lock:
            lock = self._once.setdefault(single.key, Lock())
        taken = lock.acquire(single.timeout)
        try:
            return self.run(single.steps)
        finally:
            if taken:
                lock.release()

    def _gather(self, gather: Gather) -> list[Any]:
        if len(gather.steps) == 1:
            return [self.run(gather.steps[0])]
        # A few threads take work from one list: the pool is shared, and this batch uses no more than its limit.
        left = iter(list(enumerate(gather.steps)))
        results: list[Any] = [None] * len(gather.steps)

        def work() -> None:
            while True:
                with self._lock:
                    i, steps = next(left, (-1, None))
                if steps is None:
                    return
                results[i] = self.run(steps)

        with self._lock:
            helpers = [self._start(work) for _ in range(min(gather.limit, len(gather.steps)) - 1)]
        work()  # on this thread too: the batch makes progress even when the pool is busy
        for helper in helpers:
            if not helper.cancel():
                helper.result()
        return results

    def _in_background(self, background: Background) -> bool:
        with self._lock:
            if self._pending >= background.limit or self._managed.closed:
                return False
            self._start(self._finish, background.steps)
            self._pending += 1
        return True

    def _finish(self, steps: Steps[Any]) -> None:
        try:
            self.run(steps)
        finally:
            with self._lock:
                self._pending -= 1

    def _start(self, function: Callable[..., None], *arguments: Any) -> Future[None]:
        """Runs it in the pool. Call it under the lock: a pool that `close` has shut down takes nothing."""
        if self._managed.closed:
            raise ClientClosed("Expected an open client. Received: a call after close()")
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_WORKERS, "duoserve")
        return self._pool.submit(function, *arguments)
