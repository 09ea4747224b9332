"""The demo's commands, as a user types them; what is there already is not made again."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

__all__ = ["DATA", "NAME", "ROOT", "RUNS", "STORE", "command", "free_port_near", "show", "title", "train"]

ROOT = Path(__file__).resolve().parents[1]
HOME = Path("build/demo")
DATA, RUNS, STORE = HOME / "data", HOME / "runs", HOME / "models"
NAME = "emoji"


def train(fusion: str, *options: str, out: Path | None = None) -> Path:
    """Trains on the demo's data; the folder of the run."""
    run = out or RUNS / fusion
    command("train", DATA, "--out", run, "--fusion", fusion, *options, unless=run / "run.json")
    return run


def command(name: str, *arguments: object, unless: Path | None = None) -> None:
    """Runs `python -m export …`, unless what it would make is there. Ends the process when it fails."""
    words = ["-m", "export", name, *map(str, arguments)]
    show(*words)
    if unless is not None and unless.exists():
        print(f"There already: {unless}")
    elif code := subprocess.run([sys.executable, *words], check=False).returncode:
        sys.exit(code)


def show(*words: str) -> None:
    """Prints a command."""
    print(f"$ {os.path.relpath(sys.executable)} {shlex.join(words)}", flush=True)


def title(text: str) -> None:
    """Prints a heading."""
    print(f"\n{text}", flush=True)


def free_port_near(port: int) -> int:
    """The port itself, or any free one when somebody has it."""
    import socket

    from serving.local.testing import free_port

    with socket.socket() as probe:
        taken = probe.connect_ex(("127.0.0.1", port)) == 0
    return free_port() if taken else port
