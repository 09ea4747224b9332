"""A store as the containers mount it, the images, and no container left behind."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import keras
import pytest

from duoserve import Client, DuoserveError, PreprocessingSpec
from export.publish.savedmodel import export_version
from export.publish.store import ModelStore
from serving.local.testing import free_port
from tests.containers import bases
from tests.containers.bases import LABEL, docker
from tests.export.conftest import model, samples, spec

__all__ = ["model", "samples", "spec"]

AS_IN_THE_CLUSTER = (
    LABEL, "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--cpus=1",
)  # fmt: skip


def remove_all() -> None:
    """Every container of the tests: of this run, or of one that was killed."""
    found = docker("ps", "--all", "--quiet", "--filter", LABEL.removeprefix("--"))
    if found:
        docker("rm", "--force", "--volumes", *found.split())


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind() -> Iterator[None]:
    remove_all()
    yield
    remove_all()


@pytest.fixture(scope="session")
def image() -> str:
    return bases.serving()


@pytest.fixture(scope="session")
def readable(
    model: keras.Model,
    spec: PreprocessingSpec,
    samples: list[tuple[bytes, str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder that any user may read: two versions in `models`, the repository's models.config in `config`."""
    root = tmp_path_factory.mktemp("readable")
    for _ in range(2):
        export_version(model, spec, samples, ModelStore(root / "models", "emoji"), batch_sizes=(1,))
    shutil.copytree(bases.ROOT / "serving/config", root / "config")
    for folder in (root, *root.parents[:2]):
        folder.chmod(0o755)
    return root


def ready(port: int) -> bool:
    """Whether the model answers at a port of this machine."""
    with Client(f"127.0.0.1:{port}", model="emoji", label="stable") as client:
        try:
            client.describe()
        except DuoserveError:
            return False
    return True


def state(name: str, field: str) -> str:
    """A field of a container's state, such as ExitCode or Health.Status."""
    return docker("inspect", "-f", f"{{{{.State.{field}}}}}", name)


@contextlib.contextmanager
def started(image: str, *options: str, command: tuple[str, ...] = ()) -> Iterator[str]:
    """A container, as restricted as in the cluster; removed in the end."""
    name = docker("run", "--detach", *AS_IN_THE_CLUSTER, *options, image, *command)
    try:
        yield name
    finally:
        docker("rm", "--force", name)


@contextlib.contextmanager
def serving(image: str, *options: str, command: tuple[str, ...] = ()) -> Iterator[tuple[str, int]]:
    """A container that serves, and the port of this machine that leads to it."""
    port = free_port()
    with started(image, f"--publish=127.0.0.1:{port}:8500", *options, command=command) as name:
        deadline = time.monotonic() + 180
        while not ready(port):
            assert state(name, "Status") == "running" and time.monotonic() < deadline, docker("logs", name)
            time.sleep(0.5)
        yield name, port
