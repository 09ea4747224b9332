"""Where and with what was measured."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Final

import psutil

__all__ = ["ROOT", "commit", "facts"]

ROOT: Final = Path(__file__).resolve().parents[2]
_PACKAGES: Final = ("tensorflow", "tensorflow-text", "keras", "numpy", "grpcio", "protobuf", "pillow", "sentencepiece")


def facts() -> dict[str, str]:
    """Date, commit, machine and versions, by name."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    cores = len(os.sched_getaffinity(0))
    return {
        "date": datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "commit": commit(),
        "machine": f"{_processor()}, {cores} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {sys.version.split()[0]}",
        "packages": versions,
    }


def commit() -> str:
    """The commit, with a mark of what differs from it; "unknown" outside a repository."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD").decode().strip()
        changes = _git("diff", "HEAD", "--", ".", ":!benchmarks/results", ":!*.md")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head} and changes {hashlib.sha256(changes).hexdigest()[:6]}" if changes else head


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=True).stdout


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.machine()
