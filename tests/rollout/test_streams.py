"""A command ends properly, with a message if possible, when its output fails and at SIGTERM."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.local.testing import free_port
from serving.rollout.reporter import ConsoleReporter

ROOT = Path(__file__).parents[2]
CONFIG = """\
model_config_list {
  config {
    name: "pets"
    base_path: "/models/pets"
    model_version_policy { specific { versions: 1 versions: 2 } }
    version_labels { key: "stable" value: 2 }
    version_labels { key: "canary" value: 2 }
    version_labels { key: "previous" value: 1 }
  }
}
"""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Starts a command on a models.config whose only replica is down; a rollback waits `step` seconds for it."""
    (tmp_path / "models.config").write_text(CONFIG)

    def command(*arguments: str, step: float = 0.1, **streams: object) -> subprocess.Popen[str]:
        settings = {"model": "pets", "config": "models.config", "store": ".", "replicas": [f"127.0.0.1:{free_port()}"]}
        lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
        (tmp_path / "rollout.toml").write_text("\n".join([*lines, "[waits]", f"step = {step}", "call = 0.2"]))
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
        line = ["env", "--default-signal=INT"]  # a test run in the background ignores it, and so would its children
        line += [sys.executable, "-m", "serving.rollout", *arguments, "--settings", str(tmp_path / "rollout.toml")]
        return subprocess.Popen(line, cwd=ROOT, text=True, **options)  # type: ignore[call-overload,no-any-return]

    return command


def events(folder: Path) -> list[str]:
    lines = (folder / ".rollout/models.config.jsonl").read_text().splitlines()
    return [json.loads(line)["event"] for line in lines]


def unread() -> int:
    """A pipe that nobody reads any more."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def test_a_rollback_succeeds_when_its_result_can_not_be_printed(start: Start, tmp_path: Path) -> None:
    with open("/dev/full", "w") as full, start("rollback", stdout=full) as done:
        _, said = done.communicate(timeout=60)
    assert done.returncode == 0, said
    assert "could not be printed" in said
    assert "Traceback" not in said
    assert events(tmp_path)[-1] == "finished"


def test_a_rollback_succeeds_with_closed_output(start: Start, tmp_path: Path) -> None:
    gone = unread()
    with start("rollback", stdout=gone, stderr=gone) as done:
        os.close(gone)
        assert done.wait(timeout=60) == 0
    assert events(tmp_path)[-1] == "finished"
    assert "versions: 2" not in (tmp_path / "models.config").read_text()


@pytest.mark.parametrize(("command", "code"), [("history", 0), ("status", 6), ("plan 2", 0)])
def test_a_closed_pipe_is_not_an_error(start: Start, command: str, code: int) -> None:
    gone = unread()
    with start(*command.split(), stdout=gone) as done:
        os.close(gone)
        _, said = done.communicate(timeout=60)
    assert (done.returncode, said) == (code, "")


def test_a_history_that_can_not_be_printed_is_an_error(start: Start) -> None:
    with open("/dev/full", "w") as full, start("history", stdout=full) as done:
        _, said = done.communicate(timeout=60)
    assert done.returncode == 1
    assert "could not be printed" in said


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_a_message_an_entry_and_a_free_lock(
    start: Start, tmp_path: Path, number: int, code: int
) -> None:
    with start("rollback", "--json", step=60) as interrupted:
        assert interrupted.stderr is not None
        while "[...." not in interrupted.stderr.readline():  # waits for the replica
            pass
        interrupted.send_signal(number)
        out, said = interrupted.communicate(timeout=30)
    assert interrupted.returncode == code
    assert "`rollback` undoes" in said
    assert "Traceback" not in said
    assert json.loads(out)["error"] == "Interrupted"
    assert events(tmp_path)[-1] == "interrupted"
    with start("rollback") as again:
        again.communicate(timeout=60)
    assert again.returncode == 0


def test_progress_continues_without_a_broken_stream() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError("no space left on device")

    lines = ConsoleReporter(Full())
    for _ in range(2):
        lines.report("load", "edited")
        lines.progress("load", 0, 1, "waits")
