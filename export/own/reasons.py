"""The reasons why a model does not fit: what was expected, what was received, and how to fix it."""

import re
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from duoserve.contract import ContractError
from export.errors import ExportError

_NODES: Final = re.compile(r"\{\{function_node.*?\}\}|\[\[\{\{node.*?\}\}\]\]|\[Op:.*?\]|Graph execution error:")

P = ParamSpec("P")
T = TypeVar("T")


class MisfitError(ExportError):
    """Your own model does not fit the contract. `findings` has every reason, one line each."""

    def __init__(self, *reasons: str) -> None:
        self.findings = reasons
        head = f"Expected the model to fit the contract. Received {len(reasons)} reason(s) why it does not:"
        super().__init__("\n".join([head, *(f"  - {each}" for each in reasons)]))


class Reasons:
    """Collects the reasons of several steps, so that one run reports all of them."""

    def __init__(self) -> None:
        self._found: list[str] = []

    def attempt(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """The result of a step; None if it raises MisfitError or ContractError, whose reasons are kept."""
        try:
            return step(*args, **kwargs)
        except MisfitError as error:
            self._found += error.findings
        except ContractError as error:
            self._found.append(str(error))
        return None

    def add(self, expected: str, received: object, fix: str) -> None:
        """Adds one reason."""
        self._found += misfit(expected, received, fix).findings

    def refuse(self) -> None:
        """Raises MisfitError if there is a reason."""
        if self._found:
            raise MisfitError(*self._found)


def misfit(expected: str, received: object, fix: str) -> MisfitError:
    """The error for one reason."""
    return MisfitError(f"Expected {expected}. Received: {received}. To fix: {fix}")


def said(error: BaseException) -> str:
    """The message of an error, on one line, for use in a sentence: without TensorFlow's node names; of a Keras
    error that wraps another one, the inner message."""
    text = _NODES.sub("", str(error)).rpartition("Exception encountered: ")[2].partition("Full object config: ")[0]
    text = " ".join(text.split()) or type(error).__name__
    return f"{text[:300]}…" if len(text) > 300 else text.rstrip(".")
