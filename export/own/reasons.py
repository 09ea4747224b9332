"""Why a model does not fit, all of it: what was expected, what was received, and how to mend it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from export.errors import ExportError

_NODES: Final = re.compile(r"\{\{function_node.*?\}\}|\[\[\{\{node.*?\}\}\]\]|\[Op:.*?\]|Graph execution error:")

__all__ = ["MisfitError", "reason", "said"]


class MisfitError(ExportError):
    """A model of your own does not fit the contract. `findings` has every reason why, one line each."""

    def __init__(self, reasons: Iterable[str]) -> None:
        self.findings = tuple(reasons)
        head = f"Expected the model to fit the contract. Received {len(self.findings)} reason(s) why it does not:"
        super().__init__("\n".join([head, *(f"  - {each}" for each in self.findings)]))


def reason(expected: str, received: object, mend: str) -> str:
    """One line."""
    return f"Expected {expected}. Received: {received}. To mend: {mend}"


def said(error: BaseException) -> str:
    """What an error says, on one line, to stand in a sentence: without TensorFlow's names of nodes, and of an
    error of Keras about another one that other one."""
    text = _NODES.sub("", str(error)).rpartition("Exception encountered: ")[2].partition("Full object config: ")[0]
    text = " ".join(text.split()) or type(error).__name__
    return f"{text[:300]}…" if len(text) > 300 else text.rstrip(".")
