"""Text protos from files, with errors that name the file and the line."""

from __future__ import annotations

import pathlib
from typing import TypeVar

from google.protobuf import message, text_format

from serving.local._errors import invalid_argument

M = TypeVar("M", bound=message.Message)


def read(path: str | pathlib.Path, into: M) -> M:
    """Parse a text proto file.

    Raises:
        ServingError: INVALID_ARGUMENT when it can't be read or parsed.
    """
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise invalid_argument(f"Invalid protobuf file: '{path}': {error}") from error
    try:
        return text_format.Parse(text, into)
    except text_format.ParseError as error:
        name = f"tensorflow.serving.{into.DESCRIPTOR.name}"
        raise invalid_argument(f"Invalid protobuf file: '{path}': Error parsing text-format {name}: {error}") from error
