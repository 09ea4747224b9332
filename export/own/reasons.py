"""The reasons why a model does not fit: what was expected, what was received, and how to fix it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from export.errors import ExportError

_NODES: Final = re.compile(r"\{\{function_node.*?\}\}|\[\[\{\{node.*?\}\}\]\]|\[Op:.*?\]|Graph execution error:")

__all__ = ["MisfitError", "reason", "said"]


class MisfitError(ExportError):
    """Your own model does not fit the contract. `findings` has every reason, one line each."""

    def __init__(self, reasons: Iterable[str]) -> None:
        self.findings = tuple(reasons)
        head = f"Expected the model to fit the contract. Received {len(self.findings)} reason(s) why it does not:"
        super().__init__("\n".join([head, *(f"  - {each}" for each in self.findings)]))


def reason(expected: str, received: object, fix: str) -> str:
    """One line."""
    return f"Expected {expected}. Received: {received}. To fix: {fix}"


def said(error: BaseException) -> str:
    """The message of an error, on one line, for use in a sentence: without TensorFlow's node names; of a Keras
    error that wraps another one, the inner message."""
    text = _NODES.sub("", str(error)).rpartition("Exception encountered: ")[2].partition("Full object config: ")[0]
    text = " ".join(text.split()) or type(error).__name__
    return f"{text[:300]}…" if len(text) > 300 else text.rstrip(".")
