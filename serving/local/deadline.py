"""The deadline of a call."""

from __future__ import annotations

import dataclasses
import time


@dataclasses.dataclass(frozen=True, slots=True)
class Deadline:
    """A point in monotonic time after which the caller no longer waits; None for no limit."""

    at: float | None = None

    @classmethod
    def after(cls, seconds: float | None) -> Deadline:
        return cls(None if seconds is None else time.monotonic() + seconds)

    def milliseconds(self) -> int:
        """Milliseconds left, for `RunOptions.timeout_in_ms`, where 0 is no limit.

        A deadline that has passed counts as no limit, as in the stock server.
        """
        return 0 if self.at is None else max(0, int((self.at - time.monotonic()) * 1000))
