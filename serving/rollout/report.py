"""What a person sees while a rollout is at work: on stderr, so that stdout stays for the result."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path
from typing import Final, Protocol, TextIO

__all__ = ["Lines", "Reporter", "Silent", "put"]

_CLEAR: Final = "\r\x1b[K"


def put(stream: TextIO | None, text: str) -> OSError | None:
    """Writes to a standard stream, if there is one; what went wrong is returned, as nobody's output decides a rollout.

    After an error the stream goes to the null device: Python flushes it once more when it exits, and
    would change the exit code.
    """
    if stream is None:
        return None
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        with contextlib.suppress(OSError), Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
        return error
    return None


class Reporter(Protocol):
    """Hears what happens."""

    def say(self, step: str, text: str) -> None:
        """Something happened."""

    def progress(self, step: str, done: int, total: int, text: str) -> None:
        """So much of a step is done; called often."""


class Silent:
    """Says nothing."""

    def say(self, step: str, text: str) -> None:
        """Nothing."""

    def progress(self, step: str, done: int, total: int, text: str) -> None:
        """Nothing."""


class Lines:
    """Lines with the time. On a terminal the last one counts up; elsewhere each change is a line."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream: TextIO | None = stream or sys.stderr
        self._moving = self._stream is not None and self._stream.isatty()
        self._last = ""
        self._open = False

    def say(self, step: str, text: str) -> None:
        """A line of its own."""
        self._put(f"{_CLEAR if self._open else ''}{time.strftime('%H:%M:%S')}  {step:<8}  {text}\n")
        self._open = False
        self._last = ""

    def progress(self, step: str, done: int, total: int, text: str) -> None:
        """A bar that is drawn over itself, or a line when something changed."""
        width = 20
        filled = width * done // total if total else 0
        line = f"{step:<8}  [{'#' * filled}{'.' * (width - filled)}] {done}/{total}  {text}"
        if self._moving:
            self._put(f"{_CLEAR}{time.strftime('%H:%M:%S')}  {line[:100]}")
            self._open = True
        elif line != self._last:
            self._put(f"{time.strftime('%H:%M:%S')}  {line}\n")
        self._last = line

    def _put(self, text: str) -> None:
        if put(self._stream, text):
            self._stream = None
