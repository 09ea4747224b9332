"""KERAS_BACKEND and keras.json neither break nor change a training or an export."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator

import keras
import pytest

from export.dataset.data import Dataset
from export.errors import ExportError
from export.keras_settings import keras_settings
from export.training.presets import Preset
from export.training.train import train


@pytest.fixture
def odd_settings() -> Iterator[tuple[object, ...]]:
    before = keras.config.floatx(), keras.config.image_data_format(), keras.config.dtype_policy()
    keras.config.set_floatx("float16")
    keras.config.set_image_data_format("channels_first")
    keras.config.set_dtype_policy("float16")
    yield "float16", "channels_first", "float16"
    keras.config.set_floatx(before[0])
    keras.config.set_image_data_format(before[1])
    keras.config.set_dtype_policy(before[2])


def test_a_training_has_the_settings_that_it_needs_and_puts_back_the_others(
    odd_settings: tuple[object, ...], dataset: Dataset, small: Preset
) -> None:
    trained = train(dataset, preset=dataclasses.replace(small, epochs=1))
    assert {variable.dtype for variable in trained.model.trainable_variables} == {"float32"}
    assert trained.model.get_layer("conv_1").data_format == "channels_last"
    now = keras.config.floatx(), keras.config.image_data_format(), keras.config.dtype_policy().name
    assert now == odd_settings


def test_another_backend_is_not_taken() -> None:
    code = "import export, keras; print(keras.config.backend())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "tensorflow"


def test_a_backend_that_is_there_already_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with (
        pytest.raises(ExportError, match=r"Expected Keras with the backend tensorflow.* Received: jax"),
        keras_settings(),
    ):
        pass
