"""The README's snippets work unchanged."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from export.publish.savedmodel import Published
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
@pytest.mark.parametrize("given", ["with Client", "AsyncClient", "PrometheusMetrics"])
def test_the_client_readme_snippets(
    server: LocalServer, published: Published, capsys: pytest.CaptureFixture[str], given: str
) -> None:
    names: dict[str, Any] = {}
    code = snippet(f"import.*\\n(.*\\n)*.*{given}", "client/README.md")
    for address in ("localhost:8500", "dns:///duoserve-headless:8500"):
        code = code.replace(address, server.address)
    exec(compile(code, "client/README.md", "exec"), names)
    printed = capsys.readouterr().out
    if given == "PrometheusMetrics":
        with names["client"] as client:
            printed = client.predict("photo.jpg", "a red heart").label
    assert printed.split()[0] in published.spec.labels
    assert ("{1: InvalidInput(" in printed and "gone.jpg" in printed) == (given == "with Client"), "one item failed"


@pytest.mark.parametrize("readme", ["README.md", "client/README.md", "export/OWN_MODEL.md"])
def test_the_links_lead_somewhere(readme: str) -> None:
    path = ROOT / readme
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target
