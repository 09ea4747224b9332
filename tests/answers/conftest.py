"""A manifest for each kind of answer, trained in seconds, exported through the gate, and served."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from export.dataset.data import load_dataset
from export.publish.explain import explained
from export.publish.savedmodel import Published, export_version
from export.publish.store import ModelStore
from export.training.presets import PRESETS
from export.training.run import TrainedModel
from export.training.train import train
from serving.local.testing import LocalServer
from tests.shared import made_once
from tests.training.conftest import COLOURS, SHAPES, picture, write_manifest

KINDS = ("tags", "yes-no", "scores")
PRICES = {"red": 10.0, "green": 250.0, "blue": 1000.0}
ROWS, HELD_OUT = 12, (0, 4, 8)  # of each colour; the held-out ones have every shape
TINY = dataclasses.replace(
    PRESETS["reference"],
    image_size=16,
    most_tokens=8,
    vocabulary=300,
    embedding=8,
    text_units=8,
    filters=(8, 8),
    width=8,
    epochs=25,
    batch_size=9,
    learning_rate=0.03,
    decay=True,
)


def on_white(png: bytes) -> bytes:
    """An image beside as much white: `explain` hides an image behind its mean colour, which changes no plain one."""
    with Image.open(io.BytesIO(png)) as image, Image.new("RGB", (2 * image.width, image.height), "white") as wide:
        wide.paste(image)
        wide.save(buffer := io.BytesIO(), "PNG")
    return buffer.getvalue()


def make_manifest(folder: Path, kind: str) -> Path:
    """Squares of a colour, with a shape as their text: a quarter held out. Red and box are what a yes needs."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for colour, value in COLOURS.items():
        for number in range(ROWS):
            name, shape = f"images/{colour}-{number}.png", SHAPES[number % 3]
            (folder / name).write_bytes(on_white(picture(value, seed=number)))
            said = {
                "tags": [f"{shape}|{colour}"] if colour != "blue" else [colour],
                "yes-no": ["yes" if colour == "red" else "no"],
                "scores": [str(PRICES[colour]), f"{SHAPES.index(shape)}e-3"],
            }[kind]
            rows.append([name, f"a {shape} here", *said, "test" if number in HELD_OUT else "train"])
    columns = "price [EUR],weight" if kind == "scores" else "label"
    write_manifest(folder, rows, f"image,text,{columns},split")
    return folder


@pytest.fixture(scope="session")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By kind, read only."""
    root = tmp_path_factory.mktemp("answers")
    return {kind: make_manifest(root / kind, kind) for kind in KINDS}


@pytest.fixture(scope="session")
def trained(manifests: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrainedModel]:
    def make(_: Path) -> dict[str, TrainedModel]:
        return {kind: train(load_dataset(folder, answer=kind), preset=TINY) for kind, folder in manifests.items()}

    return made_once(tmp_path_factory, "answers-trained", make)


@pytest.fixture(scope="session")
def published(trained: dict[str, TrainedModel], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Published]:
    def make(store: Path) -> dict[str, Published]:
        return {
            kind: export_version(
                model.model,
                explained(model.spec, (2, 2)) if kind == "scores" else model.spec,
                model.samples,
                ModelStore(store, kind),
                batch_sizes=(1,),
                facts=model.facts,
            )
            for kind, model in trained.items()
        }

    return made_once(tmp_path_factory, "answers-published", make)


@pytest.fixture(scope="module")
def server(published: dict[str, Published], tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """Serves a model of each kind, called by the name of the kind."""
    config = tmp_path_factory.mktemp("config") / "models.config"
    entries = "".join(
        f'config {{ name: "{kind}" base_path: "{each.path.parent}" model_platform: "tensorflow" }}'
        for kind, each in published.items()
    )
    config.write_text(f"model_config_list {{ {entries} }}")
    flags = f"--model_config_file={config}", "--enable_model_warmup=false"
    with LocalServer(*flags, rest=True, timeout=240) as running:
        yield running
