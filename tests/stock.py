"""The stock server, started and stopped like an embedded one: in a container, or the program that the environment
variable TENSORFLOW_SERVING names (`TENSORFLOW_SERVING=tensorflow_model_server pytest -m stock`)."""

from __future__ import annotations

import os
import subprocess
import uuid
from pathlib import Path
from typing import Any

from duoserve.artifact.releases import STOCK_VERSION
from serving.local.testing import LocalServer

PROGRAM = os.environ.get("TENSORFLOW_SERVING")
IMAGE = os.environ.get("STOCK_IMAGE", f"tensorflow/serving:{STOCK_VERSION}")


class StockServer(LocalServer):
    """`tensorflow_model_server`. Its container is removed when the server is stopped.

    Args:
        flags: As on the command line.
        mounts: Folders that it sees under their own names.
        writable: Whether it may write to them.
        options: As for `LocalServer`.
    """

    def __init__(self, *flags: str, mounts: tuple[Path, ...], writable: bool = False, **options: Any) -> None:
        self.container = f"duoserve-test-{uuid.uuid4().hex[:12]}"
        command = ["docker", "run", "--rm", "--init", f"--name={self.container}", "--network=host"]
        command += [f"--user={os.getuid()}:{os.getgid()}", "--entrypoint=tensorflow_model_server"]
        command += [f"--volume={folder}:{folder}{'' if writable else ':ro'}" for folder in mounts]
        super().__init__(*flags, command=(PROGRAM,) if PROGRAM else (*command, IMAGE), **{"timeout": 120.0, **options})

    def stop(self, *, kill: bool = False, timeout: float = 60.0) -> int:
        """Ends it; returns its exit code. Killing `docker run` alone would leave the container running."""
        if kill:
            self._remove()
        code = super().stop(kill=kill, timeout=timeout)
        self._remove()
        return code

    def _remove(self) -> None:
        if not PROGRAM:
            subprocess.run(["docker", "rm", "--force", self.container], capture_output=True, check=False)
