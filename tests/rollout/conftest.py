"""Two sound replicas for a module, and others on demand."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.rollout import models
from tests.rollout.site import Site, running
from tests.shared import made_once


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every version of tests.rollout.models. Read only."""
    return made_once(tmp_path_factory, "rollout", models.publish)


@pytest.fixture(scope="module")
def pair(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running(store, tmp_path_factory.mktemp("pair"), [None, None]) as site:
        yield site


@pytest.fixture
def site(pair: Site) -> Site:
    """Two sound replicas, at version 1."""
    pair.reset()
    return pair


@pytest.fixture
def make_site(store: Path, tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Starts replicas of the test's own, one for each fault (None: sound)."""
    with contextlib.ExitStack() as stack:
        yield lambda *faults: stack.enter_context(running(store, tmp_path, list(faults)))
