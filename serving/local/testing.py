"""A server for tests and demos: started in a separate process, on free ports, ready when the constructor returns.

    with LocalServer("--model_name=pair", "--model_base_path=/models/pair") as server:
        client = Client(server.address, model="pair")

Needs no TensorFlow in the calling process.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, ClassVar

ROOT = pathlib.Path(__file__).resolve().parents[2]


class ServerDiedError(RuntimeError):
    """The server exited with a `code` before it served; `log` is its output."""

    def __init__(self, code: int, log: str) -> None:
        super().__init__(f"Expected the server to start. Received: exit code {code}:\n{log[-3000:]}")
        self.code = code
        self.log = log


PORTS = range(20000, 32768)
"""Below the range of outgoing connections on Linux. Processes that test at the same time each take a part."""


def free_port() -> int:
    """A TCP port of 127.0.0.1, from `PORTS`, that was free a moment ago. Not one of the system's choice, which the
    next program that asks would be given too."""
    while True:
        port = secrets.choice(PORTS)  # not from `random`, which Hypothesis seeds
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


class LocalServer:
    """`python -m serving.local` in a separate process; a context manager.

    Args:
        flags: As on the command line; `--port`, and `--rest_api_port` when `rest` is set, are added if missing.
        rest: Also open the REST port.
        wait: Return only when the ports are open. Off, call `wait_until_ready` yourself.
        timeout: Longest time to wait for that, in seconds.
        command: What to start instead, for instance another server with the same flags.
        env: Environment variables to add.

    Attributes:
        port: The gRPC port; 0 when the flags turn it off.
        rest_port: The REST port, 0 without one.
        process: The process, for signals and its `pid`.
        launch: Starts a process, as `subprocess.Popen` does; tests replace it to save TensorFlow's import.

    Raises:
        ServerDiedError: It exited instead of serving.
        TimeoutError: Its ports stayed closed.
    """

    launch: ClassVar[Callable[..., Any]] = subprocess.Popen

    def __init__(
        self,
        *flags: str,
        rest: bool = False,
        wait: bool = True,
        timeout: float = 60.0,
        command: tuple[str, ...] | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        given = dict(flag.lstrip("-").split("=", 1) for flag in flags if "=" in flag)
        self.port = int(given["port"]) if "port" in given else free_port()
        self.rest_port = int(given.get("rest_api_port", 0)) or (free_port() if rest else 0)
        added = [] if "port" in given else [f"--port={self.port}"]
        if self.rest_port and "rest_api_port" not in given:
            added.append(f"--rest_api_port={self.rest_port}")
        self.timeout = timeout
        words = [*(command or (sys.executable, "-m", "serving.local")), *added, *flags]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", **(env or {})}
        with contextlib.ExitStack() as failing:
            self._log = failing.enter_context(tempfile.NamedTemporaryFile(prefix="serving-local-", suffix=".log"))
            self.process: subprocess.Popen[bytes] = LocalServer.launch(
                words, stdout=self._log, stderr=subprocess.STDOUT, env=environment, cwd=ROOT
            )
            failing.callback(self.stop, kill=True)
            if wait:
                self.wait_until_ready()
            failing.pop_all()

    @property
    def address(self) -> str:
        """host:port of the gRPC API."""
        return f"127.0.0.1:{self.port}"

    @property
    def rest_url(self) -> str:
        """URL of the REST API, without a slash at its end."""
        return f"http://127.0.0.1:{self.rest_port}"

    @property
    def log(self) -> str:
        """Everything that the server wrote so far; gone once it is stopped."""
        return pathlib.Path(self._log.name).read_text(encoding="utf-8", errors="replace")

    def wait_until_ready(self) -> None:
        """Waits until the ports take connections, which they do once the models serve."""
        deadline = time.monotonic() + self.timeout
        for port in filter(None, (self.port, self.rest_port)):
            while not _accepts(port):
                code = self.process.poll()
                if code is not None:
                    raise ServerDiedError(code, self.log)
                if time.monotonic() > deadline:
                    raise TimeoutError(f"Port {port} stayed closed for {self.timeout} s:\n{self.log[-3000:]}")
                time.sleep(0.05)

    def stop(self, *, kill: bool = False, timeout: float = 60.0) -> int:
        """Ends it with SIGTERM, or SIGKILL when `kill` is set or it takes too long; returns its exit code."""
        self.process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self._log.close()  # which removes it
        return int(self.process.wait())

    def __enter__(self) -> LocalServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0
