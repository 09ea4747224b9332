"""Commands whose output can't be written end with a message and an exit code; if stdout was closed, quietly."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMMANDS = {
    "export": ("export", "--help"),
    "doctor": ("serving.check", "--models", "serving/config/models.config"),
    "capacity": ("serving.capacity", "--rate=100", "--latency-ms=5", "--cpus=4", "--model-mb=10"),
    "client": ("duoserve", "--help"),
}


def run(name: str, stdout: int) -> tuple[int, str]:
    """With the output in a buffer, as where it is no terminal."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        [sys.executable, "-m", *COMMANDS[name]],
        stdout=stdout, stderr=subprocess.PIPE, text=True, cwd=ROOT, timeout=60, env=environment,
    )  # fmt: skip
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "export prune --store s --name m --keep",
        "duoserve predict --model m --text t --top",
        "serving.rollout plan",
        "serving.check - --client-batch",
        "serving.check - --warmup-sizes",
    ],
)
@pytest.mark.parametrize("number", ["٨", " 8", "x", "-1"])
def test_a_number_has_plain_digits(command: str, number: str) -> None:
    module, *arguments = command.split()
    program = importlib.import_module(f"{module}.cli")
    with pytest.raises(SystemExit, match="2"), contextlib.redirect_stderr(io.StringIO()) as said:
        program.main([*arguments[:-1], f"{arguments[-1]}={number}"] if "--" in arguments[-1] else [*arguments, number])
    assert re.search(f"(?i)expected a number of at least [01], received {number!r}", said.getvalue())


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_is_reported(name: str) -> None:
    with Path("/dev/full").open("w") as full:
        code, said = run(name, full.fileno())
    assert code == 1
    assert said.rstrip().endswith("Expected to write to standard output. Received: [Errno 28] No space left on device")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_closed_stdout_is_not_an_error(name: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        assert run(name, writing) == (141, "")
    finally:
        os.close(writing)
