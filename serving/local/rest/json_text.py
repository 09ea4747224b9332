"""JSON by the rules of the stock server's parser, RapidJSON, where they differ from Python's.

It takes bytes that are not UTF-8, a byte order mark and text behind the document; of a key given twice the first
value counts; it refuses numbers beyond a double and lone surrogates.
"""

import itertools
import json
import math
import re
from collections.abc import Iterator
from typing import Any, Final

from serving.local.errors import invalid_argument

_HUGE_NUMBER: Final = re.compile(r"[0-9]{300}|[eE]\+?[0-9]{3}")
_SHORT: Final = re.compile(r'("[^"\\]*(?:\\.[^"\\]*)*")|-NaN|Inf(?!inity)', re.DOTALL)
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_MAX_DUMP: Final = 256


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    return made if len(made) == len(pairs) else dict(reversed(pairs))


def _finite(text: str) -> int | float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("Number too big to be stored in double")
    return int(text) if text.lstrip("-").isdigit() else value


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object)
# Calls back for each number, which takes several times as long.
_CAREFUL_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object, parse_float=_finite, parse_int=_finite)


def parse(body: bytes) -> dict[str, Any]:
    """The top-level object of a request. Bytes that are not UTF-8 become surrogate escapes.

    Raises:
        ServingError: INVALID_ARGUMENT, with the place of the mistake.
        RecursionError: It is nested too deeply.
    """
    if not body:
        raise invalid_argument("JSON Parse error: The document is empty")
    text = body.decode("utf-8-sig", "surrogateescape").lstrip(" \t\r\n")
    if "Inf" in text or "-NaN" in text:
        text = _SHORT.sub(lambda found: found[1] or {"Inf": "Infinity", "-NaN": "NaN"}[found[0]], text)
    decoder = _CAREFUL_DECODER if _HUGE_NUMBER.search(text) else _DECODER
    try:
        value, _ = decoder.raw_decode(text)
        if _SURROGATE.search(text):
            json.dumps(decoder.raw_decode(readable(text))[0], ensure_ascii=False).encode()  # fails for a lone one
    except ValueError as error:
        raise invalid_argument(f"JSON Parse error: {error}") from error
    if not isinstance(value, dict):
        raise invalid_argument(f"JSON Value: {dump(value)} Is not object")
    return value


def readable(text: str) -> str:
    """The text without bytes that are not UTF-8, which protobuf refuses in a name."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def dump(value: Any) -> str:
    """A value for an error message, cut after 256 characters: objects over several lines, lists on one."""
    return "".join(itertools.islice(_pieces(value, "\n"), _MAX_DUMP))[:_MAX_DUMP]


def _pieces(value: Any, line: str) -> Iterator[str]:
    inner = line + "    "
    if isinstance(value, dict) and value:
        for position, (key, item) in enumerate(value.items()):
            yield f"{',' if position else '{'}{inner}{json.dumps(key, ensure_ascii=False)}: "
            yield from _pieces(item, inner)
        yield line + "}"
    elif isinstance(value, list) and value:
        for position, item in enumerate(value):
            yield ", " if position else "["
            yield from _pieces(item, inner)
        yield "]"
    else:
        yield json.dumps(value, ensure_ascii=False)
