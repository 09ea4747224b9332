"""A process of a benchmark, and the loop that it runs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Worker:
    """Runs `python -m MODULE ARGUMENTS`; a context manager.

    Attributes:
        first: What it answered when it was ready.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        self.first = self._answer()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.communicate()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def ask(self, *arguments: Any) -> dict[str, float]:
        """What the `function` of `answer` returns for these arguments."""
        print(json.dumps(arguments), file=self._process.stdin, flush=True)
        return dict(self._answer())


def answer(first: Any, function: Callable[..., dict[str, float]]) -> None:
    """Runs in the worker: answers with `first`, then to each line with `function(*arguments)`."""
    print(json.dumps(first), flush=True)
    for line in sys.stdin:
        print(json.dumps(function(*json.loads(line))), flush=True)
