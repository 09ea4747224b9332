"""What is made once for the whole run, and not by each worker: models, trainings, data sets."""

from __future__ import annotations

import fcntl
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

Made = TypeVar("Made")


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Made]) -> Made:
    """What `make` returned to the first worker that asked; the others wait for it, and get a copy.

    Args:
        factory: The fixture `tmp_path_factory`.
        name: Of the folder; one for each maker.
        make: Is given an empty folder, which all workers read. Its result must pickle; Keras models do.
    """
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"shared-{name}"
    folder.mkdir(exist_ok=True)
    done = folder.with_suffix(".pickle")
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if done.exists():
            return pickle.loads(done.read_bytes())
        made = make(folder)
        done.write_bytes(pickle.dumps(made))
        return made
