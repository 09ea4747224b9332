"""Locks and resources that survive a fork: gunicorn and multiprocessing copy a process with its locks held."""

import os
import threading
import weakref
from typing import Any

_registered: weakref.WeakSet[Any] = weakref.WeakSet()


def forget_in_child(owner: Any) -> None:
    """Has `owner.after_fork()` called in every child process: it drops what is the parent's, without using it."""
    _registered.add(owner)


class Lock:
    """A threading.Lock that is free in a forked child, whoever held it in the parent."""

    __slots__ = ("__weakref__", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        forget_in_child(self)

    def after_fork(self) -> None:
        """A new lock: its holder stayed in the parent."""
        self._lock = threading.Lock()

    def acquire(self, timeout: float) -> bool:
        """Takes the lock within `timeout` seconds, or returns False."""
        return self._lock.acquire(timeout=timeout)

    def release(self) -> None:
        """Releases the lock."""
        self._lock.release()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exception: object) -> None:
        self._lock.release()


def _after_fork_in_child() -> None:
    for owner in list(_registered):
        owner.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
