"""Reading parsed YAML whose shape is not certain: a value of the wrong type counts as absent.

Wrong types are findings of the rule `schema`; the other rules must only survive them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["dig", "integer", "items", "mapping", "matches", "quantity", "strings", "text"]

_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)"
_QUANTITY = re.compile(rf"({_NUMBER}(?:[eE][+-]?\d+)?)|({_NUMBER})([KMGTPE]i|[numkMGTPE])", re.ASCII)
_SUFFIXES: dict[str | None, float] = {
    **{suffix: 1000.0**power for power, suffix in enumerate(("n", "u", "m", None, "k", "M", "G", "T", "P", "E"), -3)},
    **{f"{suffix}i": 1024.0**power for power, suffix in enumerate("KMGTPE", 1)},
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
    match = None if isinstance(value, bool) else _QUANTITY.fullmatch(str(value))
    return float(match[1] or match[2]) * _SUFFIXES[match[3]] if match else None


def matches(selector: Any, labels: Mapping[str, Any]) -> bool:
    """Whether a label selector (matchLabels and matchExpressions) selects these labels."""
    if any(labels.get(key) != value for key, value in mapping(dig(selector, "matchLabels")).items()):
        return False
    for expression in items(dig(selector, "matchExpressions")):
        value, wanted = labels.get(text(expression.get("key"))), strings(expression.get("values"))
        holds = {
            "In": value in wanted,
            "NotIn": value not in wanted,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not holds.get(text(expression.get("operator")), True):
            return False
    return True
