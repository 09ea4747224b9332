"""A spec of clips, a model so small that it is published in a second, and sounds."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from duoserve import AudioSpec, Client
from duoserve.contract import PreprocessingSpec
from duoserve.preprocessing.audio import encode_wav
from export.publish.explain import explained
from export.publish.savedmodel import Published, export_version
from export.publish.store import ModelStore
from export.training.tokenizer import train_tokenizer
from serving.local.testing import LocalServer
from tests.audio.wav_files import wav_file
from tests.export.conftest import TEXTS, build_model
from tests.shared import made_once

__all__ = ["NAME", "melody", "packed", "wav"]

NAME = "words"


def melody(rate: int = 16_000, seconds: float = 0.6, channels: int = 1, seed: int = 0) -> np.ndarray:
    """float64 array of shape (frames, channels): chords that change, over a little noise."""
    draw = np.random.default_rng(seed)
    time = np.arange(round(rate * seconds))[:, None] / rate
    sound = 0.01 * draw.standard_normal((len(time), channels))
    for hertz in draw.uniform(150, 3500, 4):
        sound += draw.uniform(0.05, 0.2, channels) * np.sin(2 * np.pi * hertz * (1 + 0.3 * time) * time)
    return sound


def wav(seed: int = 0, rate: int = 16_000, seconds: float = 0.6) -> bytes:
    """A WAV of 16-bit integers."""
    return wav_file(melody(rate, seconds, seed=seed), rate, "int16")


def packed(samples: np.ndarray, rate: int, kind: str, subtype: str | None = None) -> bytes:
    """A FLAC or OGG."""
    data = io.BytesIO()
    soundfile.write(data, samples, rate, format=kind, subtype=subtype)
    return data.getvalue()


@pytest.fixture(scope="session")
def spec() -> PreprocessingSpec:
    return PreprocessingSpec(
        image_height=20,
        image_width=30,
        token_length=6,
        tokenizer=train_tokenizer(TEXTS, vocabulary=320),
        labels=("animal", "plant", "weather"),
        version=1,
        audio=AudioSpec(),
    )


@pytest.fixture(scope="session")
def published(spec: PreprocessingSpec, tmp_path_factory: pytest.TempPathFactory) -> Published:
    """Version 1 of "words", which takes clips, as the gate let it through."""
    samples = [(wav(1), "red cat"), (encode_wav(packed(melody(44_100, 2.0), 44_100, "FLAC"), 16_000), "🌳 tree")]

    def make(folder: Path) -> Published:
        return export_version(build_model(spec), explained(spec), samples, ModelStore(folder, NAME), batch_sizes=(1, 4))

    return made_once(tmp_path_factory, "audio", make)


@pytest.fixture(scope="module")
def server(published: Published) -> Iterator[LocalServer]:
    flags = [f"--model_name={NAME}", f"--model_base_path={published.path.parent}"]
    with LocalServer(*flags, rest=True) as started:
        with Client(started.address, model=NAME, timeout=60) as client:
            client.describe()
        yield started
