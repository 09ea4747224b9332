"""The server as the Deployment starts it: the entrypoint, the manifest's flags, the embedded server."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from serving.local.testing import free_port
from tests.k8s import renders
from tests.k8s.tools import ROOT, listens


def flags(store: Path, **changed: str) -> list[str]:
    """The container's arguments, with the paths and ports of this machine."""
    deployment = next(d for d in renders.documents("local") if d["kind"] == "Deployment")
    arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    given = dict(argument[2:].split("=", 1) for argument in arguments)
    given |= {
        "port": str(free_port()),
        "rest_api_port": str(free_port()),
        "model_config_file": str(store / "models.config"),
        "monitoring_config_file": str(ROOT / "serving/config/monitoring.config"),
        "tensorflow_inter_op_parallelism": "1",
        "model_config_file_poll_wait_seconds": "1",
        **changed,
    }
    return [f"--{name}={value}" for name, value in given.items()]


class Pod:
    """One pod, ready when you get it; a context manager that ends it as the kubelet does."""

    def __init__(self, store: Path, *, drain: int = 1, host: str = "127.0.0.1", **changed: str) -> None:
        arguments = flags(store, **changed)
        given = dict(argument[2:].split("=", 1) for argument in arguments)
        self.address = f"{host}:{given['port']}"
        self.rest = f"{host}:{given['rest_api_port']}"
        self._log = Path(tempfile.mkstemp(prefix="pod-", suffix=".log", dir=store)[1])
        wrapper = store / f"server-{host}"
        wrapper.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m serving.local --stock_sigterm --host={host} "$@"\n')
        wrapper.chmod(0o755)
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(ROOT / "serving/container/entrypoint.sh"), *arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={**os.environ, "DUOSERVE_SERVER": str(wrapper), "DUOSERVE_DRAIN_SECONDS": str(drain)},
            )
        try:
            self._wait()
        except BaseException:
            self.end()
            raise

    def _wait(self) -> None:
        deadline = time.monotonic() + 240
        for address in (self.address, self.rest):
            host, _, port = address.rpartition(":")
            while not listens(host, int(port)):
                assert self.process.poll() is None and time.monotonic() < deadline, self._log.read_text()
                time.sleep(0.1)

    def get(self, path: str) -> str:
        """The body of a REST page."""
        with urllib.request.urlopen(f"http://{self.rest}{path}", timeout=60) as reply:
            return str(reply.read().decode())

    def end(self) -> int:
        """SIGTERM, the drain, and the exit code."""
        self.process.terminate()
        return self.process.wait(60)

    def __enter__(self) -> Pod:
        return self

    def __exit__(self, *exception: object) -> None:
        self.end()
