"""An apply, and the next one: what the API server keeps, changes or refuses of an object that is there already."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.k8s import renders
from tests.k8s.tools import ROOT

OBJECTS = {name: renders.documents(name) for name in renders.ALL}


def values(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value with its path, lists and mappings too."""
    yield path, value
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else []
    for key, each in inner:
        yield from values(each, f"{path}.{key}")


def everywhere() -> Iterator[tuple[str, Any]]:
    for name, documents in OBJECTS.items():
        for document in documents:
            yield from values(document, f"{name} {document['kind']}/{document['metadata']['name']}")


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    return ((path, value) for path, value in everywhere() if isinstance(value, dict) and "containers" in value)


def test_the_manifests_have_no_field_that_the_server_drops() -> None:
    """Else `kubectl diff -k` is never empty. `podSelector: {}` and `emptyDir: {}` are kept: they mean something."""
    empty = {path for path, value in everywhere() if value in ([], {}, None) or (value == "" and ".env." in path)}
    assert {path for path in empty if not path.endswith(("podSelector", "emptyDir"))} == set()


def test_quantities_are_written_as_the_server_writes_them() -> None:
    quantities = [
        (f"{path}.{key}", amount)
        for path, value in everywhere()
        if path.endswith(("resources.requests", "resources.limits"))
        for key, amount in value.items()
    ]
    assert len(quantities) > 100
    for path, amount in quantities:
        assert re.fullmatch(r"[1-9]\d*(m|Mi|Gi)?", str(amount)) and isinstance(amount, str), (path, amount)
        number = int(re.match(r"\d+", amount)[0])  # type: ignore[index]
        assert number % {"m": 1000, "Mi": 1024, "Gi": 1024}.get(amount.lstrip("0123456789"), 10**9), (path, amount)


def test_defaults_inside_what_one_manager_owns_whole_are_written() -> None:
    """The API server adds them, and a server-side apply without them conflicts with the apply before it."""
    found = dict(everywhere())
    defaults = {"resourceFieldRef": "divisor", "fieldRef": "apiVersion", "serviceAccountToken": "expirationSeconds"}
    for path, value in found.items():
        missing = defaults.get(path.rpartition(".")[2])
        assert missing is None or missing in value, path
        if "NetworkPolicy" in path and re.search(r"\.ports\.\d+$", path):
            assert "protocol" in value, path
    assert any(path.endswith("resourceFieldRef") for path in found) and any("fieldRef" in path for path in found)


def test_a_corrected_image_makes_another_job(tmp_path: Path) -> None:
    """A Job's template can't be changed, so what is applied again under its name must be the same."""

    def job(**images: Any) -> dict[str, Any]:
        kustomization = {"resources": [os.path.relpath(ROOT / "k8s/overlays/local", tmp_path)], **images}
        (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        rendered = yaml.safe_load_all(renders.kustomize(tmp_path))
        return next(document for document in rendered if document["kind"] == "Job")

    first, other = job(), job(images=[{"name": "duoserve-export", "newTag": "mended"}])
    assert first["metadata"]["name"] != other["metadata"]["name"]
    assert job() == first
    # A volume's name with a hash would change the template and not the name, which is made before.
    volumes = first["spec"]["template"]["spec"]["volumes"]
    assert [volume["configMap"]["name"] for volume in volumes if "configMap" in volume] == ["duoserve-export"]


def test_the_overlay_for_a_laptop_asks_for_half_a_core_a_pod() -> None:
    """Two cores, of which the node's own pods take one; a job made from a CronJob has to fit too."""
    kinds = set()
    for path, pod in pods():
        if path.startswith("local "):
            kinds.add(path.split()[1].partition("/")[0])
            assert {container["resources"]["requests"]["cpu"] for container in pod["containers"]} == {"500m"}, path
    assert kinds == {"Deployment", "Job", "CronJob"}
    rollout = next(pod for path, pod in pods() if path.startswith("component:rollout CronJob"))
    assert rollout["containers"][0]["resources"]["requests"]["cpu"] in {"200m", "500m"}


@pytest.mark.parametrize("name", renders.OVERLAYS)
def test_an_overlay_brings_its_namespace(name: str) -> None:
    made = {document["metadata"]["name"] for document in OBJECTS[name] if document["kind"] == "Namespace"}
    used = {document["metadata"].get("namespace") for document in OBJECTS[name] if document["kind"] != "Namespace"}
    assert used == made


def test_jobs_keep_their_logs() -> None:
    """With each finished job beyond the limit its pod goes, and the log."""
    for path, value in everywhere():
        if path.endswith("HistoryLimit") and "CronJob" in path:
            assert value >= 3, path


def test_only_the_export_and_the_rehearsal_have_tensorflow() -> None:
    """The pod that may edit models.config has neither TensorFlow nor the tools of the tests, unless asked to."""
    images = {
        (path.split()[0], path.split()[1].partition(".")[0]): {
            container["image"].partition("@")[0].partition(":")[0].rpartition("/")[2] for container in pod["containers"]
        }
        for path, pod in pods()
    }
    heavy = {where for where, used in images.items() if "duoserve-export" in used}
    assert all("export" in owner or name == "component:rollout-rehearsal" for name, owner in heavy)
    assert images["component:rollout", "CronJob/duoserve-rollout"] == {"duoserve-tools"}
    assert images["component:rollout-rehearsal", "CronJob/duoserve-rollout"] == {"duoserve-export"}


class Export:
    """export.sh with a stand-in for Python that notes its command lines."""

    def __init__(self, folder: Path) -> None:
        self.store, self.log = folder / "models", folder / "log"
        python = folder / "bin" / "python"
        python.parent.mkdir()
        python.write_text(f'#!/bin/sh\necho "$@" >>{self.log}\n')
        python.chmod(0o755)
        self.path = f"{python.parent}:{os.environ['PATH']}"

    def run(self, *words: str, store: Path | None = None) -> subprocess.CompletedProcess[str]:
        script = (ROOT / "k8s/components/export/export.sh").read_text().replace("/models", str(store or self.store))
        command = ["sh", "-c", script, "export.sh", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, env={"PATH": self.path})

    def commands(self) -> list[str]:
        return [line.split()[2] for line in self.log.read_text().splitlines()] if self.log.exists() else []


@pytest.fixture
def export(tmp_path: Path) -> Export:
    return Export(tmp_path)


def test_the_export_trains_and_publishes(export: Export) -> None:
    assert export.run("1").returncode == 0
    assert export.commands() == ["data", "train", "export"]
    assert export.log.read_text().endswith("--version 1\n")
    assert list((export.store / "emoji").iterdir()) == [], "nothing of the check is left"


def test_the_export_of_a_version_that_is_there_does_nothing(export: Export) -> None:
    version = export.store / "emoji" / "1"
    version.mkdir(parents=True)
    (version / "saved_model.pb").touch()
    assert export.run("1").returncode == 0
    assert export.commands() == []


def test_the_export_finds_a_store_that_cannot_be_written_before_it_trains(export: Export, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = export.run(store=tmp_path / "file")
    assert done.returncode == 1 and "to be writable" in done.stderr
    assert export.commands() == []
