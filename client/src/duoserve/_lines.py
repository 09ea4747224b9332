"""The channel of a process and its successors: opened late, renewed quietly, closed when drained.

A successor is opened when names have to be resolved again or TLS files changed. It takes
over once it is connected; until then, and if it never is, the old channel goes on. (gRPC
shares connections between channels to one address, so a successor costs a look-up.)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from duoserve._channel import Plan
from duoserve._fork import forget_in_child
from duoserve.errors import ClientClosed, DuoserveError

__all__ = ["Line", "Lines"]

_POLL: Final = 0.02  # seconds between looks at a successor that is connecting
_PATIENCE: Final = 20.0  # seconds before a successor that does not connect is given up

# Channels of a parent process. Dropping the last reference would close them, which touches the
# parent's threads and sockets, so a child keeps them for good.
_abandoned: list[Any] = []


class Line(Protocol):
    """An open channel."""

    fingerprint: str

    def method(self, path: str) -> Any:
        """The callable of a method, bytes to bytes."""

    def connect(self) -> None:
        """Starts to connect."""

    def connected(self) -> bool:
        """Whether calls can go out at once."""

    def retire(self, within: float) -> None:
        """Closes the channel after `within` seconds, when its last call has ended."""


class Lines:
    """Decides which channel a call takes. Not safe for threads: the sync client holds a lock around `renew`."""

    def __init__(
        self, plan: Callable[[], Plan], open_line: Callable[[Plan], Line], *, moves: bool, interval: float
    ) -> None:
        self._plan = plan
        self._open = open_line
        self._moves = moves
        self._interval = interval
        self.current: Line | None = None
        self._next: Line | None = None
        self._next_since = 0.0
        self.check_at = 0.0
        self.longest = 0.0
        self.closed = False
        forget_in_child(self)

    def after_fork(self) -> None:
        """The channels are the parent's."""
        _abandoned.extend((self.current, self._next))
        self.current = self._next = None
        self.check_at = 0.0

    def needs_plan(self) -> bool:
        """Whether `renew` wants a fresh plan (files and names are read for it)."""
        return self.current is None or (self._next is None and time.monotonic() >= self.check_at)

    def make_plan(self) -> Plan | None:
        """A fresh plan; None when there can't be one now, but the present channel still serves."""
        try:
            return self._plan()
        except DuoserveError:
            if self.current is None:
                raise
            return None

    def renew(self, plan: Plan | None) -> Line:
        """The channel to use now. Call it when there is none, or `check_at` has come."""
        if self.closed:
            raise ClientClosed("Expected an open client. Received: a call after close()")
        now = time.monotonic()
        if self.current is None:
            assert plan is not None
            self.current = self._open(plan)
            self.check_at = now + self._interval
        elif self._next is not None:
            self._follow(now)
        elif plan is not None and (self._moves or plan.fingerprint != self.current.fingerprint):
            self._next, self._next_since = self._open(plan), now
            self._next.connect()
            self.check_at = now + _POLL
        else:
            self.check_at = now + self._interval
        return self.current

    def _follow(self, now: float) -> None:
        assert self.current is not None and self._next is not None
        if self._next.connected():
            self.current.retire(self.longest + 1)
            self.current, self._next = self._next, None
            self.check_at = now + self._interval
        elif now - self._next_since > _PATIENCE:
            self._next.retire(0)
            self._next = None
            self.check_at = now + self._interval
        else:
            self.check_at = now + _POLL

    def close(self) -> list[Line]:
        """Ends all further calls. Gives the channels to close."""
        self.closed = True
        lines = [line for line in (self.current, self._next) if line is not None]
        self.current = self._next = None
        return lines
