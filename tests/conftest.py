"""Fixtures for all tests. Before TensorFlow is imported, it is set to be quiet and to use no GPU."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from duoserve import Client
from serving.local import testing
from serving.local.testing import LocalServer
from tests.forked import Forked
from tests.shared import made_once

if TYPE_CHECKING:
    from playwright.sync_api import Browser

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
# With more threads than cores in all, TensorFlow takes 10 to 15 % more CPU for the same work.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

# A busy machine is no finding: what is measured is measured in benchmarks/.
hypothesis.settings.register_profile("duoserve", deadline=None)
hypothesis.settings.load_profile("duoserve")

LocalServer.launch = Forked
# Each worker takes a part: drawn by two before one listens, a port would lead a test to another test's server.
testing.PORTS = testing.PORTS[int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 8 :: 8]
# Nor is a call or a start that waits for a core: 10 s and 60 s are for users, not for tests beside other work.
FOR_USERS = Client.__init__.__kwdefaults__["timeout"], LocalServer.__init__.__kwdefaults__["timeout"]
Client.__init__.__kwdefaults__["timeout"] = 60.0
LocalServer.__init__.__kwdefaults__["timeout"] = 240.0

SLOW = {"rollout", "training", "k8s", "own", "export", "playground", "signatures", "answers", "languages", "server"}
"""Folders with files that take long."""

LONGEST = {"test_end_to_end", "test_training"}
"""Files that take minutes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, then those of the slow folders: one that starts last would leave the other workers idle.

    Their folders take turns: two workers in one folder would wait for the same fixtures (`tests.shared`).
    """
    turns: dict[Path, tuple[bool, bool, int]] = {}
    files = Counter[str]()
    for path in dict.fromkeys(item.path for item in items):
        folder = path.parent.name
        turns[path] = (path.stem not in LONGEST, folder not in SLOW, files[folder])
        files[folder] += 1
    items.sort(key=lambda item: turns[item.path])


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A headless Chromium. No longer than a module: while Playwright runs, no test may call `asyncio.run`."""
    from tests.playground.browser import launched

    with launched() as browser:
        yield browser


@pytest.fixture(scope="session")
def emoji(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's data. Read only."""
    from export.dataset.emoji import make_emoji_dataset

    return made_once(tmp_path_factory, "emoji", lambda folder: make_emoji_dataset(folder / "data", progress=False))
