"""JSON as RapidJSON has it, the parser and writer of the stock server: its errors and its layout."""

from __future__ import annotations

import decimal
import json
import math
import re
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from serving.local.errors import invalid_argument

_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(\.[0-9]*)?([eE][+-]?[0-9]*)?")
_SPACE = b" \n\r\t"
_WORDS: Final = (b"null", b"true", b"false", b"NaN", b"Infinity", b"Inf", b"-NaN", b"-Infinity", b"-Inf")
_MAX_DEPTH: Final = 250
_TYPES: Final = {dict: "Object", list: "Array", str: "String"}


def parse(body: bytes) -> dict[str, Any]:
    """The top-level object of a request.

    Raises:
        ServingError: INVALID_ARGUMENT, worded and with the offset that RapidJSON gives.
    """
    if not body:
        raise invalid_argument("JSON Parse error: The document is empty")
    try:
        value = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        message, offset = _Scanner(body).problem()
        raise invalid_argument(f"JSON Parse error: {message} at offset: {offset}") from error
    if not isinstance(value, dict):
        raise invalid_argument(f"JSON Value: {dump(value)} Is not object")
    return value


class _Problem(Exception):  # noqa: N818 - never leaves this module
    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.message, self.offset = message, offset


class _Scanner:
    """Finds what is wrong with a document, only ever run on one that Python would not parse."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def problem(self) -> tuple[str, int]:
        try:
            at = self._space(0)
            if at >= len(self._data):
                return "The document is empty.", at
            at = self._space(self._value(at, 0))
            if at < len(self._data):
                return "The document root must not be followed by other values.", at
        except _Problem as problem:
            return problem.message, problem.offset
        return "Invalid value.", 0

    def _space(self, at: int) -> int:
        while at < len(self._data) and self._data[at] in _SPACE:
            at += 1
        return at

    def _peek(self, at: int) -> bytes:
        return self._data[at : at + 1]

    def _value(self, at: int, depth: int) -> int:
        if depth > _MAX_DEPTH:
            raise _Problem("Terminate parsing due to Handler error.", at)
        first = self._peek(at)
        if first == b"{":
            return self._object(at, depth)
        if first == b"[":
            return self._array(at, depth)
        if first == b'"':
            return self._string(at)
        if first in (b"n", b"t", b"f") or self._data[at : at + 2].lstrip(b"-")[:1] in (b"N", b"I"):
            return self._word(at)
        return self._number(at)

    def _word(self, at: int) -> int:
        """A literal; the error is where it stops being one."""
        furthest = at
        for word in _WORDS:
            matched = next(
                (i for i in range(len(word)) if self._data[at + i : at + i + 1] != word[i : i + 1]), len(word)
            )
            if matched == len(word):
                return at + matched
            furthest = max(furthest, at + matched)
        raise _Problem("Invalid value.", furthest)

    def _object(self, at: int, depth: int) -> int:
        at = self._space(at + 1)
        if self._peek(at) == b"}":
            return at + 1
        while True:
            if self._peek(at) != b'"':
                raise _Problem("Missing a name for object member.", at)
            at = self._space(self._string(at))
            if self._peek(at) != b":":
                raise _Problem("Missing a colon after a name of object member.", at)
            at = self._space(self._value(self._space(at + 1), depth + 1))
            end = self._peek(at)
            if end == b"}":
                return at + 1
            if end != b",":
                raise _Problem("Missing a comma or } after an object member.", at)
            at = self._space(at + 1)

    def _array(self, at: int, depth: int) -> int:
        at = self._space(at + 1)
        if self._peek(at) == b"]":
            return at + 1
        while True:
            at = self._space(self._value(at, depth + 1))
            end = self._peek(at)
            if end == b"]":
                return at + 1
            if end != b",":
                raise _Problem("Missing a comma or ] after an array element.", at)
            at = self._space(at + 1)

    def _string(self, at: int) -> int:
        at += 1
        while True:
            char = self._peek(at)
            if char == b'"':
                return at + 1
            if char in (b"", b"\0"):
                raise _Problem("Missing a closing quotation mark in string.", at)
            if char < b" ":
                raise _Problem("Invalid encoding in string.", at)
            at = self._escape(at) if char == b"\\" else at + 1

    def _escape(self, at: int) -> int:
        if self._peek(at + 1) == b"u":
            if not re.fullmatch(rb"[0-9a-fA-F]{4}", self._data[at + 2 : at + 6]):
                raise _Problem("Incorrect hex digit after \\u escape in string.", at)
            return at + 6
        if self._peek(at + 1) not in (b'"', b"\\", b"/", b"b", b"f", b"n", b"r", b"t"):
            raise _Problem("Invalid escape character in string.", at)
        return at + 2

    def _number(self, at: int) -> int:
        match = _NUMBER.match(self._data, at)
        if not match:
            # RapidJSON has eaten the minus before it looks for a digit.
            raise _Problem("Invalid value.", at + (self._peek(at) == b"-"))
        if match[1] == b".":
            raise _Problem("Miss fraction part in number.", match.end(1))
        if match[2] is not None and not match[2][-1:].isdigit():
            raise _Problem("Miss exponent in number.", match.end())
        return match.end()


def type_name(value: Any) -> str:
    """RapidJSON's name of a value's type."""
    if value is None or isinstance(value, bool):
        return "Null" if value is None else str(value)
    return next((name for kind, name in _TYPES.items() if isinstance(value, kind)), "Number")


def quote(text: str) -> str:
    """A JSON string; only what JSON forbids is escaped."""
    return '"' + "".join(_ESCAPES.get(c) or (c if c >= " " else f"\\u{ord(c):04X}") for c in text) + '"'


def decimal_text(value: np.floating[Any] | float) -> str:
    """A float in six digits if that is exact, else in as many as it takes; always with a point or an exponent."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    text = f"{value:.6g}"
    single = isinstance(value, np.float32)
    if (np.float32(text) if single else float(text)) != value:
        text = f"{value:.9g}" if single else f"{value:.17g}"
    return text if "." in text or "e" in text else text + ".0"


