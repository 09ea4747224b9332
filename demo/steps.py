"""The demos' commands, as a user types them; existing results are not made again."""

import contextlib
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from serving.local.testing import LocalServer, free_port

ROOT = Path(__file__).resolve().parents[1]
BUILD = Path("build", Path(sys.prefix).name.partition(".venv-")[2])  # .venv-2.21: build/2.21
HOME = BUILD / "demo"
DATA, RUNS, STORE = HOME / "data", HOME / "runs", HOME / "models"
NAME = "emoji"


def play(steps: Callable[[], None]) -> None:
    """Runs a demo from the repository's root."""
    os.chdir(ROOT)
    try:
        steps()
    except KeyboardInterrupt:
        sys.exit("\nstopped; finished steps are kept, and the next run resumes")
    except TimeoutError as error:  # the server did not come up: its log is in the message
        sys.exit(f"error: {error}")


def make_data() -> None:
    """The first step of every demo with images."""
    title("1. Data: emoji as images, their names as text, their groups as classes")
    command("data", DATA)  # does nothing if the data is current


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
    _show(*words)
    if unless is not None and unless.exists():
        print(f"Exists already: {unless}")
    elif code := subprocess.run([sys.executable, *words], check=False).returncode:
        sys.exit(code)


@contextlib.contextmanager
def served(name: str, store: Path, next_steps: Callable[[LocalServer], str] | None = None) -> Iterator[LocalServer]:
    """The embedded server; at the end it prints what to try next, and leaves the server to a user at a terminal."""
    flags = [f"--port={free_port_near(8500)}", f"--rest_api_port={free_port_near(8501)}"]
    flags += [f"--model_name={name}", f"--model_base_path={ROOT / store / name}"]
    _show("-m", "serving.local", *flags)
    with LocalServer(*flags, timeout=300) as server:
        print(f"Serving gRPC at {server.address}, REST at {server.rest_url}")
        yield server
        if next_steps is None:
            return
        running = sys.stdin.isatty()
        print(f"\nWhat to try next{'' if running else ' (first start the server again)'}:")
        if not running:
            _show("-m", "serving.local", *flags)
        print(next_steps(server))
        if running:
            print("The server runs until you press Ctrl-C.", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                while True:
                    time.sleep(3600)
            print()


def title(text: str) -> None:
    """Prints a heading."""
    print(f"\n{text}", flush=True)


def free_port_near(port: int) -> int:
    """The port itself, or any free one if it is taken."""
    with socket.socket() as probe:
        taken = probe.connect_ex(("127.0.0.1", port)) == 0
    return free_port() if taken else port


def _show(*words: str) -> None:
    print(f"$ {os.path.relpath(sys.executable)} {shlex.join(words)}", flush=True)
