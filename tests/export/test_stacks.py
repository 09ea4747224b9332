"""Two environments side by side: what one TensorFlow exported, the other serves, or refuses."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import tensorflow as tf

from duoserve import Client
from duoserve.artifact.releases import STOCK_VERSION, minor_release
from duoserve.artifact.samples import GOLDEN_PATH, load_samples
from export.publish.savedmodel import Published
from serving.local.testing import LocalServer

ROOT = Path(__file__).resolve().parents[2]


pytestmark = pytest.mark.stacks


def python_of(*, newer: bool) -> Path:
    """The interpreter of an environment with a newer, or an older, TensorFlow."""
    here = minor_release(tf.__version__)
    for site in ROOT.glob(".venv*/lib/python3*/site-packages"):
        for found in site.glob("tensorflow-[0-9]*.dist-info"):
            there = minor_release(found.name.split("-")[1].removesuffix(".dist"))
            if there > here if newer else there < here:
                return site.parents[2] / "bin" / "python"
    pytest.skip(f"no environment with {'a newer' if newer else 'an older'} TensorFlow: make env; make env STACK=2.21")


def test_a_version_is_served_by_a_newer_tensorflow(published: Published, samples: list[tuple[bytes, str]]) -> None:
    command = (str(python_of(newer=True)), "-m", "serving.local")
    flags = ("--model_name=pets", f"--model_base_path={published.path.parent}")
    golden = load_samples((published.path / GOLDEN_PATH).read_bytes())
    with LocalServer(*flags, command=command) as server, Client(server.address, model="pets") as client:
        for (image, text), sample in zip(samples, golden, strict=False):
            answer = client.predict(image=image, text=text)
            assert answer.version == 1
            assert answer.probabilities == pytest.approx(sample.values, abs=1e-5)


def test_a_version_is_refused_for_an_older_tensorflow(published: Published) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "DUOSERVE_SERVER_VERSION"}
    done = subprocess.run(
        [python_of(newer=False), "-m", "export", "check", published.path],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"expected a TensorFlow no newer than the server's {STOCK_VERSION}" in done.stdout


def test_the_server_warns_of_a_version_that_a_newer_tensorflow_wrote(published: Published) -> None:
    command = (str(python_of(newer=False)), "-m", "serving.local")
    with LocalServer("--model_name=pets", f"--model_base_path={published.path.parent}", command=command) as server:
        assert f"written by TensorFlow {tf.__version__}, newer than this server's" in server.log
