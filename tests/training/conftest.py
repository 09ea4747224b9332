"""Folders of coloured squares with their colours as words, and a model small enough to learn them in seconds."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from duoserve.contract import ONE_CLASS, PreprocessingSpec
from export.dataset.data import Dataset, load_dataset
from export.publish.savedmodel import Published, export_version
from export.publish.store import ModelStore
from export.training.heads import Head, head
from export.training.presets import PRESETS, Preset
from export.training.run import TrainedModel
from export.training.train import train
from tests.shared import made_once

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 50, 230)}
SHAPES = ("square", "box", "block", "tile", "patch", "field")

SMALL = dataclasses.replace(
    PRESETS["compact"],
    image_size=32,
    vocabulary=320,
    embedding=8,
    text_units=8,
    filters=(8, 16),
    width=16,
    dropout=0.1,
    epochs=12,
    batch_size=8,
    learning_rate=1e-2,
)


def one_class(spec: PreprocessingSpec) -> Head:
    """The last layers of a model that answers with one of the spec's labels."""
    return head(ONE_CLASS, np.eye(len(spec.labels)))


def picture(colour: tuple[int, int, int], seed: int = 0, kind: str = "PNG") -> bytes:
    noise = np.random.default_rng(seed).integers(-25, 26, (20, 24, 3))
    buffer = io.BytesIO()
    Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def write_manifest(folder: Path, rows: Iterable[Sequence[str]], header: str = "image,text,label") -> None:
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        file.write(header + "\n")
        csv.writer(file).writerows(rows)


def make_squares(folder: Path) -> Path:
    """54 pairs of three classes, a sixth of each held out."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for colour, value in COLOURS.items():
        for number in range(18):
            name = f"images/{colour}-{number}.png"
            (folder / name).write_bytes(picture(value, seed=number))
            rows.append([name, f"a {colour} {SHAPES[number % 6]}", colour, "test" if number % 6 == 5 else "train"])
    write_manifest(folder, rows, "image,text,label,split")
    return folder


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only."""
    return make_squares(tmp_path_factory.mktemp("data") / "squares")


@pytest.fixture(scope="session")
def dataset(squares: Path) -> Dataset:
    return load_dataset(squares)


@pytest.fixture(scope="session")
def small() -> Preset:
    return SMALL


@pytest.fixture(scope="session")
def trained_optional(dataset: Dataset, small: Preset, tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """Answers without its image and without its text. Attention, where an image is missing in two places."""
    preset = dataclasses.replace(small, modality_dropout=0.6, epochs=25)

    def make(_: Path) -> TrainedModel:
        return train(dataset, preset=preset, fusion="attention", optional=["text", "image"])

    return made_once(tmp_path_factory, "squares-trained", make)


@pytest.fixture(scope="session")
def published_optional(trained_optional: TrainedModel, tmp_path_factory: pytest.TempPathFactory) -> Published:
    """The same as version 1 of "squares"; its card has the facts."""
    trained = trained_optional

    def make(folder: Path) -> Published:
        store = ModelStore(folder, "squares")
        return export_version(
            trained.model, trained.spec, trained.samples, store, batch_sizes=(1,), facts=trained.facts
        )

    return made_once(tmp_path_factory, "squares-published", make)


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes a folder whose manifest has these rows; `good.png`, `also.png` and `third.png` are there."""

    def make(rows: Iterable[Sequence[str]], header: str = "image,text,label") -> Path:
        for number, name in enumerate(("good.png", "also.png", "third.png")):
            (tmp_path / name).write_bytes(picture((200, 40, 40), seed=number))
        write_manifest(tmp_path, rows, header)
        return tmp_path

    return make
