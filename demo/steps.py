"""The demo's commands, as a user types them; existing results are not made again."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

__all__ = [
    "BUILD",
    "DATA",
    "NAME",
    "ROOT",
    "RUNS",
    "STORE",
    "command",
    "free_port_near",
    "run",
    "show",
    "title",
    "train",
    "wait_for_interrupt",
]

ROOT = Path(__file__).resolve().parents[1]
BUILD = Path("build", Path(sys.prefix).name.partition(".venv-")[2])  # .venv-2.21: build/2.21
HOME = BUILD / "demo"
DATA, RUNS, STORE = HOME / "data", HOME / "runs", HOME / "models"
NAME = "emoji"


def train(fusion: str, *options: str, out: Path | None = None) -> Path:
    """Trains on the demo's data; the folder of the run."""
    folder = out or RUNS / fusion
    command("train", DATA, "--out", folder, "--fusion", fusion, *options, unless=folder / "run.json")
    return folder


def command(name: str, *arguments: object, unless: Path | None = None) -> None:
    """Runs `python -m export …`, unless its result exists. Exits if it fails."""
    run("-m", "export", name, *arguments, unless=unless)


def run(*arguments: object, unless: Path | None = None) -> None:
    """Runs Python with these arguments, unless its result exists. Exits if it fails."""
    words = [str(argument) for argument in arguments]
    show(*words)
    if unless is not None and unless.exists():
        print(f"Exists already: {unless}")
    elif code := subprocess.run([sys.executable, *words], check=False).returncode:
        sys.exit(code)


def show(*words: str) -> None:
    """Prints a command."""
    print(f"$ {os.path.relpath(sys.executable)} {shlex.join(words)}", flush=True)


def title(text: str) -> None:
    """Prints a heading."""
    print(f"\n{text}", flush=True)


def free_port_near(port: int) -> int:
    """The port itself, or any free one if it is taken."""
    import socket

    from serving.local.testing import free_port

    with socket.socket() as probe:
        taken = probe.connect_ex(("127.0.0.1", port)) == 0
    return free_port() if taken else port


def wait_for_interrupt() -> None:
    """Leaves a demo's server to its user."""
    print("The server runs until you press Ctrl-C.", flush=True)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        print()
