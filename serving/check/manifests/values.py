"""Reading parsed YAML whose shape is not certain: a value of the wrong type counts as absent.

Wrong types are findings of the rule `schema`; the other rules must only survive them.
"""

import re
from collections.abc import Mapping
from typing import Any

_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)"
_QUANTITY = re.compile(rf"({_NUMBER}(?:[eE][+-]?\d+)?)|({_NUMBER})([KMGTPE]i|[numkMGTPE])", re.ASCII)
_SUFFIXES: dict[str | None, float] = {
    **{suffix: 1000.0**power for power, suffix in enumerate(("n", "u", "m", None, "k", "M", "G", "T", "P", "E"), -3)},
    **{f"{suffix}i": 1024.0**power for power, suffix in enumerate("KMGTPE", 1)},
}


def dig(value: Any, path: str) -> Any:
    """The value at a path such as "spec.template", None where it ends early; all of it at ""."""
    for key in path.split(".") if path else ():
        value = value.get(key) if isinstance(value, dict) else None
    return value


def mapping(value: Any, path: str = "") -> dict[str, Any]:
    found = dig(value, path)
    return found if isinstance(found, dict) else {}


def items(value: Any, path: str, *deeper: str) -> list[dict[str, Any]]:
    """The entries of a list at a path; with more paths, those of the lists in each of its entries."""
    found = [value]
    for step in (path, *deeper):
        lists = [dig(entry, step) for entry in found]
        found = [mapping(entry) for each in lists if isinstance(each, list) for entry in each]
    return found


def strings(value: Any, path: str = "") -> list[str]:
    found = dig(value, path)
    return [str(entry) for entry in found] if isinstance(found, list) else []


def text(value: Any, path: str = "") -> str:
    found = dig(value, path)
    return found if isinstance(found, str) else ""


def integer(value: Any, path: str = "") -> int | None:
    found = dig(value, path)
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def quantity(value: Any, path: str = "") -> float | None:
    """A Kubernetes quantity as a number; None when it is invalid."""
    found = dig(value, path)
    match = None if isinstance(found, bool) else _QUANTITY.fullmatch(str(found))
    return float(match[1] or match[2]) * _SUFFIXES[match[3]] if match else None


def matches(selector: Any, labels: Mapping[str, Any]) -> bool:
    """Whether a label selector (matchLabels and matchExpressions) selects these labels."""
    if any(labels.get(key) != value for key, value in mapping(selector, "matchLabels").items()):
        return False
    for expression in items(selector, "matchExpressions"):
        value, wanted = labels.get(text(expression, "key")), strings(expression, "values")
        holds = {
            "In": value in wanted,
            "NotIn": value not in wanted,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not holds.get(text(expression, "operator"), True):
            return False
    return True
