"""The README's snippets do what it says, pasted as they are."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from export.savedmodel import Published
from serving.local.testing import LocalServer
from tests.export.conftest import encoded

ROOT = Path(__file__).parents[2]
CONFIG = """model_config_list {{
  config {{ name: "emoji" base_path: "{0}" model_platform: "tensorflow" }}
  config {{ name: "pairs" base_path: "{0}" model_platform: "tensorflow" version_labels {{ key: "stable" value: 1 }} }}
}}"""


def snippet(pattern: str, readme: str = "README.md") -> str:
    """The code block that matches."""
    blocks = re.findall(r"```\w*\n(.*?)```", (ROOT / readme).read_text(encoding="utf-8"), re.DOTALL)
    (found,) = [block for block in blocks if re.search(pattern, block)]
    return found


@pytest.fixture(scope="module")
def server(published: Published, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    config = tmp_path_factory.mktemp("config") / "models.config"
    config.write_text(CONFIG.format(published.path.parent))
    flags = f"--model_config_file={config}", "--allow_version_labels_for_unavailable_models=true"
    with LocalServer(*flags, rest=True) as running:
        yield running


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("photo.jpg", "one.jpg"):
        (tmp_path / name).write_bytes(encoded(300, 200, "JPEG"))
    (tmp_path / "photo.png").write_bytes(encoded(300, 200, "PNG"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("photo")
def test_the_client_snippet(server: LocalServer, published: Published, capsys: pytest.CaptureFixture[str]) -> None:
    code = snippet("from duoserve import Client").replace("localhost:8500", server.address)
    exec(compile(code, "README.md", "exec"), {})
    first, *ranked = capsys.readouterr().out.splitlines()
    assert first.split()[0] in published.spec.labels and first.split()[-1] == "1"
    assert {line.split()[0] for line in ranked} == set(published.spec.labels)


@pytest.mark.usefixtures("photo")
def test_the_curl_line(server: LocalServer, published: Published) -> None:
    command = snippet("^curl").replace("http://localhost:8501", server.rest_url)
    said = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True).stdout
    (prediction,) = json.loads(said)["predictions"]
    assert prediction["label"] in published.spec.labels


@pytest.mark.usefixtures("photo")
def test_the_client_readme_snippet(
    server: LocalServer, published: Published, capsys: pytest.CaptureFixture[str]
) -> None:
    code = snippet("with Client", "client/README.md").replace("localhost:8500", server.address)
    given = {"jpeg_bytes": encoded(50, 50, "JPEG"), "pixels": np.zeros((10, 10, 3), np.uint8)}
    exec(compile(code, "client/README.md", "exec"), given)
    assert "{}" in capsys.readouterr().out, "no item of the batch failed"


@pytest.mark.usefixtures("photo")
def test_the_client_readme_async_snippet(server: LocalServer) -> None:
    code = snippet("AsyncClient", "client/README.md").replace("dns:///serving-headless:8500", server.address)
    names: dict[str, object] = {"jpeg_bytes": encoded(50, 50, "JPEG")}
    body = textwrap.indent(code.replace("from duoserve import AsyncClient", ""), "    ")
    exec(f"from duoserve import AsyncClient\nasync def main():\n{body}\n    return answer", names)
    answer = asyncio.run(names["main"]())  # type: ignore[operator]
    assert answer.version == 1


@pytest.mark.parametrize("readme", ["README.md", "client/README.md", "export/OWN_MODEL.md"])
def test_the_links_lead_somewhere(readme: str) -> None:
    path = ROOT / readme
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target
