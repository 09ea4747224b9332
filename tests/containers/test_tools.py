"""Dockerfile.tools: the two images have what they need, and no more."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.containers import bases
from tests.containers.bases import docker
from tests.containers.conftest import AS_IN_THE_CLUSTER

pytestmark = pytest.mark.docker

OF_THE_TESTS = {"pytest", "mypy", "ruff", "playwright", "hypothesis"}
HEAVY = {"tensorflow", "keras", "tensorflow_text"}
IMPORTABLE = """
import importlib.util, sys
print(*(name for name in sys.argv[1:] if importlib.util.find_spec(name)))
"""


def run(image: str, *command: str) -> str:
    return docker("run", "--rm", *AS_IN_THE_CLUSTER, image, *command)


@pytest.mark.parametrize(("target", "wanted"), [("tools", set()), ("export", HEAVY)])
def test_an_image_has_what_its_commands_need(target: str, wanted: set[str]) -> None:
    image = bases.tools(target)
    found = run(image, "python", "-c", IMPORTABLE, *sorted(OF_THE_TESTS | HEAVY | {"export", "serving", "duoserve"}))
    assert set(found.split()) == wanted | {"serving", "duoserve"} | ({"export"} if target == "export" else set())
    assert run(image, "id", "-u") == "10001"
    modules = ["serving.rollout", "serving.exporter", "serving.capacity"]
    modules += ["export", "serving.local", "serving.check"] if wanted else []
    commands = [f"python -m {name} --help" for name in modules]
    said = run(image, "sh", "-ec", "; ".join(["duoserve --help", *commands]))
    assert said.count("usage: ") == 1 + len(commands)


def test_the_export_makes_the_data_that_it_trains_on() -> None:
    said = run(
        bases.tools("export"), "sh", "-ec", "python -m export data /tmp/data >&2; head -2 /tmp/data/manifest.csv"
    )
    assert said.startswith("image,text,label")


def test_a_checkout_that_only_its_owner_may_read_is_readable_in_the_image(tmp_path: Path) -> None:
    for folder in ("client", "export", "serving", "requirements"):
        shutil.copytree(bases.ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("constraints.txt", "Dockerfile.tools"):
        shutil.copy(bases.ROOT / name, tmp_path)
    for path in tmp_path.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    arguments = [*bases.python_arguments(), "--target=source"]
    tag = bases.build("Dockerfile.tools", "duoserve-source:test", *arguments, context=tmp_path)
    hidden = docker("run", "--rm", "--user=10001", bases.LABEL, tag, "find", "/source", "!", "-readable")
    assert hidden == ""
