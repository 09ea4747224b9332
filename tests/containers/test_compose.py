"""compose.yaml: the server, the exporter that reports its versions, and the client that calls it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from serving.local.testing import free_port
from tests.containers import bases
from tests.containers.conftest import ready

pytestmark = pytest.mark.docker
PROJECT = "duoserve-test"


def _program() -> list[str]:
    """Compose as a plugin of the command line, or the program of version 1."""
    if subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0:
        return ["docker", "compose"]
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    pytest.skip("neither `docker compose` nor docker-compose is installed (apt-get install docker-compose)")


def _base(arguments: tuple[str, ...], name: str) -> str:
    return next((word.partition("IMAGE=")[2] for word in arguments), name)


@pytest.fixture(scope="module")
def compose(readable: Path) -> Iterator[Callable[..., str]]:
    """Runs a command of compose; everything is gone in the end."""
    # Version 1 asks the first `docker` on the PATH to build, and shares no cache with it otherwise.
    builder = bases.builder()
    environment = {
        **os.environ,
        **{name: value for name, value in builder.items() if name != "program"},
        "COMPOSE_DOCKER_CLI_BUILD": str(len(builder) and 1),
        "PATH": os.pathsep.join([str(Path(builder.get("program", "/usr/bin/docker")).parent), os.environ["PATH"]]),
        "DUOSERVE_MODELS": str(readable / "models"),
        "DUOSERVE_GRPC_PORT": str(free_port()),
        "DUOSERVE_REST_PORT": str(free_port()),
        "TEST_SERVING_IMAGE": _base(bases.serving_arguments(), "tensorflow/serving"),
        "TEST_PYTHON_IMAGE": _base(bases.python_arguments(), "python"),
    }
    files = ["-f", "compose.yaml", "-f", "tests/containers/compose.test.yaml"]
    program = [*_program(), "--project-name", PROJECT, *files]

    def run(*words: str) -> str:
        done = subprocess.run(
            [*program, *words], capture_output=True, text=True, timeout=900, cwd=bases.ROOT, env=environment
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done.stdout

    run.ports = {name: int(environment[f"DUOSERVE_{name}_PORT"]) for name in ("GRPC", "REST")}  # type: ignore[attr-defined]
    run("down", "--volumes")
    try:
        yield run
    finally:
        run("down", "--volumes")


def test_server_exporter_and_client_come_up_and_work(compose: Callable[..., str]) -> None:
    bases.tools("tools")
    bases.serving()
    compose("build", "serving", "exporter")
    compose("up", "--detach", "serving", "exporter", "client")
    ports = compose.ports  # type: ignore[attr-defined]
    deadline = time.monotonic() + 120
    while not ready(ports["GRPC"]) or _predictions(ports["REST"]) < 20:
        assert time.monotonic() < deadline, compose("logs", "--tail=50")
        time.sleep(1)
    page = compose("exec", "-T", "exporter", "python", "-c", METRICS)
    assert 'duoserve_label_version{label="stable",model="emoji"' in page and "} 1.0" in page
    started = time.monotonic()
    compose("stop", "serving")
    logs = compose("logs", "--no-color", "serving")
    assert "server ended with code 0" in logs, "within stop_grace_period"
    assert time.monotonic() - started > 2, "it drains"


METRICS = """
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:9108/metrics", timeout=20).read().decode())
"""


def _predictions(port: int) -> int:
    """Predictions that the server counts."""
    try:
        url = f"http://127.0.0.1:{port}/monitoring/prometheus/metrics"
        with urllib.request.urlopen(url, timeout=5) as reply:
            page = reply.read().decode()
    except (OSError, urllib.error.URLError):
        return 0
    counts = [
        line.rpartition(" ")[2]
        for line in page.splitlines()
        if line.startswith(":tensorflow:serving:request_latency_count")
    ]
    return sum(int(float(count)) for count in counts)
