"""Reading parsed YAML whose shape is not certain: a value of the wrong type counts as absent.

Wrong types are findings of the rule `schema`; the other rules must only survive them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["dig", "integer", "items", "mapping", "matches", "quantity", "strings", "text"]

_QUANTITY = re.compile(r"([+-]?\d+(?:\.\d*)?|[+-]?\.\d+)((?:[eE][+-]?\d+)|[KMGTPE]i|[numkMGTPE])?", re.ASCII)
_SUFFIXES = {
    "n": 1e-9,
    "u": 1e-6,
    "m": 1e-3,
    "": 1.0,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "P": 1e15,
    "E": 1e18,
    "Ki": 2.0**10,
    "Mi": 2.0**20,
    "Gi": 2.0**30,
    "Ti": 2.0**40,
    "Pi": 2.0**50,
    "Ei": 2.0**60,
}


def mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[dict[str, Any]]:
    return [mapping(entry) for entry in value] if isinstance(value, list) else []


def strings(value: Any) -> list[str]:
    return [str(entry) for entry in value] if isinstance(value, list) else []


def text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def integer(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def dig(value: Any, *path: str) -> Any:
    """The value at a path of keys, None where it ends early."""
    for key in path:
        value = mapping(value).get(key)
    return value


def quantity(value: Any) -> float | None:
    """A Kubernetes quantity as a number; None when it is invalid."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    match = _QUANTITY.fullmatch(str(value))
    if match is None:
        return None
    number, suffix = match.groups(default="")
    return (
        float(number + suffix)
        if suffix[:1] in ("e", "E") and len(suffix) > 1 and suffix != "Ei"
        else (float(number) * _SUFFIXES[suffix])
    )


def matches(selector: Any, labels: Mapping[str, Any]) -> bool:
    """Whether a label selector (matchLabels and matchExpressions) selects these labels."""
    if any(labels.get(key) != value for key, value in mapping(dig(selector, "matchLabels")).items()):
        return False
    for expression in items(dig(selector, "matchExpressions")):
        value, wanted = labels.get(text(expression.get("key"))), strings(expression.get("values"))
        operator = expression.get("operator")
        if (
            (operator == "In" and value not in wanted)
            or (operator == "NotIn" and value in wanted)
            or (operator == "Exists" and value is None)
            or (operator == "DoesNotExist" and value is not None)
        ):
            return False
    return True
