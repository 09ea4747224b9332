"""Renders every overlay, and every component on top of the base.

python -m tests.k8s.renders     writes the golden files and compose/rules.yml again
"""

from __future__ import annotations

import functools
import os
import pickle
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import yaml

from serving.check import parse
from tests.k8s.tools import ROOT, tool

K8S = ROOT / "k8s"
GOLDEN = Path(__file__).with_name("golden")
OVERLAYS = sorted(path.parent.name for path in K8S.glob("overlays/*/kustomization.yaml"))
COMPONENTS = sorted(path.parent.name for path in K8S.glob("components/*/kustomization.yaml"))
RULES = ROOT / "compose" / "rules.yml"
_ALSO = {"gateway-canary": ["base/canary"]}
_UPON = {"rollout-rehearsal": ["rollout"]}
IMAGES = ("duoserve-serving", "duoserve-tools", "duoserve-export")
_DIGEST = "sha256:" + "1" * 64


@functools.cache
def overlay(name: str) -> str:
    """An overlay, rendered."""
    return kustomize(K8S / "overlays" / name)


@functools.cache
def component(name: str) -> str:
    """The base with one component, with images as an overlay sets them."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made).resolve()

        def relative(path: str) -> str:
            return os.path.relpath(K8S / path, folder)

        kustomization = {
            "resources": [relative(path) for path in ["base", *_ALSO.get(name, [])]],
            "components": [relative(f"components/{each}") for each in [*_UPON.get(name, []), name]],
            "images": [{"name": image, "digest": _DIGEST} for image in IMAGES],
            "namespace": "duoserve",
        }
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        return kustomize(folder)


def render(name: str) -> str:
    """An overlay by its name, or a component as "component:NAME"."""
    kind, _, part = name.rpartition(":")
    return component(part) if kind else overlay(part)


ALL = [*OVERLAYS, *(f"component:{name}" for name in COMPONENTS)]


@functools.cache
def _pickled(name: str) -> bytes:
    return pickle.dumps([found.data for found in parse(render(name)).objects])


def documents(name: str) -> list[dict[str, Any]]:
    """The objects of a rendering, parsed: a fresh copy at every call (28 times as fast as deepcopy)."""
    found: list[dict[str, Any]] = pickle.loads(_pickled(name))
    return found


def rules() -> str:
    """The alert rules as Prometheus itself reads them: what compose mounts."""
    rule = yaml.safe_load((K8S / "components/monitoring/prometheusrule.yaml").read_text())
    head = "# Made from k8s/components/monitoring/prometheusrule.yaml by `python -m tests.k8s.renders`.\n"
    return head + yaml.safe_dump(rule["spec"], sort_keys=False, width=1000)


def kustomize(folder: Path) -> str:
    """A folder, rendered."""
    done = subprocess.run([tool("kubectl"), "kustomize", str(folder)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, f"kustomize warns: {done.stderr}"
    return done.stdout


if __name__ == "__main__":
    for each in OVERLAYS:
        (GOLDEN / f"{each}.yaml").write_text(overlay(each))
    RULES.write_text(rules())
