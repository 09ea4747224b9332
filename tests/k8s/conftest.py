"""A small published model in a store as the manifests mount it, shared by all tests here."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from export.publish.savedmodel import Published
from tests.export.conftest import model, published, samples, spec
from tests.k8s.tools import ROOT

__all__ = ["model", "published", "samples", "spec"]


@pytest.fixture(scope="session")
def store(published: Published, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with emoji/1 and the models.config of the repository, its base path set to it."""
    root = tmp_path_factory.mktemp("cluster")
    shutil.copytree(published.path, root / "emoji" / "1")
    config = (ROOT / "serving/config/models.config").read_text()
    (root / "models.config").write_text(config.replace('"/models/emoji"', f'"{root}/emoji"'))
    return root


@pytest.fixture(scope="session")
def image(samples: list[tuple[bytes, str]]) -> bytes:
    return samples[0][0]
