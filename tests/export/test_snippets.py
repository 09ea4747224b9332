"""The playground's snippets give the page's answer unchanged: Python, curl, and grpcurl."""

from __future__ import annotations

import base64
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from export.publish.savedmodel import Published
from serving.local.testing import LocalServer
from tests.export.conftest import encoded
from tests.playground.conftest import ROOT, Playground

TEXT = """it's "$5" `id` $(id) \\n 犬 🎈"""
CONFIG = """model_config_list {{ config {{
  name: "pets" base_path: "{0}" model_platform: "tensorflow" version_labels {{ key: "stable" value: 1 }}
}} }}"""


@pytest.fixture(scope="module")
def served(published: Published, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    config = tmp_path_factory.mktemp("config") / "models.config"
    config.write_text(CONFIG.format(published.path.parent))
    flags = f"--model_config_file={config}", "--allow_version_labels_for_unavailable_models=true"
    with LocalServer(*flags, rest=True) as running:
        yield running


@pytest.fixture(scope="module")
def page(served: LocalServer) -> Iterator[Playground]:
    with Playground(f"--server={served.address}", f"--rest={served.rest_url}", "--model=pets") as running:
        yield running


def bash(script: str, folder: Path) -> str:
    """What a shell prints that has a grpcurl."""
    standin = shlex.join([sys.executable, str(ROOT / "tests/playground/grpcurl.py")])
    command = ["bash", "-c", f'grpcurl() {{ {standin} "$@"; }}\n{script}']
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.parametrize("target", ["stable", "latest"])
@pytest.mark.parametrize("text", ["red cat", TEXT])
def test_all_three_do_what_the_page_does(page: Playground, tmp_path: Path, target: str, text: str) -> None:
    # Larger than a shell lets an argument be; a PNG, so that graph and client decode it alike.
    picture, name = encoded(500, 400, "PNG", seed=5) + bytes(200_000), "it's a 'photo'.png"
    (tmp_path / name).write_bytes(picture)
    asked = {"target": target, "text": text}
    said = page.post("/api/predict", {**asked, "data": base64.b64encode(picture).decode()})[1]
    assert "classes" in said, said
    snippets = page.post("/api/request", {**asked, "file": name})[1]
    shares, (label, probability) = dict(said["classes"]), said["classes"][0]

    environment = {**os.environ, "PYTHONPATH": str(ROOT / "client/src")}
    command = [sys.executable, "-c", snippets["python"]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == [label, str(probability), str(said["version"])]

    (row,) = json.loads(bash(snippets["curl"], tmp_path))["predictions"]
    assert row["label"] == label
    np.testing.assert_allclose(sorted(row["probabilities"]), sorted(shares.values()), atol=1e-5)

    reply = json.loads(bash(snippets["grpcurl"], tmp_path))
    outputs = reply["outputs"]
    assert base64.b64decode(outputs["label"]["stringVal"][0]).decode() == label
    np.testing.assert_allclose(sorted(outputs["probabilities"]["floatVal"]), sorted(shares.values()), atol=1e-5)
    assert reply["modelSpec"]["version"] == {"value": str(said["version"])}
