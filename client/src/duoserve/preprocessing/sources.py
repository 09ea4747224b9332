"""What a caller gave: a path, bytes or a file object; a text."""

import os
from pathlib import Path
from typing import Any

from duoserve.errors import InvalidInput


def read_bytes(source: Any, name: str, others: str) -> bytes:
    """The bytes behind a path, bytes or a file object; `name` and `others` (", an array or …") are for errors."""
    if isinstance(source, bytes):
        return source
    try:
        if isinstance(source, (bytearray, memoryview)):
            return bytes(source)
        if isinstance(source, (str, os.PathLike)):
            return Path(os.fsdecode(source)).read_bytes()
        readable = hasattr(source, "read")
        data = source.read() if readable else None
    except Exception as error:  # the caller's own source can raise anything
        received = str(error) if isinstance(error, OSError) and str(error) else repr(error)
        raise InvalidInput(f"Expected {name} to be a readable file. Received: {received:.300}") from error
    if isinstance(data, bytes):
        return data
    if readable:
        raise InvalidInput(
            f"Expected {name} file to be opened in binary mode. Received: one that reads {kind_of(data)}"
        )
    raise InvalidInput(f"Expected {name} to be a path, bytes, a file object{others}. Received: {kind_of(source)}")


def utf8(text: Any) -> bytes:
    """The text as UTF-8. Refuses what is not a str, and lone surrogates, which UTF-8 can't carry."""
    if not isinstance(text, str):
        raise InvalidInput(f"Expected text to be a str. Received: {kind_of(text)}")
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidInput(f"Expected text to be valid Unicode. Received: {error.reason}") from error


def kind_of(value: Any) -> str:
    """Name of the value's type, for errors."""
    return type(value).__name__
