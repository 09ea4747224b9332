"""Printing to a standard output that may be full, closed, or read by nobody any more."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Final, TextIO

__all__ = ["Unprintable", "complain", "flush", "say"]

_SIGPIPE: Final = 141  # what a shell reports of a program that a closed pipe has ended


class Unprintable(Exception):  # noqa: N818 -- ends the program, and is no error of a call
    """Standard output took no more."""

    def end(self) -> int:
        """Says why, unless the reader has simply gone, as `head` does; the exit code."""
        _forget(sys.stdout)
        if isinstance(self.__cause__, BrokenPipeError):
            return _SIGPIPE
        complain(f"error: Expected to write to standard output. Received: {self.__cause__}")
        return 1


def say(text: str) -> None:
    """Prints a line.

    Raises:
        Unprintable: It could not be written, or not in the encoding of standard output.
    """
    try:
        if sys.stdout is None:  # closed before the program began
            raise OSError("a closed one")
        sys.stdout.write(text + "\n")
    except (OSError, ValueError) as error:
        raise Unprintable from error
    flush()


def flush() -> None:
    """Writes what was printed, now rather than while the interpreter ends.

    Raises:
        Unprintable: It could not be written.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError) as error:
        raise Unprintable from error


def complain(text: str) -> None:
    """Prints a line to standard error, where that can be written."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(f"duoserve: {text}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        _forget(sys.stderr)


def _forget(stream: TextIO | None) -> None:
    """Lets go of what is still in the buffer: it would fail once more while the interpreter ends."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # None, closed, or no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # type: ignore[union-attr]
