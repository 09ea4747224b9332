"""Dependencies point one way, the client does not need TensorFlow, and the documents name what is there."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from duoserve.artifact.releases import STOCK_VERSION, ReleaseError, minor_release, too_new

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "client/src": {
        "export",
        "serving",
        "demo",
        "tests",
        "tensorflow",
        "tensorflow_serving",
        "tensorflow_text",
        "keras",
    },
    "export": {"serving", "demo", "tests"},
    "serving": {"export", "demo", "tests"},
}

SOURCES = ("client", "export", "serving", "benchmarks", "demo", "playground", "tools")
PRIVATE = {
    "benchmarks/client_calls.py": "measures calls through the client's own messages, without the client around them",
    "benchmarks/client_parts.py": "measures the parts of the client one by one",
    "playground/protoset.py": "makes upstream's descriptors out of the client's own",
}
"""Files that import private modules of another package, and why."""

ROOMS = (*SOURCES, ".ci", ".github", "compose", "docs", "k8s", "requirements", "tests")
MADE = ("assets.extra/", "build/", "models/")
"""Folders that a command makes: the repository does not have them."""


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_dependencies_point_one_way(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    wrong = {str(path): found for path in files if (found := set(imports(path)) & FORBIDDEN[folder])}
    assert not wrong


def private_imports(path: Path) -> Iterator[str]:
    """Imported names of another package with a part `_name`."""
    package = path.relative_to(ROOT).parts[0].replace("client", "duoserve")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            first, *parts = name.split(".")
            if first != package and any(re.match("_[a-z]", part) for part in parts):
                yield name


def test_no_package_imports_private_modules_of_another() -> None:
    files = [path for room in SOURCES for path in (ROOT / room).rglob("*.py")]
    ours = {"duoserve", *SOURCES}
    found = {
        path.relative_to(ROOT).as_posix()
        for path in files
        if any(name.split(".")[0] in ours for name in private_imports(path))
    }
    assert found == PRIVATE.keys()


def named_paths(text: str) -> set[str]:
    """Files and folders that a text names in backticks; not those with placeholders, nor those that a command makes."""
    words = {word.partition(": ")[0] for word in re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.S))}
    a_path = re.compile(r"\.?[\w-][\w.-]*(/[\w.-]+)*(/|/[\w-]+|\.(py|md|toml|ya?ml|txt|sh|ts|serving))")
    return {word for word in words if a_path.fullmatch(word) and not word.startswith(MADE)}


@pytest.fixture(scope="module")
def tree() -> set[str]:
    """Every file and its folders, from any of the folders that it is in: a/b/c.py, b/c.py, c.py, a/b, b, a."""
    found: set[str] = set()
    for path in [*ROOT.glob("*"), *(path for room in ROOMS for path in (ROOT / room).rglob("*"))]:
        parts = path.relative_to(ROOT).parts
        if path.is_file() and not {"__pycache__", "node_modules"} & set(parts):
            found.update("/".join(parts[start:end]) for end in range(len(parts) + 1) for start in range(end))
    return found


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_the_paths_in_a_page_exist(page: str, tree: set[str]) -> None:
    named = named_paths((ROOT / page).read_text(encoding="utf-8"))
    assert len(named) > 5
    assert not {path for path in named if path.rstrip("/") not in tree}


def test_the_paths_in_docstrings_of_modules_exist(tree: set[str]) -> None:
    named = {
        (path.relative_to(ROOT).as_posix(), name)
        for room in (*SOURCES, "tests")
        for path in (ROOT / room).rglob("*.py")
        for name in named_paths(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "")
        if name.split("/")[0] in ROOMS and "/" in name
    }
    assert len(named) > 5
    assert not {(path, name) for path, name in named if name.rstrip("/") not in tree}


def test_every_place_has_the_one_server_version() -> None:
    """The setting is `STOCK_VERSION`: a Dockerfile, a workflow or a page with another version would not follow it."""
    rooms = ("compose", "docs", "export", "k8s", "serving", ".github")
    files = [*ROOT.glob("*.*"), *(path for room in rooms for path in (ROOT / room).rglob("*.*"))]
    pin = re.compile(r"(?:tensorflow/serving:|SERVING_VERSION=|stock image is )v?([0-9]+\.[0-9.]*[0-9])")
    found = {
        (path.name, version)
        for path in files
        if path.is_file() and path.suffix != ".pyc"
        for version in pin.findall(path.read_text(encoding="utf-8", errors="replace"))
    }
    assert ("Dockerfile.serving", STOCK_VERSION) in found
    assert {version for _, version in found} == {STOCK_VERSION}, found


def test_the_default_tensorflow_is_no_newer_than_the_server() -> None:
    pins = dict(re.findall(r"^(tensorflow\S*)==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    assert too_new(pins["tensorflow"], STOCK_VERSION) is None
    assert len({minor_release(version) for version in pins.values()}) == 1


@pytest.mark.parametrize("release", ["", "2", "2.", "2.x", "two.twenty", "2.20x", "v2.20.0", " 2.20"])
def test_a_release_that_is_not_one_is_refused(release: str) -> None:
    with pytest.raises(ReleaseError, match="Expected a TensorFlow release such as"):
        minor_release(release)


@pytest.mark.parametrize("release", ["2.20", "2.20.0", "2.20.1", "2.20.0-rc1", "2.20.0rc0", "2.20-gpu"])
def test_patches_and_variants_count_as_their_minor_release(release: str) -> None:
    assert minor_release(release) == (2, 20)


def test_the_client_never_loads_tensorflow() -> None:
    program = """
        import json, sys
        import duoserve.client, duoserve.aio, duoserve.cli, duoserve.preprocessing.preprocessor
        print(json.dumps(sorted(name.split(".")[0] for name in sys.modules)))
    """
    loaded = subprocess.run(
        [sys.executable, "-c", "\n".join(line.strip() for line in program.splitlines())],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT / "client",
    ).stdout
    assert not {"tensorflow", "tensorflow_serving", "keras", "export", "serving"} & set(json.loads(loaded))
