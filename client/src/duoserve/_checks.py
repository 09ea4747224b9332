"""Checks of options and arguments, for every module. Errors read: Expected … Received …"""

import re
from collections.abc import Iterable
from typing import Any, Final

from duoserve.errors import InvalidInput

Target = int | str | None  # the version or label that a call asks for; None: the latest version
Metadata = tuple[tuple[str, str], ...]

_KEY: Final = re.compile(r"[0-9a-z_.-]+(?<!-bin)")
_VALUE: Final = re.compile(r"[ -~]*")  # printable ASCII
_LONGEST: Final = 3600.0  # seconds; a deadline is always finite
_LARGEST_VERSION: Final = (1 << 63) - 1  # an int64 on the wire


def expect_kind(name: str, value: Any, kind: type | tuple[type, ...], what: str) -> None:
    """Refuses a value of another type. The message does not show the value: it may be a secret, or long."""
    if not isinstance(value, kind):
        raise InvalidInput(f"Expected {name} to be {what}. Received: {type(value).__name__}")


def expect_number(name: str, value: Any, least: float, most: float) -> None:
    """Refuses values that are not finite numbers, or out of range."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise InvalidInput(f"Expected {name} between {least} and {most}. Received: {value!r:.80}")


def expect_whole(name: str, value: Any, least: int, most: int) -> None:
    """Refuses values that are not whole numbers, or out of range."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidInput(f"Expected {name} as a whole number from {least} to {most}. Received: {value!r:.80}")


def expect_name(name: str, value: Any) -> None:
    """Refuses values that are not str, empty strings, and lone surrogates, which UTF-8 can't encode."""
    if not isinstance(value, str) or not value or not value.isprintable():
        raise InvalidInput(f"Expected {name} to be a non-empty str. Received: {value!r:.80}")


def resolve_target(label: Any, version: Any) -> Target:
    """The label or version to ask for."""
    if label is not None and version is not None:
        raise InvalidInput(f"Expected a label or a version. Received: label={label!r} and version={version!r}")
    if label is not None:
        expect_name("label", label)
    if version is not None:
        expect_whole("version", version, 1, _LARGEST_VERSION)
    found: Target = label if label is not None else version
    return found


def timeout_seconds(value: Any) -> float:
    """A finite, positive number of seconds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= _LONGEST:
        raise InvalidInput(f"Expected timeout above 0 and up to {_LONGEST:g} seconds. Received: {value!r:.80}")
    return float(value)


def check_metadata(pairs: Any) -> Metadata:
    """The pairs in gRPC's form: keys in lower case, values in ASCII. Errors show no value: it may be a secret."""
    expect_kind("metadata", pairs, Iterable, "pairs of str")
    found = tuple(pairs)
    for pair in found:
        if not isinstance(pair, tuple) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise InvalidInput(f"Expected metadata as pairs of str. Received: {type(pair).__name__}")
        if not _KEY.fullmatch(pair[0]) or not _VALUE.fullmatch(pair[1]):
            raise InvalidInput(
                f"Expected metadata with a key in lower case and a value in ASCII. Received: one with key {pair[0]!r}"
            )
    return found
