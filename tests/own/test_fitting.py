"""For inputs of any name and structure, the adapted model gives the model's own answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras.applications.imagenet_utils import preprocess_input

from demo import own_model
from export.own.prepare import Prepared, prepare
from export.own.scaling import scale
from export.own.settings import OwnModel
from tests.own import zoo

Array = np.ndarray


def rows(size: tuple[int, int], length: int) -> dict[str, Array]:
    draw = np.random.default_rng(5)
    tokens = draw.integers(1, 250, (4, length), dtype=np.int32)
    tokens[1, 3:] = 0
    return {"image": draw.integers(0, 256, (4, *size, 3), dtype=np.uint8), "tokens": tokens}


def answers(prepared: Prepared, given: dict[str, Array]) -> Array:
    model = prepared.trained.model
    assert {tensor.name: tensor.dtype for tensor in model.inputs} == {"image": "uint8", "tokens": "int32"}
    output = model(given, training=False).numpy()
    assert output.dtype == np.float32
    np.testing.assert_allclose(output.sum(axis=-1), 1, atol=1e-2)
    return output


def softmax(logits: Array) -> Array:
    return keras.ops.softmax(logits.astype(np.float32)).numpy()


def floats(image: Array) -> Array:
    return image.astype(np.float32)


CASES: dict[str, tuple[dict[str, Any], Callable[[keras.Model, Array, Array], Any]]] = {
    "plain": ({}, lambda model, image, tokens: model([image, tokens])),
    "swapped_logits": (
        {},
        lambda model, image, tokens: softmax(model([tokens.astype(np.int64), floats(image)]).numpy()),
    ),
    "nested_dict": (
        {"output": "answer"},
        lambda model, image, tokens: model({"text": {"ids": floats(tokens)}, "picture": floats(image)})["answer"],
    ),
    "two_outputs_in_a_list": ({"output": "classes"}, lambda model, image, tokens: model([image, tokens])[1]),
    "bare": ({"image_scale": "tf"}, lambda model, image, tokens: model([floats(image) / 127.5 - 1, tokens])),
    "any_size": (
        {"image_size": (20, 24), "token_length": 7},
        lambda model, image, tokens: model([image, tokens]),
    ),
    "preprocess_input": ({}, lambda model, image, tokens: model([floats(image), tokens])),
    "frozen_in_training_mode": ({}, lambda model, image, tokens: model([image, tokens], training=False)),
    "names_of_any_kind": ({}, lambda model, image, tokens: model([image, tokens])),
    "transformer": ({}, lambda model, image, tokens: model([image, tokens])),
    "code": (
        {"image_scale": "0..255"},
        lambda model, image, tokens: model({"picture": floats(image), "ids": tokens}, training=False),
    ),
    "code_with_two_arguments": (
        {
            "image_scale": "0..1",
            "image_input": "picture",
            "text_input": "ids",
            "image_size": (20, 24),
            "token_length": 7,
        },
        lambda model, image, tokens: model(floats(image) / 255, tokens),
    ),
    "code_with_a_list": (
        {"image_scale": "0..255"},
        lambda model, image, tokens: model([tokens, floats(image)]),
    ),
    "in_half_precision": (
        {},
        lambda model, image, tokens: softmax(model([tokens.astype(np.int64), floats(image)]).numpy()),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_adapted_model_answers_as_the_model_itself(
    prepared: Callable[..., Prepared], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    options, ask = CASES[name]
    keras.utils.set_random_seed(1)
    model = getattr(zoo, name)()
    monkeypatch.setattr(zoo, name, lambda: model)
    given = rows((20, 24), 7)
    expected = np.asarray(ask(model, given["image"], given["tokens"]))
    found = answers(prepared(name, **options), given)
    np.testing.assert_allclose(found, expected, atol=2e-3 if name == "in_half_precision" else 1e-5)
    assert np.ptp(found, axis=0).max() > 1e-4, "it looks at its inputs"


def test_a_model_that_was_never_called_is_called_as_the_options_say(prepared: Callable[..., Prepared]) -> None:
    options = {"image_input": "picture", "text_input": "ids", "image_scale": "0..255"}
    found = prepared("never_called", **options, image_size=(20, 24), token_length=7)
    answers(found, rows((20, 24), 7))


def test_a_backbone_of_keras_applications_with_its_weights_from_a_file(
    own: Callable[..., OwnModel], tmp_path: Path
) -> None:
    """The model of export/OWN_MODEL.md."""
    keras.utils.set_random_seed(3)
    model = own_model.build(3, zoo.IDS)
    model.save_weights(tmp_path / "mine.weights.h5")
    described = own("plain", arguments={"classes": 3, "vocabulary": zoo.IDS}, weights=tmp_path / "mine.weights.h5")
    found = prepare(dataclasses.replace(described, model="demo.own_model:build"))
    given = rows((own_model.SIZE, own_model.SIZE), own_model.LENGTH)
    expected = softmax(model([given["tokens"].astype(np.int64), floats(given["image"])], training=False).numpy())
    np.testing.assert_allclose(answers(found, given), expected, atol=1e-5)
    assert dict(found.notes)["image"] == "input 'photo', float32, 64x64, pixels as 0..255"


def test_a_file_with_layers_that_nobody_registered(prepared: Callable[..., Prepared], tmp_path: Path) -> None:
    model = zoo.with_unregistered_layer()
    model.save(tmp_path / "mine.keras")
    found = prepared(tmp_path / "mine.keras", custom_objects=("tests.own.zoo",))
    given = rows((20, 24), 7)
    expected = model([given["image"], given["tokens"]]).numpy()
    np.testing.assert_allclose(answers(found, given), expected, atol=1e-6)


def test_code_from_a_file_knows_what_it_was_called_with(prepared: Callable[..., Prepared], tmp_path: Path) -> None:
    zoo.code().save(tmp_path / "code.keras")
    found = prepared(tmp_path / "code.keras", image_scale="0..255")
    assert (found.trained.spec.image_height, found.trained.spec.image_width) == (20, 24)
    assert found.trained.spec.token_length == 7


def test_a_model_may_say_which_input_may_be_missing(prepared: Callable[..., Prepared]) -> None:
    assert prepared("plain", optional=("text",)).trained.spec.optional == ("text",)


def test_samples_are_held_out_rows_and_facts_name_the_models_files(
    prepared: Callable[..., Prepared], tmp_path: Path
) -> None:
    zoo.plain().save(tmp_path / "mine.keras")
    found = prepared(tmp_path / "mine.keras")
    texts = [text for _, text in found.trained.samples]
    assert len(texts) == 9 and texts[:3] == ["a red field", "a green field", "a blue field"]
    facts = found.trained.facts
    assert facts["own_model"] == "mine.keras" and len(facts["model_sha256"]) == 64
    assert 0 <= facts["metrics"]["accuracy"] <= 1 and facts["rows"] == {"test": 9}


@pytest.mark.parametrize("mode", ["tf", "torch", "caffe"])
def test_pixels_are_scaled_as_keras_applications_does_it(mode: str) -> None:
    image = np.arange(256 * 3, dtype=np.uint8).reshape(1, 16, 16, 3)[:, :, ::-1]
    expected = preprocess_input(image.astype(np.float64), mode=mode)
    np.testing.assert_allclose(np.asarray(scale(image, mode)), expected, atol=2e-5)
    np.testing.assert_allclose(np.asarray(scale(image, "0..1")), image / 255, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(scale(image, "0..255")), image)
