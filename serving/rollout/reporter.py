"""Progress of a rollout, for people: on stderr, so that stdout has only the result."""

from __future__ import annotations

import sys
import time
from typing import Final, Protocol, TextIO

from duoserve.console import put

__all__ = ["ConsoleReporter", "Reporter", "SilentReporter"]

_CLEAR: Final = "\r\x1b[K"


class Reporter(Protocol):
    """Receives what happens."""

    def report(self, step: str, text: str) -> None:
        """Something happened."""

    def progress(self, step: str, done: int, total: int, text: str) -> None:
        """Progress of a step; called often."""


class SilentReporter:
    """Reports nothing."""

    def report(self, step: str, text: str) -> None:
        """Nothing."""

    def progress(self, step: str, done: int, total: int, text: str) -> None:
        """Nothing."""


class ConsoleReporter:
    """Prints lines with the time. On a terminal the last one is redrawn; elsewhere each change is a new line."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream: TextIO | None = stream or sys.stderr
        self._moving = self._stream is not None and self._stream.isatty()
        self._last = ""
        self._open = False

    def report(self, step: str, text: str) -> None:
        """One line."""
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
