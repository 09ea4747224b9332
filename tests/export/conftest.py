"""A model so small that it is built and published in a second, and what it was made from."""

from __future__ import annotations

import dataclasses
import io
import shutil
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from duoserve.contract import PreprocessingSpec
from export.publish.savedmodel import Published, export_version
from export.publish.store import ModelStore
from export.training.tokenizer import train_tokenizer
from tests.shared import made_once

WORDS = [
    "red",
    "cat",
    "blue",
    "dog",
    "grinning",
    "face",
    "green",
    "tree",
    "over",
    "the",
    "sea",
    "hot",
    "air",
    "balloon",
]
TEXTS = [f"{a} {b}" for a in WORDS for b in WORDS]


def encoded(height: int, width: int, kind: str, seed: int = 0, **options: object) -> bytes:
    """An encoded image of smooth noise, which survives resizing better than white noise."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(buffer, kind, **options)
    return buffer.getvalue()


def build_model(spec: PreprocessingSpec, *, seed: int = 1, **lstm: object) -> keras.Model:
    """Convolution and LSTM, as every model of the contract, with weights from a seed."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((spec.image_height, spec.image_width, 3), dtype="uint8", name="image")
    tokens = keras.Input((spec.token_length,), dtype="int32", name="tokens")
    seen = keras.layers.GlobalAveragePooling2D()(
        keras.layers.Conv2D(8, 3, activation="relu")(keras.layers.Rescaling(1 / 255)(image))
    )
    read = keras.layers.LSTM(8, **{"use_cudnn": False, **lstm})(keras.layers.Embedding(1000, 8, mask_zero=True)(tokens))
    fused = keras.layers.Concatenate()([seen, read])
    return keras.Model(
        {"image": image, "tokens": tokens}, keras.layers.Dense(len(spec.labels), activation="softmax")(fused)
    )


@pytest.fixture(scope="session")
def spec() -> PreprocessingSpec:
    return PreprocessingSpec(
        image_height=24,
        image_width=32,
        token_length=6,
        tokenizer=train_tokenizer(TEXTS, vocabulary=320),
        labels=("animal", "plant", "weather"),
        version=1,
    )


@pytest.fixture(scope="session")
def model(spec: PreprocessingSpec) -> keras.Model:
    return build_model(spec)


@pytest.fixture(scope="session")
def samples() -> list[tuple[bytes, str]]:
    return [
        (encoded(40, 60, "JPEG", seed=1), "red cat"),
        (encoded(300, 200, "JPEG", seed=2), "hot air balloon over the sea"),
        (encoded(24, 32, "PNG", seed=3), "犬と猫"),
        (encoded(64, 64, "PNG", seed=4), "🌳 tree"),
    ]


@pytest.fixture(scope="session")
def published(
    model: keras.Model,
    spec: PreprocessingSpec,
    samples: list[tuple[bytes, str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Published:
    """Version 1 of "pets", as the gate let it through. Read only: change a `copied` one instead."""

    def make(folder: Path) -> Published:
        store = ModelStore(folder, "pets")
        return export_version(model, spec, samples, store, batch_sizes=(1, 4), facts={"accuracy": 0.5})

    return made_once(tmp_path_factory, "pets", make)


@pytest.fixture
def copied(published: Published, tmp_path: Path) -> Path:
    """A copy of the published version's folder, to be broken."""
    return Path(shutil.copytree(published.path, tmp_path / "pets" / "1"))


@pytest.fixture
def export(
    model: keras.Model, spec: PreprocessingSpec, samples: list[tuple[bytes, str]], tmp_path: Path
) -> Callable[..., Published]:
    """Exports the tiny model, or another one, into a store of the test's own."""

    def run(other: keras.Model | None = None, **changes: object) -> Published:
        fields = {field.name for field in dataclasses.fields(spec)}
        changed = dataclasses.replace(
            spec, **{key: value for key, value in changes.items() if key in fields - {"version"}}
        )
        options = {key: value for key, value in changes.items() if key not in fields or key == "version"}
        store = ModelStore(tmp_path / "store", "pets")
        return export_version(other or model, changed, samples, store, **{"batch_sizes": (1,), **options})

    return run
