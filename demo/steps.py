"""Steps of a demo: each is a command of the repository, printed before it runs."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path

from serving.local.testing import free_port

__all__ = ["ROOT", "command", "free_port_near", "run", "show", "title", "wait_for_interrupt"]

ROOT = Path(__file__).resolve().parents[1]


def command(name: str, *arguments: object, unless: Path | None = None) -> None:
    """Runs `python -m export …`, unless what it would make is there."""
    run("-m", "export", name, *arguments, unless=unless)


def run(*arguments: object, unless: Path | None = None) -> None:
    """Runs Python with these arguments, unless what it would make is there. Exits if it fails."""
    words = [str(argument) for argument in arguments]
    show(*words)
    if unless is not None and unless.exists():
        print(f"There already: {unless}")
    elif code := subprocess.run([sys.executable, *words], check=False).returncode:
        sys.exit(code)


def show(*words: str) -> None:
    print(f"$ {os.path.relpath(sys.executable)} {shlex.join(words)}", flush=True)


def title(text: str) -> None:
    print(f"\n{text}", flush=True)


def free_port_near(port: int) -> int:
    """The port itself, or any free one when somebody has it."""
    with socket.socket() as probe:
        taken = probe.connect_ex(("127.0.0.1", port)) == 0
    return free_port() if taken else port


def wait_for_interrupt() -> None:
    print("The server goes on until you press Ctrl-C.", flush=True)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        print()
