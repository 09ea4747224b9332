"""The image with the stock server in it: `-m docker`, in the GitHub workflow."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from duoserve import Client, Connection, DuoserveError, Retry
from serving.local.testing import free_port
from tests.client.fake import wait_until
from tests.k8s.tools import ROOT

pytestmark = pytest.mark.docker
IMAGE = "duoserve-serving:test"


def docker(*arguments: str, timeout: float = 600) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=timeout, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def image() -> str:
    docker("build", "-f", "Dockerfile.serving", "-t", IMAGE, ".")
    return IMAGE


@contextlib.contextmanager
def running(image: str, store: Path, *arguments: str) -> Iterator[tuple[str, int]]:
    port, name = free_port(), f"duoserve-test-{uuid.uuid4().hex[:12]}"
    options = ["--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--cpus=1"]
    try:
        # A `docker run` that fails, on a busy port for instance, leaves its container too.
        docker(
            "run", "--detach", f"--name={name}", *options, f"--publish=127.0.0.1:{port}:8500",
            f"--volume={store}/emoji:/models/emoji:ro", *arguments, image,
        )  # fmt: skip
        wait_until(lambda: docker("inspect", "-f", "{{.State.Status}}", name) == "running" and ready(port), within=120)
        yield name, port
    finally:
        docker("rm", "--force", name)


def ready(port: int) -> bool:
    with Client(f"127.0.0.1:{port}", model="emoji", label="stable") as client:
        try:
            client.describe()
        except DuoserveError:
            return False
    return True


def test_it_serves_without_root_and_with_a_root_filesystem_that_is_read_only(image: str, store: Path) -> None:
    with running(image, store) as (name, _):
        assert docker("exec", name, "id", "-u") == "10001"
        command = docker("exec", name, "bash", "-c", "tr '\\0' ' ' </proc/$(pgrep -f ^/usr/bin/tensorflow)/cmdline")
        assert "--tensorflow_intra_op_parallelism=1 " in command


def test_the_stock_server_goes_on_serving_through_its_drain(
    image: str, store: Path, samples: list[tuple[bytes, str]]
) -> None:
    """`docker stop`, and every call until the drain is over is answered."""
    answered: list[float] = []
    with running(image, store, "--env=DUOSERVE_DRAIN_SECONDS=6") as (name, port):
        retry, connection = Retry(attempts=1), Connection()
        with Client(f"127.0.0.1:{port}", model="emoji", label="stable", retry=retry, connection=connection) as client:
            client.predict(*samples[0])
            stopping = threading.Thread(target=lambda: docker("stop", "--time=30", name))
            begun = time.monotonic()
            stopping.start()
            while time.monotonic() - begun < 5:
                client.predict(*samples[0])
                answered.append(time.monotonic() - begun)
                time.sleep(0.05)
            stopping.join(60)
        assert docker("inspect", "-f", "{{.State.ExitCode}}", name) == "0"
    assert max(answered) > 4
