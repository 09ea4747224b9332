"""One rollout at a time on one models.config."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol

from serving.rollout.errors import Busy, RolloutError

__all__ = ["FileLock", "Lock"]


class Lock(Protocol):
    """Keeps other operators out."""

    def held(self, who: str, what: str) -> contextlib.AbstractContextManager[None]:
        """Holds the lock for a block.

        Args:
            who: Shown to whoever comes second.
            what: The command, likewise.

        Raises:
            Busy: Somebody else has it.
        """

    def check(self) -> None:
        """Called before each edit.

        Raises:
            Busy: The lock was lost.
        """


class FileLock:
    """An flock: it ends with the process that holds it, however that ends."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextlib.contextmanager
    def held(self, who: str, what: str) -> Iterator[None]:
        """Holds the lock for a block."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise RolloutError(f"Expected to lock {self._path}. Received: {error}") from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Busy(f"Expected {self._path} to be free. Received: {self._holder()}") from error
            since = datetime.now(timezone.utc).isoformat(timespec="seconds")
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps({"who": who, "what": what, "since": since}).encode(), 0)
            yield
            os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)

    def check(self) -> None:
        """A lock of the kernel's can't be lost."""

    def _holder(self) -> str:
        try:
            holder = json.loads(self._path.read_text(encoding="utf-8"))
            return f"held by {holder['who']} since {holder['since']}, for: {holder['what']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "held by another process"
