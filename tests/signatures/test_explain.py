"""`explain` finds the part of the input that decides, and its relevances are the model's answers without each part."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from duoserve import AudioSpec, Client, PreprocessingSpec, Preprocessor, RequestRejected, UnsupportedModel
from duoserve.contract import DESCRIBE, EXPLAIN
from export.errors import GateError
from export.publish import signatures
from export.publish.answers import ANSWER, answer_fn
from export.publish.explain import explain_fn, explained
from export.publish.occlusion import relevances
from export.publish.savedmodel import Published, export_version
from export.publish.store import ModelStore
from export.publish.warmup import WARMUP_PATH, read_warmup
from export.training.tokenizer import train_tokenizer
from serving.local.testing import LocalServer
from tests.export.conftest import TEXTS, build_model, encoded
from tests.export.test_readme import snippet
from tests.signatures.conftest import NAME, serving

WITH, WITHOUT = 1, 2
GRID = (4, 4)  # patches of 6 by 8 pixels
SAMPLES = [(encoded(40, 60, "JPEG", seed=1), "red cat"), (encoded(64, 64, "PNG", seed=4), "🌳 tree")]


@pytest.fixture(scope="module")
def spec() -> PreprocessingSpec:
    tokenizer = train_tokenizer(TEXTS, vocabulary=320)
    return PreprocessingSpec(24, 32, 6, tokenizer, ("animal", "plant", "weather"), 1, optional=("image", "text"))


def toy(spec: PreprocessingSpec) -> keras.Model:
    """A plant if the patch in row 1, column 2 is green; an animal if the text has a cat; else the weather."""
    (cat,) = {int(token) for token in Preprocessor(spec).tokens("cat") if token != spec.pad_id}
    image = keras.Input((24, 32, 3), dtype="uint8", name="image")
    tokens = keras.Input((6,), dtype="int32", name="tokens")
    patch = keras.ops.cast(image, "float32")[:, 6:12, 16:24] / 255
    green = keras.ops.mean(patch[..., 1] - patch[..., 0], axis=(1, 2))
    cats = keras.ops.sum(keras.ops.cast(keras.ops.equal(tokens, cat), "float32"), axis=1)
    logits = keras.ops.stack([6 * cats, 6 * green, 0 * cats + 1], axis=1)
    features = keras.ops.concatenate([keras.ops.mean(patch, axis=(1, 2)), cats[:, None] + 1], axis=1)
    outputs = {"probabilities": keras.layers.Softmax()(logits), "embedding": features}
    return keras.Model({"image": image, "tokens": tokens}, outputs)


@pytest.fixture(scope="module")
def versions(spec: PreprocessingSpec, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Published]:
    store = ModelStore(tmp_path_factory.mktemp("explain"), NAME)
    specs = {WITH: explained(spec, GRID), WITHOUT: spec}
    return {
        version: export_version(toy(spec), each, SAMPLES, store, version=version, batch_sizes=(1, 2))
        for version, each in specs.items()
    }


@pytest.fixture(scope="module")
def server(versions: dict[int, Published], tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    with serving(versions, tmp_path_factory.mktemp("config")) as started:
        yield started


@pytest.fixture
def client(server: LocalServer) -> Iterator[Client]:
    with Client(server.address, model=NAME, version=WITH, timeout=60) as opened:
        yield opened


def meadow() -> np.ndarray:
    """Grey, with green where the toy looks for it, and red elsewhere."""
    image = np.full((24, 32, 3), 128, np.uint8)
    image[6:12, 16:24] = (0, 255, 0)
    image[18:, :8] = (255, 0, 0)
    return image


def test_the_patch_that_decides_is_found(client: Client) -> None:
    found = client.explain(meadow(), "red balloon")
    assert found.label == "plant" and found.version == WITH
    assert np.unravel_index(found.image_relevance.argmax(), GRID) == (1, 2)
    others = np.delete(found.image_relevance.ravel(), 1 * 4 + 2)
    np.testing.assert_allclose(others, 0, atol=1e-6)
    np.testing.assert_allclose([word.relevance for word in found.words], 0, atol=1e-6)
    assert (found.image_share, found.text_share) == pytest.approx((1, 0), abs=1e-5)


def test_the_word_that_decides_is_found(client: Client) -> None:
    grey = np.full((24, 32, 3), 128, np.uint8)
    found = client.explain(grey, "Red  CAT over")
    assert found.label == "animal"
    assert [word.text for word in found.words] == ["Red", "CAT", "over"]
    with_it = client.predict(grey, "Red  CAT over").probability
    without = client.predict(grey, "Red over").probabilities[0]
    np.testing.assert_allclose([word.relevance for word in found.words], [0, with_it - without, 0], atol=1e-6)
    assert (found.image_share, found.text_share) == pytest.approx((0, 1), abs=1e-5)
    assert found.probability == pytest.approx(with_it, abs=1e-6)


def test_both_inputs_add_up_to_what_they_do_together(client: Client) -> None:
    found = client.explain(meadow(), "red cat", label="plant")
    neither = np.exp(1 * np.array([0, 0, 1]))
    alone = neither[1] / neither.sum()
    assert sum(found.input_relevance) == pytest.approx(found.probability - alone, abs=1e-5)
    assert found.input_relevance.image > 0 > found.input_relevance.text  # the cat speaks against a plant
    assert [word.relevance < 0 for word in found.words] == [False, True]


def test_an_input_that_is_missing_decides_nothing(client: Client) -> None:
    found = client.explain(text="red cat")
    np.testing.assert_allclose(found.image_relevance, 0, atol=1e-6)
    assert found.input_relevance.image == pytest.approx(0, abs=1e-6) and found.text_share == 1
    found = client.explain(meadow())
    assert found.words == () and found.input_relevance.text == pytest.approx(0, abs=1e-6) and found.image_share == 1


def test_words_that_were_cut_have_no_relevance(client: Client) -> None:
    found = client.explain(meadow(), "red blue hot air sea over cat cat")
    assert [word.text for word in found.words][-2:] == ["cat", "cat"]
    assert [word.relevance for word in found.words][-2:] == [0, 0] and found.label == "plant"


def test_a_row_is_explained_alike_whoever_shares_its_batch(client: Client, spec: PreprocessingSpec) -> None:
    preprocessor = Preprocessor(spec)
    texts = ["cat", "red blue hot air sea cat", "dog"]
    image = np.stack([meadow(), np.full((24, 32, 3), 128, np.uint8), meadow()[::-1]])
    feeds = {
        "image": image,
        "tokens": np.stack([preprocessor.tokens(text) for text in texts]),
        "class_id": np.array([1, -1, 2], np.int32),
    }
    together = client.run(EXPLAIN, feeds).tensors
    for row in range(3):
        alone = client.run(EXPLAIN, {name: array[row : row + 1] for name, array in feeds.items()}).tensors
        for name, array in alone.items():
            np.testing.assert_allclose(array[0], together[name][row], atol=1e-6, err_msg=name)
    assert together["class_id"].tolist() == [1, 0, 2]


def test_the_graph_refuses_a_class_that_there_is_not(client: Client, spec: PreprocessingSpec) -> None:
    tokens = Preprocessor(spec).tokens("cat")[None]
    feeds = {"image": meadow()[None], "tokens": tokens, "class_id": np.array([3], np.int32)}
    with pytest.raises(RequestRejected, match="Expected class_id from -1 to 2"):
        client.run(EXPLAIN, feeds)


def test_a_version_without_explain_is_refused(server: LocalServer) -> None:
    with (
        Client(server.address, model=NAME, version=WITHOUT) as client,
        pytest.raises(UnsupportedModel, match="Expected a version with the signature explain"),
    ):
        client.explain(meadow(), "cat")


def test_it_is_warmed_up_at_the_smallest_batch_size_alone(versions: dict[int, Published]) -> None:
    records = [
        (request.model_spec.signature_name, next(iter(request.inputs.values())).tensor_shape.dim[0].size)
        for request in read_warmup(versions[WITH].path / WARMUP_PATH)
    ]
    assert [rows for name, rows in records if name == EXPLAIN] == [1]
    assert [rows for name, rows in records if name == DESCRIBE] == [1, 2]


def test_relevances_that_the_model_does_not_have_are_not_published(
    spec: PreprocessingSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(predict: Any, spec: PreprocessingSpec) -> Any:
        right = explain_fn(predict, spec)

        def explain(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            found = right(*inputs)
            return {**found, "image_relevance": found["image_relevance"][:, ::-1]}

        return explain

    monkeypatch.setattr(signatures, "explain_fn", wrong)
    with pytest.raises(GateError, match="explain, row 0: expected image_relevance within"):
        store = ModelStore(tmp_path, NAME)
        export_version(build_model(spec), explained(spec, GRID), SAMPLES, store, batch_sizes=(1,))


@pytest.mark.parametrize(
    "changes",
    [
        {"optional": ()},
        {"optional": ("image", "text")},
        {"optional": (), "audio": AudioSpec()},
        {"optional": ("text",), "pad_id": 999, "explain_grid": (5, 7)},
        {"explain_grid": (1, 1)},
        {"explain_grid": (3, 32)},
    ],
)
def test_it_is_what_the_model_answers_without_each_part(spec: PreprocessingSpec, changes: dict[str, Any]) -> None:
    spec = dataclasses.replace(spec, **{"explain_grid": GRID, **changes})
    answer = answer_fn(build_model(spec), spec)

    @tf.function(input_signature=[tf.TensorSpec([None, 24, 32, 3], tf.uint8), tf.TensorSpec([None, 6], tf.int32)])
    def predict(image: Any, tokens: Any) -> tf.Tensor:
        return answer(image, tokens)[ANSWER]

    preprocessor = Preprocessor(spec)
    draw = np.random.default_rng(0)
    image = draw.integers(0, 256, (4, 24, 32, 3), np.uint8)
    image[3] = 0
    texts = ["hot air balloon over the sea", "犬と🌳", "red cat", "dog"]
    tokens = np.stack([preprocessor.tokens(text) for text in texts])
    tokens[2] = spec.pad_id
    found = tf.function(explain_fn(predict, spec))(image, tokens, np.full(4, -1, np.int32))
    for row in range(4):
        expected = relevances(lambda *inputs: predict(*inputs).numpy(), preprocessor, image[row], tokens[row])
        assert expected.keys() == found.keys()
        for name, array in expected.items():
            np.testing.assert_allclose(found[name][row], array, atol=2e-6, err_msg=f"{name}, row {row}")


def test_the_client_readmes_snippets(
    server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("photo.jpg", "one.jpg"):
        (tmp_path / name).write_bytes(encoded(300, 200, "JPEG"))
    with Client(server.address, model=NAME, version=WITH, timeout=60) as client:
        for called in (r"client\.embed\(", r"client\.explain\("):
            code = snippet(called, "client/README.md")
            exec(compile(code, "client/README.md", "exec"), {"client": client})
    nearest, best, words, coloured = capsys.readouterr().out.splitlines()
    assert nearest.startswith("[('photo.jpg', 'a red heart'), ") and best.split()[0] in ("animal", "plant", "weather")
    assert "'heart'" in words and "\x1b[" in coloured
    with Image.open(tmp_path / "heat.png") as heat:
        assert heat.size == (200, 300)


def test_the_grid_is_no_finer_than_the_pixels(spec: PreprocessingSpec) -> None:
    small = dataclasses.replace(spec, image_height=3)
    assert explained(small).explain_grid == (3, 8)
    assert explained(spec).digest == spec.digest
