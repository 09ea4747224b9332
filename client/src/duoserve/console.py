"""The output of a command line, with a proper end when it fails: a full disk, a closed stream, a reader that has gone.

Loads neither gRPC nor numpy: the doctor for manifests needs neither.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TextIO

_SIGPIPE: Final = 141  # what a shell reports for a program that a closed pipe has ended


class Unprintable(Exception):  # noqa: N818 -- ends the program, and is no error of what it did
    """Standard output can't be written; the cause has the reason."""


def guarded(main: Callable[[], int], *, prefix: str = "") -> int:
    """Runs a command line, and flushes what it printed with `say` or `print`; returns its exit code.

    It is 141 if the reader has closed the pipe, as after `head`, and 1, with a line on standard error that begins with
    the prefix, if writing fails.
    """
    try:
        try:
            return main()
        finally:  # also after the SystemExit of --help
            _put_out("")
    except Unprintable as ended:
        if isinstance(ended.__cause__, BrokenPipeError):
            return _SIGPIPE
        put(sys.stderr, f"{prefix}error: Expected to write to standard output. Received: {ended.__cause__}\n")
        return 1


def say(text: str) -> None:
    """Prints a line. Raises Unprintable if standard output can't be written, or its encoding lacks a character."""
    if sys.stdout is None:  # closed before the program began
        raise Unprintable from OSError("a closed one")
    _put_out(f"{text}\n")


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A table: columns as wide as their longest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def put(stream: TextIO | None, text: str) -> Exception | None:
    """Writes to a standard stream, if there is one, at once; returns the error, if any.

    After an error the stream goes to the null device: Python flushes it once more when it exits, and
    would change the exit code.
    """
    if stream is None:
        return None
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError) as error:
        with contextlib.suppress(OSError, ValueError), Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
        return error
    return None


def _put_out(text: str) -> None:
    if (error := put(sys.stdout, text)) is not None:
        raise Unprintable from error
