"""Two sound replicas for the whole session, and others on demand."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.rollout import models
from tests.rollout.site import Site, running


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every version of tests.rollout.models. Read only."""
    root = tmp_path_factory.mktemp("store")
    models.publish(root)
    return root


@pytest.fixture(scope="session")
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
