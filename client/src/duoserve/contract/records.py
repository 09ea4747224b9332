"""Values of JSON records, checked as they are read."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any


class ContractError(ValueError):
    """An invalid specification: not JSON, a missing key, a value out of range."""


def take(record: Mapping[str, Any], key: str, kind: type) -> Any:
    """The value of `key`, which must have this type."""
    value = record.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ContractError(f"Expected {key} of type {kind.__name__} in the PreprocessingSpec. Received: {value!r:.80}")
    return value


def take_base64(record: Mapping[str, Any], key: str) -> bytes:
    """The bytes that a string encodes."""
    text = take(record, key, str)
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ContractError(f"Expected {key} in base64. Received: {head(text)}") from error


def head(text: str | bytes) -> str:
    """The beginning of what was received, for an error."""
    return repr(text[:60]) + ("…" if len(text) > 60 else "")


def check_int(name: str, value: Any, least: int, most: int | None = None) -> None:
    """Refuses values that are not integers in this range."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least or (most is not None and value > most):
        limits = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ContractError(f"Expected {name} to be an integer {limits}. Received: {value!r}")
