"""Progress of a rollout, for people: on stderr, so that stdout has only the result."""

import sys
import time
from typing import Final, TextIO

from duoserve.console import put

_CLEAR: Final = "\r\x1b[K"
_WIDTH: Final = 20


class Reporter:
    """Receives what happens. This one ignores it."""

    def report(self, step: str, text: str) -> None:
        """Something happened."""

    def progress(self, step: str, done: int, total: int, text: str) -> None:
        """Progress of a step; called often."""


class ConsoleReporter(Reporter):
    """Prints lines with the time. On a terminal the last one is redrawn; elsewhere each change is a new line."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream: TextIO | None = stream or sys.stderr
        self._moving = self._stream is not None and self._stream.isatty()
        self._last = ""
        self._open = False

    def report(self, step: str, text: str) -> None:
        self._put(f"{_CLEAR if self._open else ''}{time.strftime('%H:%M:%S')}  {step:<8}  {text}\n")
        self._open = False
        self._last = ""

    def progress(self, step: str, done: int, total: int, text: str) -> None:
        filled = _WIDTH * done // total if total else 0
        line = f"{step:<8}  [{'#' * filled}{'.' * (_WIDTH - filled)}] {done}/{total}  {text}"
        if self._moving:
            self._put(f"{_CLEAR}{time.strftime('%H:%M:%S')}  {line[:100]}")
            self._open = True
        elif line != self._last:
            self._put(f"{time.strftime('%H:%M:%S')}  {line}\n")
        self._last = line

    def _put(self, text: str) -> None:
        if put(self._stream, text):
            self._stream = None
