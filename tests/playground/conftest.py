"""A playground that runs as a user starts it, before two scripted versions with the labels stable and canary."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from duoserve import PreprocessingSpec
from tests.client.conftest import encoded, photo, train
from tests.client.fake import FakeServer, Version

ROOT = Path(__file__).parents[2]
LABELS = ("animal", "plant", "weather", "vehicle")
WORDS = ("red cat", "green tree", "hot air balloon", "blue car")


class Playground:
    """`python -m playground` in a process of its own.

    Attributes:
        url: Where the page is, without a slash at its end.
    """

    def __init__(self, *flags: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "playground", "--no-browser", "--port=0", *flags],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout
        said = []
        for line in self.process.stdout:
            said.append(line)
            if found := re.search(r"is at (\S+)/ until", line):
                self.url = found[1]
                return
        raise AssertionError("".join(said))

    def get(self, path: str) -> Any:
        """The JSON at a path."""
        return json.loads(self.raw(path))

    def raw(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=20) as reply:
            return bytes(reply.read())

    def post(self, path: str, body: Any, kind: str = "application/json") -> tuple[int, Any]:
        """Status and JSON that a body gets."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": kind})
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def __enter__(self) -> Playground:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.communicate(timeout=20)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of eight held-out pairs and one that training had."""
    folder = tmp_path_factory.mktemp("data with 'quotes'")
    (folder / "images").mkdir()
    rows = [(f"images/{n}.png", f"{WORDS[n % 4]} {n}", LABELS[n % 4], "train" if n == 8 else "test") for n in range(9)]
    for number, (name, *_) in enumerate(rows):
        (folder / name).write_bytes(encoded(photo(64, 64, seed=number), "PNG"))
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("image", "text", "label", "split"), *rows])
    return folder


@pytest.fixture(scope="session")
def specs() -> dict[int, PreprocessingSpec]:
    texts = list(WORDS)
    return {
        1: PreprocessingSpec(16, 16, 8, train(texts, 300), LABELS, 1),
        2: PreprocessingSpec(24, 20, 6, train(texts[:2], 290), LABELS[::-1], 2),
    }


@pytest.fixture(scope="module")
def server(specs: dict[int, PreprocessingSpec]) -> Iterator[FakeServer]:
    with FakeServer(*map(Version, specs.values()), labels={"stable": 1, "canary": 2}) as running:
        yield running


@pytest.fixture(scope="module")
def playground(server: FakeServer, data: Path) -> Iterator[Playground]:
    flags = f"--server={server.address}", "--model=pairs", f"--examples={data}", "--timeout=5"
    with Playground(*flags, "--rest=http://127.0.0.1:8501/") as running:
        yield running
