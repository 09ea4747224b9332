"""Dependencies point one way, and the client does not need TensorFlow."""

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
