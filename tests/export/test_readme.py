"""The README's snippets do what it says, pasted as they are."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from export.savedmodel import Published
from serving.local.testing import LocalServer
from tests.export.conftest import encoded

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def snippet(pattern: str) -> str:
    """The code block that matches."""
    (found,) = [block for block in re.findall(r"```\w*\n(.*?)```", README, re.DOTALL) if re.search(pattern, block)]
    return found


@pytest.fixture(scope="module")
def server(published: Published) -> Iterator[LocalServer]:
    with LocalServer("--model_name=emoji", f"--model_base_path={published.path.parent}", rest=True) as running:
        yield running


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photo.jpg").write_bytes(encoded(300, 200, "JPEG"))
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


def test_the_links_lead_somewhere() -> None:
    root = Path(__file__).parents[2]
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README):
        assert (root / target).exists(), target
