"""A measuring process: it answers each line of numbers with a line of JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any


class Worker:
    """Runs `python -m MODULE ARGUMENTS`; `first` is its first line, printed when it is ready."""

    def __init__(self, module: str, *arguments: str) -> None:
        command = [sys.executable, "-m", module, *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.first = self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def measure(self, *numbers: float) -> dict[str, float]:
        """The measurement for these numbers."""
        assert self._process.stdin is not None
        print(*numbers, file=self._process.stdin, flush=True)
        return dict(self._answer())

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.communicate()
