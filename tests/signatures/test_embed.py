"""The joined features as vectors: those of the Keras model in any batch, or a clear refusal."""

from __future__ import annotations

import dataclasses
import io
import itertools
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from duoserve import Client, PreprocessingSpec, Preprocessor, UnsupportedModel
from duoserve.artifact.samples import GOLDEN_PATH, load_samples
from duoserve.contract import EMBED, SERVING_DEFAULT
from export.errors import ExportError, GateError
from export.publish import answers
from export.publish.answers import embedding_length
from export.publish.savedmodel import Published, export_version
from export.publish.store import ModelStore
from export.training.model import build_model
from export.training.presets import FUSIONS
from export.training.tokenizer import train_tokenizer
from serving.local.testing import LocalServer
from serving.rollout.package import contract_of, incompatible
from tests.export.conftest import TEXTS, encoded
from tests.export.conftest import build_model as build_without
from tests.signatures.conftest import NAME, serving
from tests.training.conftest import SMALL, one_class

WITH, WITHOUT = 1, 2
SAMPLES = [(encoded(40, 60, "JPEG", seed=1), "red cat"), (encoded(64, 64, "PNG", seed=4), "🌳 tree")]
PAIRS = [(encoded(90, 70, "PNG", seed=seed), text) for seed, text in ((5, "hot air balloon"), (6, "blue dog"))]


@pytest.fixture(scope="module")
def spec() -> PreprocessingSpec:
    tokenizer = train_tokenizer(TEXTS, vocabulary=320)
    return PreprocessingSpec(24, 32, 6, tokenizer, ("animal", "plant", "weather"), 1, optional=("image", "text"))


@pytest.fixture(scope="module")
def models(spec: PreprocessingSpec) -> dict[int, keras.Model]:
    keras.utils.set_random_seed(7)  # untrained: with this one the text counts beside the image
    joined = build_model(SMALL, spec, fusion="attention", vocabulary=320, head=one_class(spec))
    return {WITH: joined, WITHOUT: build_without(spec)}


@pytest.fixture(scope="module")
def versions(
    models: dict[int, keras.Model], spec: PreprocessingSpec, tmp_path_factory: pytest.TempPathFactory
) -> dict[int, Published]:
    store = ModelStore(tmp_path_factory.mktemp("embed"), NAME)
    return {
        version: export_version(model, spec, SAMPLES, store, version=version, batch_sizes=(1, 2))
        for version, model in models.items()
    }


@pytest.fixture(scope="module")
def server(versions: dict[int, Published], tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    with serving(versions, tmp_path_factory.mktemp("config")) as started:
        yield started


def of_keras(model: keras.Model, image: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """The features of the layer `fused`, brought to length 1 by numpy."""
    part = keras.Model(model.input, model.get_layer("fused").output)
    features = np.asarray(part({"image": image, "tokens": tokens}, training=False), np.float64)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def test_it_is_the_keras_models_whoever_shares_the_batch(
    server: LocalServer, models: dict[int, keras.Model], spec: PreprocessingSpec
) -> None:
    preprocessor = Preprocessor(spec)
    image = np.stack([preprocessor.image(data) for data, _ in PAIRS])
    tokens = np.stack([preprocessor.tokens(text) for _, text in PAIRS])
    expected = of_keras(models[WITH], image, tokens)
    with Client(server.address, model=NAME, version=WITH) as client:
        found = [client.embed(*pair) for pair in PAIRS]
        together = client.run(EMBED, {"image": image, "tokens": tokens}).tensors["embedding"]
    np.testing.assert_allclose([each.vector for each in found], expected, atol=1e-6)
    np.testing.assert_allclose(together, expected, atol=1e-6)
    assert {each.version for each in found} == {WITH} and found[0].vector.dtype == np.float32
    assert found[0].vector @ found[0].vector == pytest.approx(1, abs=1e-6)
    assert found[0].vector @ found[1].vector < 0.9999
    assert not found[0].vector.flags.writeable


def test_a_file_an_array_and_a_pil_image_of_the_same_pixels_have_the_same_vector(server: LocalServer) -> None:
    data, text = PAIRS[0]
    with Image.open(io.BytesIO(data)) as picture, Client(server.address, model=NAME, version=WITH) as client:
        vectors = [client.embed(image, text).vector for image in (data, picture, np.asarray(picture))]
        np.testing.assert_array_equal(vectors[0], vectors[1])
        np.testing.assert_array_equal(vectors[0], vectors[2])


def test_one_input_alone_has_a_vector_where_the_version_can_do_without_the_other(server: LocalServer) -> None:
    data, text = PAIRS[0]
    with Client(server.address, model=NAME, version=WITH) as client:
        vectors = [client.embed(data, text), client.embed(data), client.embed(text=text)]
        products = [a.vector @ b.vector for a, b in itertools.combinations(vectors, 2)]
        assert all(product < 0.9999 for product in products)


def test_a_version_without_embed_is_refused_and_predicts(server: LocalServer) -> None:
    with Client(server.address, model=NAME, version=WITHOUT) as client:
        with pytest.raises(UnsupportedModel, match=r"Expected a version with the signature embed\. Received: one that"):
            client.embed(*PAIRS[0])
        assert client.predict(*PAIRS[0]).version == WITHOUT
        assert EMBED not in client.signatures()


def test_equal_preprocessing_has_one_digest_with_or_without_it(versions: dict[int, Published]) -> None:
    assert versions[WITH].spec.digest == versions[WITHOUT].spec.digest
    assert versions[WITH].spec.embedding_length == 48 and versions[WITHOUT].spec.embedding_length == 0


def test_golden_samples_have_the_vectors(versions: dict[int, Published]) -> None:
    lengths = {
        version: {len(sample.embedding) for sample in load_samples((each.path / GOLDEN_PATH).read_bytes())}
        for version, each in versions.items()
    }
    assert lengths == {version: {each.spec.embedding_length} for version, each in versions.items()}


def test_a_rollout_that_would_lose_it_is_incompatible(versions: dict[int, Published]) -> None:
    with_it, without = contract_of(versions[WITH].spec), contract_of(versions[WITHOUT].spec)
    assert incompatible(without, with_it, "fixed") == []
    assert incompatible(with_it, without, "follow") == ["embed: expected the signature to stay. Received: none"]


def test_other_vectors_than_the_keras_models_are_not_published(
    models: dict[int, keras.Model], spec: PreprocessingSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = answers.answer_fn

    def shorter(model: keras.Model, spec: PreprocessingSpec) -> answers.Answer:
        def answer(image: tf.Tensor, tokens: tf.Tensor) -> dict[str, tf.Tensor]:
            found = right(model, spec)(image, tokens)
            return {**found, "embedding": found["embedding"] * 0.99}

        return answer

    monkeypatch.setattr(answers, "answer_fn", shorter)
    with pytest.raises(GateError, match="embed, row 0: expected vectors within") as caught:
        export_version(models[WITH], spec, SAMPLES, ModelStore(tmp_path, NAME), batch_sizes=(1,))
    assert "expected a vector of length 1. Received: 0.99" in str(caught.value)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_fusion_has_it_and_a_model_of_one_input_has_not(spec: PreprocessingSpec, fusion: str) -> None:
    spec = dataclasses.replace(spec, optional=())
    model = build_model(SMALL, spec, fusion=fusion, vocabulary=320, head=one_class(spec))
    draw = np.random.default_rng(0)
    image, tokens = draw.integers(0, 256, (2, 24, 32, 3), np.uint8), draw.integers(0, 320, (2, 6), np.int32)
    found = answers.answer_fn(model, spec)(image, tokens)["embedding"]
    np.testing.assert_allclose(found, of_keras(model, image, tokens), atol=1e-6)
    assert embedding_length(model) == found.shape[1]
    assert embedding_length(build_model(SMALL, spec, fusion="image_only", vocabulary=320, head=one_class(spec))) == 0


def test_a_model_may_give_its_own_features(spec: PreprocessingSpec, tmp_path: Path) -> None:
    model = build_without(spec)
    features = keras.ops.multiply(model.layers[-2].output, 2.0)
    with_features = keras.Model(model.input, {"probabilities": model.output, "embedding": features})
    published = export_version(with_features, spec, SAMPLES, ModelStore(tmp_path, NAME), batch_sizes=(1,))
    assert published.spec.embedding_length == 16
    grid = keras.Model(model.input, {"probabilities": model.output, "embedding": model.layers[-5].output})
    with pytest.raises(ExportError, match="Expected the output 'embedding' to be of shape"):
        export_version(grid, spec, SAMPLES, ModelStore(tmp_path, NAME), batch_sizes=(1,))


def test_the_server_warms_it_up(versions: dict[int, Published]) -> None:
    from export.publish.warmup import WARMUP_PATH, read_warmup

    names = [request.model_spec.signature_name for request in read_warmup(versions[WITH].path / WARMUP_PATH)]
    assert names.count(EMBED) == names.count(SERVING_DEFAULT) == 2
