"""Dockerfile.serving: builds, serves without root and read-only, drains, and ends with the right code."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

from duoserve import Client, Connection, Retry
from tests.client.fake import wait_until
from tests.containers import bases
from tests.containers.bases import docker
from tests.containers.conftest import serving, started, state

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def mounted(readable: Path) -> str:
    return f"--volume={readable}/models:/models:ro"


def test_it_serves_without_root_on_a_read_only_root_filesystem(image: str, mounted: str) -> None:
    with serving(image, mounted, "--health-interval=1s") as (name, _):
        assert docker("exec", name, "id", "-u") == "10001"
        assert re.search(r"--tensorflow_inter_op_parallelism=1\b", processes(name)), "the limit of one CPU"
        wait_until(lambda: state(name, "Health.Status") == "healthy", within=60)
        writable = docker(
            "exec", name, "bash", "-c", "for d in / /etc/duoserve /models; do [ -w $d ] && echo $d; done; :"
        )
        assert writable == ""


def test_it_answers_through_its_drain(image: str, mounted: str, samples: list[tuple[bytes, str]]) -> None:
    """`docker stop`, and every call until the drain is over is answered."""
    answered: list[float] = []
    with serving(image, mounted, "--env=DUOSERVE_DRAIN_SECONDS=6") as (name, port):
        retry, connection = Retry(attempts=1), Connection()
        with Client(f"127.0.0.1:{port}", model="emoji", label="stable", retry=retry, connection=connection) as client:
            client.predict(*samples[0])
            stopping = threading.Thread(target=docker, args=("stop", "--time=60", name))
            begun = time.monotonic()
            stopping.start()
            while time.monotonic() - begun < 5:
                client.predict(*samples[0])
                answered.append(time.monotonic() - begun)
                time.sleep(0.05)
            stopping.join(90)
        assert state(name, "ExitCode") == "0"
    assert max(answered) > 4


def test_a_stop_timeout_below_the_drain_kills_it(image: str, mounted: str) -> None:
    """As the Dockerfile's head warns, with the timeout of `docker stop` as a setting of the container."""
    with serving(image, mounted, "--env=DUOSERVE_DRAIN_SECONDS=600", "--stop-timeout=1") as (name, _):
        docker("stop", name)
        assert state(name, "ExitCode") == "137"
        assert "a shorter stop timeout" in docker_logs(name)


def test_it_ends_at_once_when_it_never_served(image: str) -> None:
    """Without a store the server waits with closed ports."""
    with started(image, "--env=DUOSERVE_DRAIN_SECONDS=600") as name:
        wait_until(lambda: "--tensorflow_intra_op_parallelism=" in processes(name), within=60)
        docker("stop", "--time=60", name, timeout=50)
        assert state(name, "ExitCode") == "0"
        assert "SIGTERM before the server served: ending now" in docker_logs(name)


@pytest.mark.parametrize(
    ("options", "command", "code"),
    [(["--env=DUOSERVE_DRAIN_SECONDS=soon"], (), "64"), ([], ("--port=8500", "--model_config_file=/nowhere"), "255")],
)
def test_it_ends_with_the_code_of_what_went_wrong(
    image: str, options: list[str], command: tuple[str, ...], code: str
) -> None:
    with started(image, *options, command=command) as name:
        wait_until(lambda: state(name, "Status") == "exited", within=120)
        assert state(name, "ExitCode") == code, docker_logs(name)


def test_a_store_that_only_its_owner_may_read_is_baked_in(image: str, readable: Path, tmp_path: Path) -> None:
    """No mount: the store is in the image, and its modes are not."""
    shutil.copytree(bases.ROOT / "serving", tmp_path / "serving", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(readable / "models", tmp_path / "store")
    shutil.copy(bases.ROOT / "Dockerfile.serving", tmp_path)
    for path in tmp_path.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    arguments = [*bases.serving_arguments(), "--build-arg=MODELS=store"]
    baked = bases.build("Dockerfile.serving", "duoserve-serving:baked", *arguments, context=tmp_path)
    with serving(baked) as (name, _):
        writable = "find /models /etc/duoserve /usr/local/bin/duoserve-entrypoint -writable"
        assert docker("exec", name, "bash", "-c", writable) == ""


def processes(name: str) -> str:
    """Command lines in a container; only the server's has the threads that the entrypoint adds."""
    return docker("top", name, "-eo", "pid,args")


def docker_logs(name: str) -> str:
    """Both streams of a container."""
    done = subprocess.run(["docker", "logs", name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout
