"""SIGTERM ends a command as Ctrl-C does: with a message, a history entry and the lock released."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

__all__ = ["Terminated", "sigterm_interrupts"]


class Terminated(KeyboardInterrupt):
    """SIGTERM was received, as when a Job's pod is evicted."""


@contextlib.contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Raises `Terminated` in the block at SIGTERM; a second one is ignored. Has an effect in the main thread only."""

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
