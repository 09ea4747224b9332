"""A served model for callers in other languages."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from export.publish.savedmodel import Published
from serving.local.testing import LocalServer
from tests.export.conftest import model, published, samples, spec  # noqa: F401 -- fixtures

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def served(published: Published, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:  # noqa: F811
    """Version 1 of "pets" as `stable`, with REST."""
    config = tmp_path_factory.mktemp("config") / "models.config"
    config.write_text(
        f'model_config_list {{ config {{ name: "pets" base_path: "{published.path.parent}"'
        ' model_platform: "tensorflow" version_labels { key: "stable" value: 1 } } }'
    )
    flags = f"--model_config_file={config}", "--allow_version_labels_for_unavailable_models=true"
    with LocalServer(*flags, rest=True) as running:
        yield running


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Node.js example, installed and compiled, outside of the repository."""
    folder = tmp_path_factory.mktemp("client")
    shutil.copytree(ROOT / "client/proto", folder / "proto")
    example = folder / "examples/node"
    shutil.copytree(ROOT / "client/examples/node", example, ignore=shutil.ignore_patterns("node_modules", "dist"))
    for command in (["npm", "ci", "--no-audit", "--no-fund"], ["npm", "run", "build"]):
        done = subprocess.run(command, cwd=example, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stdout + done.stderr
    return example
