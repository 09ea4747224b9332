"""JSON by the rules of the stock server's parser, RapidJSON.

It is more lenient than Python's parser (NaN and Inf, bytes that are not UTF-8, text behind the
document, a byte order mark) and stricter with numbers beyond a double and with lone surrogates.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Collection, Iterator
from typing import Any, Final

from serving.local.errors import invalid_argument

_UNUSUAL_NUMBER: Final = re.compile(r"[0-9]{19}|[eE]\+?[0-9]{3}")
_CONSTANT: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|-?Inf(?!inity)|-NaN', re.DOTALL)
_CONSTANTS: Final = {"Inf": "Infinity", "-Inf": "-Infinity", "-NaN": "NaN"}
_ESCAPE: Final = re.compile(r"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F])|.)", re.DOTALL)
_TYPES: Final = {dict: "Object", list: "Array", str: "String"}
_MAX_DUMP: Final = 256


class Repeated(dict[str, Any]):
    """An object in which a key occurs twice. As a dict it holds the first value of each key.

    Attributes:
        pairs: All keys with their values, in the order of the document.
    """

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(reversed(pairs))
        self.pairs = pairs


def members(value: dict[str, Any]) -> Collection[tuple[str, Any]]:
    """All keys and values of an object, repeated keys too."""
    return value.pairs if isinstance(value, Repeated) else value.items()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    return made if len(made) == len(pairs) else Repeated(pairs)


def _double(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("Number too big to be stored in double")
    return value


def _integer(text: str) -> float:
    """An integer of 64 bits, anything beyond as a double."""
    value = int(text) if len(text) <= 20 else 1 << 64
    return value if -(1 << 63) <= value < 1 << 64 else _double(text)


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object)
# Calls back for each number, which takes several times as long.
_CAREFUL_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object, parse_float=_double, parse_int=_integer)


def parse(body: bytes) -> dict[str, Any]:
    """The top-level object of a request. Bytes that are not UTF-8 become surrogate escapes.

    Raises:
        ServingError: INVALID_ARGUMENT, with the place of the mistake.
        RecursionError: It is nested too deeply.
    """
    if not body:
        raise invalid_argument("JSON Parse error: The document is empty")
    text = body.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    try:
        try:
            value = _decode(text)
        except json.JSONDecodeError:
            value = _decode(_CONSTANT.sub(lambda found: _CONSTANTS.get(found[0], found[0]), text))
    except ValueError as error:
        raise invalid_argument(f"JSON Parse error: {error}") from error
    if not isinstance(value, dict):
        raise invalid_argument(f"JSON Value: {dump(value)} Is not object")
    return value


def _decode(text: str) -> Any:
    start = len(text) - len(text.lstrip(" \t\r\n"))
    decoder = _CAREFUL_DECODER if _UNUSUAL_NUMBER.search(text) else _DECODER
    value, end = decoder.raw_decode(text, start)
    if "\\u" in text and any(found[1] for found in _ESCAPE.finditer(text, start, end)):
        raise ValueError("The surrogate pair in string is invalid")
    return value


def readable(text: str) -> str:
    """The text without bytes that are not UTF-8, which protobuf refuses in a name."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def type_name(value: Any) -> str:
    """RapidJSON's name of a value's type."""
    if value is None or isinstance(value, bool):
        return "Null" if value is None else str(value)
    return next((name for kind, name in _TYPES.items() if isinstance(value, kind)), "Number")


def dump(value: Any) -> str:
    """A value for an error message, cut after about 256 characters: objects over several lines, arrays on one."""
    text = ""
    for part in _dump(value, 0):
        text += part
        if len(text) >= _MAX_DUMP:
            break
    return text


def _scalar(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _dump(value: Any, level: int) -> Iterator[str]:
    if isinstance(value, dict):
        yield "{"
        for position, (key, item) in enumerate(members(value)):
            yield ("," if position else "") + "\n" + "    " * (level + 1) + _scalar(key) + ": "
            yield from _dump(item, level + 1)
        yield ("\n" + "    " * level if value else "") + "}"
    elif isinstance(value, list):
        yield "["
        for position, item in enumerate(value):
            yield ", " if position else ""
            yield from _dump(item, level + 1)
        yield "]"
    else:
        yield _scalar(value)
