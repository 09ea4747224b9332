"""A model that was trained for it answers without its image or without its text."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from duoserve.preprocessing.preprocessor import Preprocessor
from export.dataset.data import Dataset, encode
from export.errors import ExportError
from export.publish.card import read_card
from export.publish.savedmodel import Published
from export.training.missing import MissingInputs, without
from export.training.presets import Preset
from export.training.run import TrainedModel
from export.training.train import train


@pytest.fixture
def trained(trained_optional: TrainedModel) -> TrainedModel:
    return trained_optional


def answers(trained: TrainedModel, images: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    return trained.model({"image": images, "tokens": tokens}, training=False).numpy()


def test_it_is_right_without_either(trained: TrainedModel) -> None:
    facts = trained.facts
    assert trained.spec.optional == ("image", "text") == tuple(facts["optional"]) == tuple(facts["missing"])
    for metrics in (facts["metrics"], *facts["missing"].values()):
        assert metrics["accuracy"] > 0.8


def test_missing_inputs_are_measured_as_callers_send_them(dataset: Dataset, trained: TrainedModel) -> None:
    arrays = encode(dataset.select("test"), Preprocessor(trained.spec))
    for name in ("image", "text"):
        rows = without(arrays, name, trained.spec.pad_id)
        assert not (rows.images if name == "image" else rows.tokens).any()
        right = answers(trained, rows.images, rows.tokens).argmax(axis=-1) == rows.classes
        assert right.mean() == pytest.approx(trained.facts["missing"][name]["accuracy"])


def test_a_row_does_not_depend_on_what_others_miss(dataset: Dataset, trained: TrainedModel) -> None:
    arrays = encode(dataset.select("test")[:3], Preprocessor(trained.spec))
    images, tokens = arrays.images.copy(), arrays.tokens.copy()
    images[0], tokens[1] = 0, 0
    mixed = answers(trained, images, tokens)
    for row in range(3):
        np.testing.assert_allclose(mixed[row], answers(trained, images[[row]], tokens[[row]])[0], atol=1e-6)


def test_it_is_kept(dataset: Dataset, trained: TrainedModel, tmp_path: Path) -> None:
    trained.save(tmp_path / "run")
    loaded = TrainedModel.load(tmp_path / "run")
    assert loaded.spec.optional == ("image", "text")
    arrays = encode(dataset.select("test"), Preprocessor(trained.spec))
    arrays.images[::2] = 0
    given = arrays.images, arrays.tokens
    np.testing.assert_array_equal(answers(loaded, *given), answers(trained, *given))


def test_it_passes_the_gate_and_its_card_says_so(trained: TrainedModel, published_optional: Published) -> None:
    assert published_optional.spec.optional == ("image", "text")
    assert read_card(published_optional.path)["training"]["missing"] == trained.facts["missing"]


@pytest.mark.parametrize("optional", [("image",), ("text",), ("image", "text")])
def test_training_hides_a_share_of_the_rows_and_never_both_inputs(optional: tuple[str, ...]) -> None:
    rows = 4000
    image, tokens = np.ones((rows, 2, 2, 3), np.uint8), np.ones((rows, 2), np.int32)
    features = [np.ones((rows, 1, 1, 2), np.float32), np.ones((rows, 2), np.float32), np.ones((rows, 2), np.float32)]
    layer = MissingInputs(optional, 0.4)
    regions, seen, read = (each.numpy() for each in layer([image, tokens, *features], training=True))
    no_image, no_text = seen[:, 0] == 0, read[:, 0] == 0
    np.testing.assert_array_equal(no_image, regions[:, 0, 0, 0] == 0)
    share = 0.4 / len(optional)
    assert no_image.mean() == pytest.approx(share if "image" in optional else 0, abs=0.04)
    assert no_text.mean() == pytest.approx(share if "text" in optional else 0, abs=0.04)
    assert not (no_image & no_text).any()
    for given, kept in zip(features, layer([image, tokens, *features]), strict=True):
        np.testing.assert_array_equal(kept, given)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"optional": ["audio"]}, "Expected optional inputs among image, text. Received: 'audio'"),
        ({"optional": ["image"], "fusion": "text_only"}, "Expected a fusion of two inputs"),
        ({"optional": ["image"], "modality_dropout": 0.0}, "Expected modality_dropout above 0"),
    ],
)
def test_a_training_that_can_not_run_is_refused(
    dataset: Dataset, small: Preset, wrong: dict[str, object], message: str
) -> None:
    preset = dataclasses.replace(small, modality_dropout=wrong.pop("modality_dropout", 0.3))
    with pytest.raises(ExportError, match=message):
        train(dataset, preset=preset, **wrong)
