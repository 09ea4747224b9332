"""The rollout from its own image, without TensorFlow, against two servers in containers."""

from __future__ import annotations

import contextlib
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
def config(readable: Path, tmp_path: Path) -> Path:
    """A folder with models.config, which the rollout may edit."""
    config = Path(shutil.copytree(readable / "config", readable / f"config-{tmp_path.name}"))
    (config / "rollout.toml").write_text(SETTINGS)
    config.chmod(0o777)
    return config


@contextlib.contextmanager
def replicas(image: str, *volumes: str) -> Iterator[list[tuple[str, int]]]:
    """Two servers that read one models.config."""
    flags = "--port=8500 --rest_api_port=8501 --model_config_file=/config/models.config"
    polling = "--model_config_file_poll_wait_seconds=1 --file_system_poll_wait_seconds=1"
    allowed = "--allow_version_labels_for_unavailable_models=true"
    options = (*volumes, "--env=DUOSERVE_DRAIN_SECONDS=0")
    command = tuple(f"{flags} {polling} {allowed}".split())
    with serving(image, *options, command=command) as one, serving(image, *options, command=command) as other:
        yield [one, other]


def test_a_version_goes_out_and_comes_back(
    image: str, readable: Path, config: Path, samples: list[tuple[bytes, str]]
) -> None:
    models = f"--volume={readable}/models:/models:ro"
    with replicas(image, models, f"--volume={config}:/config:ro") as running:
        addresses = [docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", name) for name, _ in running]

        def rollout(*words: str) -> str:
            return docker(
                "run", "--rm", *AS_IN_THE_CLUSTER, models,
                f"--volume={config}:/config", bases.tools("tools"), "python", "-m", "serving.rollout", *words,
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
        assert "version 2 is stable" in rollout("run", "2")
        assert answering() == {2}
        rollout("rollback")
        rollout("status")  # ends with 6 where a replica differs from the file
        assert answering() == {1}
