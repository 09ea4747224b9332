"""Readers of numbers on a command line, for `type` of argparse. They take plain digits only."""

import argparse


def positive(text: str) -> int:
    """A number of at least 1."""
    return _number(text, 1)


def count(text: str) -> int:
    """A number of at least 0."""
    return _number(text, 0)


def port(text: str) -> int:
    """The number of a TCP port; 0 is any free one."""
    if not text.isascii() or not text.isdigit() or int(text) >= 1 << 16:
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, received {text!r}")
    return int(text)


def sizes(text: str) -> tuple[int, ...]:
    """Numbers of at least 1, separated by commas."""
    return tuple(positive(part) for part in text.split(","))


def _number(text: str, least: int) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise argparse.ArgumentTypeError(f"expected a number of at least {least}, received {text!r}")
    return int(text)
