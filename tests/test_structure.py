"""Dependencies point one way, and the client does not need TensorFlow."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

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