def dump(value: Any) -> str:
    """A value for an error message: objects over several lines, arrays on one."""
    if isinstance(value, float):
        return decimal_text(np.float32(value) if abs(value) <= float(np.finfo(np.float32).max) else value)
    return "".join(_dump(value, 0))


def _dump(value: Any, level: int) -> Iterator[str]:
    if isinstance(value, dict):
        yield "{"
        for position, (key, item) in enumerate(value.items()):
            yield ("," if position else "") + "\n" + "    " * (level + 1) + quote(key) + ": "
            yield from _dump(item, level + 1)
        yield ("\n" + "    " * level if value else "") + "}"
    elif isinstance(value, list):
        yield "["
        for position, item in enumerate(value):
            yield ", " if position else ""
            yield from _dump(item, level + 1)
        yield "]"
    elif isinstance(value, str):
        yield quote(value)
    elif value is None or isinstance(value, bool):
        yield {None: "null", True: "true", False: "false"}[value]
    elif isinstance(value, int):
        yield str(value)
    else:
        yield _double(value)


def _double(value: float) -> str:
    """RapidJSON's shortest form of a double."""
    if not math.isfinite(value):
        return ""
    sign, digits, exponent = decimal.Decimal(repr(value)).as_tuple()
    text = "".join(map(str, digits)).rstrip("0") or "0"
    point = len(digits) + int(exponent)
    if value == 0:
        number = "0.0"
    elif len(text) <= point <= 21:
        number = text.ljust(point, "0") + ".0"
    elif 0 < point <= 21:
        number = f"{text[:point]}.{text[point:]}"
    elif -6 < point <= 0:
        number = "0." + "0" * -point + text
    else:
        number = text[0] + (f".{text[1:]}" if len(text) > 1 else "") + f"e{point - 1}"
    return "-" * sign + number
