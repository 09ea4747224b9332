"""Python programs forked from a process that has TensorFlow already: importing it again takes 4 s of CPU each.

A program started like this has a process id, signals, output and an exit code of its own, as one started by
`subprocess`. What concerns the start itself (launchers, `PYTHONPATH`, an import that fails) needs a fresh process.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PRELOADED = ["tensorflow", "serving.local.server"]
_START = threading.Lock()


class Forked:
    """A `subprocess.Popen` of `[sys.executable, "-m", module, *arguments]`, to the extent that tests use it.

    Args:
        command: The command line. Anything but Python with `-m` is left to `subprocess`.
        options: `stdout`, a file with a name; `stderr`, the same as `stdout`; `env`; `cwd`.
    """

    def __new__(cls, command: Sequence[str], **options: Any) -> Any:
        if list(command[:2]) != [sys.executable, "-m"]:
            return subprocess.Popen(command, **options)
        return super().__new__(cls)

    def __init__(self, command: Sequence[str], *, stdout: Any, stderr: int, env: dict[str, str], cwd: Any) -> None:
        assert stderr == subprocess.STDOUT
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self.args = command
        self.returncode: int | None = None
        self._lock = threading.Lock()
        self._process = context.Process(
            target=_run, args=(command[2], list(command[3:]), stdout.name, env, str(cwd)), daemon=True
        )
        with _START:
            self._process.start()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        with self._lock:
            if self.returncode is None:
                self.returncode = self._process.exitcode
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        # `Process.join` from two threads at once would read the exit code twice: only `poll` reads it.
        if not multiprocessing.connection.wait([self._process.sentinel], timeout):
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        code = self.poll()
        assert code is not None
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run(
    command: Sequence[str], *, cwd: Path, env: dict[str, str] | None = None, timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    """`subprocess.run` with its output, both streams together, as `stdout`."""
    with tempfile.NamedTemporaryFile("r") as output:
        process = Forked(command, stdout=output, stderr=subprocess.STDOUT, env=env or dict(os.environ), cwd=cwd)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return subprocess.CompletedProcess(command, code, output.read(), "")


def _run(module: str, arguments: list[str], output: str, env: dict[str, str], cwd: str) -> None:
    file = os.open(output, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
