"""The tools of these tests, each set in its own virtual environment below build/tools.

python -m tests.k8s.tools       installs what is missing; the tests do it too, on first use
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import socket
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SETS = {"manifests": "requirements.txt", "checkov": "requirements-checkov.txt"}


def listens(host: str, port: int) -> bool:
    """Whether a TCP port takes connections."""
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def folder(name: str) -> Path:
    """The bin folder of a set, installed when it is not current."""
    home = ROOT / "build" / "tools" / name
    wanted = Path(__file__).with_name(SETS[name]).read_bytes()
    stamp = home / "made-from"
    fingerprint = f"{sys.version_info[:2]} {hashlib.sha256(wanted).hexdigest()}"
    home.mkdir(parents=True, exist_ok=True)
    with open(home.parent / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes, one installation
        if not stamp.exists() or stamp.read_text() != fingerprint:
            sys.stderr.write(f"installing the tools for tests/k8s ({name}) into {home.relative_to(ROOT)}\n")
            shutil.rmtree(home)
            venv.create(home, with_pip=True)
            command = [str(home / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
            subprocess.run([*command, "-r", str(Path(__file__).with_name(SETS[name]))], check=True, timeout=900)
            stamp.write_text(fingerprint)
    return home / "bin"


def tool(name: str, *, of: str = "manifests") -> str:
    """The path of a program of a set."""
    program = folder(of) / name
    assert program.exists(), f"{program} is missing: remove {program.parents[1]} and run again"
    return str(program)


if __name__ == "__main__":
    for key in SETS:
        folder(key)
