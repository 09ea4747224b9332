"""A user's files beside the model: a tokenizer, labels and held-out rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from export.own.prepare import Prepared, prepare
from export.own.settings import OwnModel
from export.training.tokenizer import train_tokenizer
from tests.training.conftest import COLOURS, SHAPES, make_squares

ZOO = "tests.own.zoo"


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `spm.model`, `labels.txt` and `squares/`. Read only."""
    root = tmp_path_factory.mktemp("shelf")
    make_squares(root / "squares")
    texts = [f"a {colour} {shape}" for colour in COLOURS for shape in SHAPES]
    (root / "spm.model").write_bytes(train_tokenizer(texts, vocabulary=320))
    (root / "labels.txt").write_text("red\ngreen\nblue\n")
    return root


@pytest.fixture
def own(shelf: Path) -> Callable[..., OwnModel]:
    """Describes a model of the zoo, by the name of its function, or of a file."""

    def describe(model: str | Path, **changes: object) -> OwnModel:
        name = f"{ZOO}:{model}" if isinstance(model, str) else str(model)
        whole = OwnModel(
            name, tokenizer=shelf / "spm.model", labels=shelf / "labels.txt", samples=shelf / "squares", folder=shelf
        )
        return dataclasses.replace(whole, **changes)

    return describe


@pytest.fixture
def prepared(own: Callable[..., OwnModel]) -> Callable[..., Prepared]:
    """Prepares a model of the zoo."""
    return lambda model, **changes: prepare(own(model, **changes))
