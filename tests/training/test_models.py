"""Every preset and fusion gives a model of the contract that a stock CPU server can run."""

from __future__ import annotations

import dataclasses
import itertools

import keras
import numpy as np
import pytest

from duoserve.contract import PreprocessingSpec
from export.errors import ExportError
from export.training.fusion import FUSE
from export.training.model import BUILDERS, build_model
from export.training.presets import BASELINES, FUSIONS, PRESETS, Preset
from tests.training.conftest import one_class

DIFFERENT = ("compact", "reference")
"""`large` is `compact` with larger numbers."""

EVERY = list(itertools.product(DIFFERENT, FUSIONS))
LABELS = ("one", "two", "three")


def make(preset: Preset, fusion: str, size: int = 32, tokens: int = 6) -> keras.Model:
    spec = PreprocessingSpec(size, size, tokens, b"unused", LABELS, 1)
    keras.utils.set_random_seed(1)
    return build_model(preset, spec, fusion=fusion, vocabulary=50, head=one_class(spec))


def random_input(rows: int, size: int = 32, tokens: int = 6) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    return {
        "image": draw.integers(0, 256, (rows, size, size, 3), dtype=np.uint8),
        "tokens": draw.integers(1, 50, (rows, tokens), dtype=np.int32),
    }


def answer(model: keras.Model, inputs: dict[str, np.ndarray]) -> np.ndarray:
    return model(inputs, training=False).numpy()


def test_every_name_has_a_builder() -> None:
    assert set(PRESETS) == set(BUILDERS)
    assert set(FUSE) == {*FUSIONS, *BASELINES}


@pytest.mark.parametrize(("preset", "fusion"), EVERY)
def test_the_output_is_a_distribution_whatever_the_text(preset: str, fusion: str) -> None:
    model = make(PRESETS[preset], fusion)
    inputs = random_input(4)
    inputs["tokens"][0] = 0  # the empty text
    inputs["tokens"][1, 2:] = 0
    probabilities = answer(model, inputs)
    assert probabilities.shape == (4, 3) and probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-5)


@pytest.mark.parametrize(("preset", "fusion"), EVERY)
def test_both_inputs_count(preset: str, fusion: str) -> None:
    model = make(PRESETS[preset], fusion)
    inputs = random_input(1)
    before = answer(model, inputs)
    assert not np.allclose(before, answer(model, {**inputs, "image": 255 - inputs["image"]}), atol=1e-7)
    assert not np.allclose(before, answer(model, {**inputs, "tokens": inputs["tokens"][:, ::-1]}), atol=1e-7)


@pytest.mark.parametrize("preset", DIFFERENT)
def test_padding_does_not_count(preset: str) -> None:
    short, long = make(PRESETS[preset], "concat", tokens=4), make(PRESETS[preset], "concat", tokens=9)
    long.set_weights(short.get_weights())
    inputs = random_input(2, tokens=4)
    padded = {**inputs, "tokens": np.pad(inputs["tokens"], ((0, 0), (0, 5)))}
    np.testing.assert_allclose(answer(short, inputs), answer(long, padded), atol=1e-6)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_row_does_not_depend_on_its_batch(fusion: str) -> None:
    model, inputs = make(PRESETS["compact"], fusion), random_input(5)
    alone = answer(model, {name: value[3:4] for name, value in inputs.items()})
    np.testing.assert_allclose(answer(model, inputs)[3:4], alone, atol=1e-6)


def test_attention_chooses_among_regions_by_the_text() -> None:
    """A picture whose left half differs from its right half: another text looks elsewhere."""
    model, inputs = make(PRESETS["compact"], "attention", size=64), random_input(1, size=64)
    inputs["image"][:, :, :32] //= 8
    seen = keras.Model(model.input, model.get_layer("seen").output)
    other = {**inputs, "tokens": inputs["tokens"][:, ::-1]}
    assert model.get_layer("regions").output.shape[1] == 16
    assert not np.array_equal(answer(seen, inputs), answer(seen, other))


def test_the_reference_is_the_published_architecture() -> None:
    spec = PreprocessingSpec(224, 224, 16, b"unused", tuple(map(str, range(10))), 1)
    model = build_model(PRESETS["reference"], spec, fusion="concat", vocabulary=2_000, head=one_class(spec))
    shapes = {layer.name: tuple(map(tuple, (weight.shape for weight in layer.weights))) for layer in model.layers}
    assert shapes["conv_1"][0] == (3, 3, 3, 32)
    assert shapes["conv_2"][0] == (3, 3, 32, 64)
    assert shapes["embedding"] == ((10_000, 128),)
    assert shapes["text_features"][1] == (128, 4 * 128)
    assert shapes["probabilities"][0] == (64 + 128, 10)
    assert model.get_layer("pool").output.shape == (None, 110, 110, 64)
    settings = PRESETS["reference"]
    assert (settings.batch_size, settings.epochs, settings.weight_decay, settings.decay) == (32, 10, 0.0, False)


def test_large_has_a_hundred_million_parameters() -> None:
    """Whatever the vocabulary."""
    large = PRESETS["large"]
    model = make(large, "concat", size=large.image_size)
    assert model.count_params() > 100_000_000
    assert model.get_layer("embedding").count_params() < 100_000


def test_a_model_that_can_not_be_built_is_refused() -> None:
    compact = PRESETS["compact"]
    with pytest.raises(ExportError, match=r"Expected preset .* 'huge'"):
        make(dataclasses.replace(compact, name="huge"), "concat")
    with pytest.raises(ExportError, match=r"Expected fusion .* 'sum'"):
        make(compact, "sum")
    for preset in PRESETS.values():
        with pytest.raises(ExportError, match=r"Expected an image large enough .* 4x4"):
            make(preset, "concat", size=4)
