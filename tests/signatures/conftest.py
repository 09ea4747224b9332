"""A version where either input is optional, beside one that needs both, on one embedded server."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from duoserve import Client
from duoserve.contract import PreprocessingSpec
from export.publish.savedmodel import Published, export_version
from export.publish.store import ModelStore
from export.training.tokenizer import train_tokenizer
from serving.local.testing import LocalServer
from tests.client.fake import wait_until
from tests.export.conftest import TEXTS, build_model, encoded
from tests.shared import made_once

__all__ = ["BOTH", "EITHER", "NAME", "serving"]

NAME, BOTH, EITHER = "pets", 1, 2
CONFIG = """
model_config_list {{ config {{
  name: "{name}" base_path: "{base}" model_platform: "tensorflow"
  model_version_policy {{ all {{}} }}
}} }}
"""


@pytest.fixture(scope="session")
def versions(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Published]:
    """Both versions, by number: BOTH was trained with both inputs always, EITHER not."""
    spec = PreprocessingSpec(24, 32, 6, train_tokenizer(TEXTS, vocabulary=320), ("animal", "plant", "weather"), BOTH)
    specs = {BOTH: spec, EITHER: dataclasses.replace(spec, version=EITHER, optional=("image", "text"))}
    samples = [(encoded(40, 60, "JPEG", seed=1), "red cat"), (encoded(64, 64, "PNG", seed=4), "🌳 tree")]
    model = build_model(spec)

    def make(folder: Path) -> dict[int, Published]:
        store = ModelStore(folder, NAME)
        return {
            version: export_version(model, each, samples, store, version=version, batch_sizes=(1, 2))
            for version, each in specs.items()
        }

    return made_once(tmp_path_factory, "signatures", make)


@contextlib.contextmanager
def serving(versions: dict[int, Published], scratch: Path, *, rest: bool = False) -> Iterator[LocalServer]:
    """The embedded server with all of these versions, ready."""
    config = scratch / "models.config"
    config.write_text(CONFIG.format(name=NAME, base=versions[1].path.parent), encoding="utf-8")
    with LocalServer(f"--model_config_file={config}", rest=rest) as started:
        with Client(started.address, model=NAME) as client:
            wait_until(lambda: [each.state for each in client.status()] == ["AVAILABLE"] * len(versions), within=60)
        yield started


@pytest.fixture(scope="module")
def server(versions: dict[int, Published], tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    with serving(versions, tmp_path_factory.mktemp("config"), rest=True) as started:
        yield started
