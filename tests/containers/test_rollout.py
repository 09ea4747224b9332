"""The rollout from its own image, without TensorFlow, against two servers in containers."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from duoserve import Client
from tests.containers import bases
from tests.containers.bases import docker
from tests.containers.conftest import AS_IN_THE_CLUSTER, serving

pytestmark = pytest.mark.docker

SETTINGS = """
model = "emoji"
[waits]
step = 120
bake = 2
watch = 2
poll = 0.5
[limits]
latency_calls = 10
median_ratio = 5.0
p99_ratio = 20.0
slack_ms = 200.0
"""


@pytest.fixture
def site(readable: Path, tmp_path: Path) -> Path:
    """A store with two versions, and a folder with models.config that the rollout edits."""
    shutil.copytree(readable / "models" / "emoji" / "1", tmp_path / "models" / "emoji" / "1")
    shutil.copytree(readable / "models" / "emoji" / "1", tmp_path / "models" / "emoji" / "2")
    (tmp_path / "config").mkdir()
    shutil.copy(readable / "config" / "models.config", tmp_path / "config")
    (tmp_path / "config" / "rollout.toml").write_text(SETTINGS)
    for path in (tmp_path, *tmp_path.parents[:2], *tmp_path.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    (tmp_path / "config").chmod(0o777)
    (tmp_path / "config" / "models.config").chmod(0o666)
    return tmp_path


@contextlib.contextmanager
def replicas(image: str, site: Path) -> Iterator[list[tuple[str, int]]]:
    """Two servers that read one models.config."""
    flags = "--port=8500 --rest_api_port=8501 --model_config_file=/config/models.config"
    polling = "--model_config_file_poll_wait_seconds=1 --file_system_poll_wait_seconds=1"
    allowed = "--allow_version_labels_for_unavailable_models=true"
    options = (
        f"--volume={site}/models:/models:ro",
        f"--volume={site}/config:/config:ro",
        "--env=DUOSERVE_DRAIN_SECONDS=0",
    )
    command = tuple(f"{flags} {polling} {allowed}".split())
    with serving(image, *options, command=command) as one, serving(image, *options, command=command) as other:
        yield [one, other]


def test_a_version_goes_out_and_comes_back(image: str, site: Path, samples: list[tuple[bytes, str]]) -> None:
    with replicas(image, site) as running:
        addresses = [docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", name) for name, _ in running]

        def rollout(*words: str) -> str:
            return docker(
                "run", "--rm", *AS_IN_THE_CLUSTER, f"--volume={site}/models:/models:ro",
                f"--volume={site}/config:/config", bases.tools("tools"), "python", "-m", "serving.rollout", *words,
                "--settings=/config/rollout.toml", "--config=/config/models.config", "--store=/models",
                *(f"--replica={address}:8500" for address in addresses),
            )  # fmt: skip

        def answering() -> set[int]:
            found = set()
            for _, port in running:
                with Client(f"127.0.0.1:{port}", model="emoji", label="stable") as client:
                    found.add(client.predict(*samples[0]).version)
            return found

        assert answering() == {1}
        said = rollout("run", "2")
        assert "version 2 is stable" in said and "TensorFlow is not installed here" in said
        assert answering() == {2}
        rollout("rollback")
        state = json.loads(rollout("status", "--json"))
        assert state["drift"] == [] and answering() == {1}
