"""The channel of a process and its successors: opened on first use, renewed in the background, closed when drained.

A successor is opened when names have to be resolved again or TLS files changed, and takes over once it is connected.
gRPC shares connections between channels to one address, so it costs only a look-up.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any, ClassVar, Final

from duoserve._transport.channel import ChannelPlan
from duoserve._transport.fork import forget_in_child
from duoserve.errors import ClientClosed, DuoserveError

_POLL: Final = 0.02  # seconds between checks of a successor that is connecting

# Channels of a parent process. Dropping the last reference would close them, which touches the
# parent's threads and sockets, so a child keeps them for good.
_abandoned: list[Any] = []


class BaseChannel:
    """A channel, sync or aio, and its callables. A channel of the caller's (not owned) is never closed."""

    library: ClassVar[Any]  # grpc or grpc.aio

    def __init__(self, channel: Any, fingerprint: str = "", *, owned: bool = True) -> None:
        self.fingerprint = fingerprint
        self._channel = channel
        self._owned = owned
        self._methods: dict[str, Any] = {}

    @classmethod
    def open(cls, plan: ChannelPlan) -> BaseChannel:
        """Opens the channel that a plan describes; that of aio in the running event loop."""
        if plan.credentials is None:
            channel = cls.library.insecure_channel(plan.target, plan.options)
        else:
            channel = cls.library.secure_channel(plan.target, plan.credentials, plan.options)
        return cls(channel, plan.fingerprint)

    def method(self, path: str) -> Any:
        """The callable of a method, bytes to bytes."""
        found = self._methods.get(path)
        if found is None:
            found = self._methods[path] = self._channel.unary_unary(path, None, None)
        return found

    def connect(self) -> None:
        """Starts to connect."""
        raise NotImplementedError

    def connected(self) -> bool:
        """Whether calls can go out at once."""
        raise NotImplementedError

    def retire(self, within: float) -> None:
        """Closes the channel after `within` seconds, or when its last call has ended."""
        raise NotImplementedError

    def close(self) -> Any:
        """Closes the channel now; that of aio returns an awaitable."""
        raise NotImplementedError


@dataclasses.dataclass(eq=False)
class ManagedChannel:
    """Decides which channel a call uses. Not thread-safe: the sync client holds a lock around `renew`."""

    plan: Callable[[], ChannelPlan]
    open_channel: Callable[[ChannelPlan], BaseChannel]
    moves: bool  # whether names can change their addresses
    interval: float  # seconds between plans
    current: BaseChannel | None = None
    successor: BaseChannel | None = None
    plan_at: float = 0.0
    check_at: float = 0.0
    longest: float = 0.0  # timeout of a call, in seconds
    closed: bool = False

    def __post_init__(self) -> None:
        forget_in_child(self)

    def after_fork(self) -> None:
        """The channels are the parent's."""
        _abandoned.extend((self.current, self.successor))
        self.current = self.successor = None
        self.check_at = self.plan_at = 0.0

    def make_plan(self) -> ChannelPlan | None:
        """A fresh plan, which reads files and resolves names. None: not due, or impossible while there is a channel."""
        if self.current is not None and time.monotonic() < self.plan_at:
            return None
        try:
            return self.plan()
        except DuoserveError:
            if self.current is None:
                raise
            return None

    def renew(self, plan: ChannelPlan | None) -> BaseChannel:
        """The channel to use now. Call it when there is none, or at `check_at`."""
        if self.closed:
            raise ClientClosed("Expected an open client. Received: a call after close()")
        now = time.monotonic()
        if self.current is None:
            assert plan is not None
            self.current = self.open_channel(plan)
            self.plan_at = now + self.interval
        elif now >= self.plan_at:
            self.plan_at = now + self.interval
            if plan is not None:
                self._succeed(self.current, plan)
        if self.successor is not None and self.successor.connected():
            self.current.retire(self.longest + 1)
            self.current, self.successor = self.successor, None
        self.check_at = self.plan_at if self.successor is None else min(self.plan_at, now + _POLL)
        return self.current

    def _succeed(self, current: BaseChannel, plan: ChannelPlan) -> None:
        """Opens a successor, unless the present channel or the connecting one fits the plan."""
        if self.successor is not None:
            if self.successor.fingerprint == plan.fingerprint:
                return
            self.successor.retire(0)  # the files changed again: the rotation was incomplete
            self.successor = None
        if self.moves or plan.fingerprint != current.fingerprint:
            self.successor = self.open_channel(plan)
            self.successor.connect()

    def close(self) -> list[BaseChannel]:
        """Ends all further calls. Returns the channels to close."""
        self.closed = True
        channels = [channel for channel in (self.current, self.successor) if channel is not None]
        self.current = self.successor = None
        return channels
