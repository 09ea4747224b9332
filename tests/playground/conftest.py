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

from duoserve import AudioSpec, PreprocessingSpec
from tests.audio.conftest import wav
from tests.client.conftest import encoded, photo, train
from tests.client.fake import FakeServer, Version

ROOT = Path(__file__).parents[2]
LABELS = ("animal", "plant", "weather", "vehicle")
WORDS = ("red cat", "green tree", "hot air balloon", "blue car")


class Playground:
    """`python -m playground` in a separate process.

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
        """Status, and the JSON or PNG that a body gets."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": kind})
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:
                data = reply.read()
                return reply.status, data if reply.headers["Content-Type"] == "image/png" else json.loads(data)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def __enter__(self) -> Playground:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.communicate(timeout=20)


def make_data(folder: Path, medium: str, suffix: str, files: list[bytes]) -> Path:
    """A data folder of held-out rows, except the last, which is a training row."""
    (folder / "images").mkdir()
    rows = []
    for number, file in enumerate(files):
        name = f"images/{number}.{suffix}"
        (folder / name).write_bytes(file)
        split = "train" if number == len(files) - 1 else "test"
        rows.append((name, f"{WORDS[number % 4]} {number}", LABELS[number % 4], split))
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([(medium, "text", "label", "split"), *rows])
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight held-out images with words, and one that training had."""
    files = [encoded(photo(64, 64, seed=seed), "PNG") for seed in range(9)]
    return make_data(tmp_path_factory.mktemp("data with 'quotes'"), "image", "png", files)


@pytest.fixture(scope="session")
def specs() -> dict[int, PreprocessingSpec]:
    """1 can explain, 2 can't."""
    texts = list(WORDS)
    return {
        1: PreprocessingSpec(16, 16, 8, train(texts, 300), LABELS, 1, explain_grid=(4, 4)),
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


@pytest.fixture(scope="module")
def clip_server() -> Iterator[FakeServer]:
    spec = PreprocessingSpec(16, 24, 8, train(list(WORDS), 300), LABELS, 1, audio=AudioSpec(), explain_grid=(2, 3))
    with FakeServer(Version(spec), labels={"stable": 1}) as running:
        yield running


@pytest.fixture(scope="module")
def clips(clip_server: FakeServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playground]:
    """Before a version that takes clips."""
    data = make_data(tmp_path_factory.mktemp("clips"), "audio", "wav", [wav(seed=seed) for seed in range(4)])
    flags = f"--server={clip_server.address}", "--model=pairs", f"--examples={data}", "--label=stable"
    with Playground(*flags) as running:
        yield running
