"""Repeats calls that fail temporarily."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from serving.rollout.errors import Away

T = TypeVar("T")
_FIRST, _LONGEST = 0.05, 1.0


def patiently(attempt: Callable[[], T], seconds: float) -> T:
    """The result of `attempt`, which is repeated while it raises `Away`; none begins more than `seconds` later.

    It must be safe to repeat: the reply to a successful attempt may be lost.
    """
    end = time.monotonic() + seconds
    pause = _FIRST
    while True:
        try:
            return attempt()
        except Away:
            if time.monotonic() + pause > end:
                raise
        time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 -- so that two operators don't stay in step
        pause = min(2 * pause, _LONGEST)
