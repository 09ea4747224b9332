"""The client prepares input exactly as the model's own graph does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from duoserve.contract import PreprocessingSpec
from duoserve.preprocessing.preprocessor import Preprocessor
from export.dataset.data import load_dataset
from export.graph.images import ImageDecoder
from export.graph.text import GraphTokenizer
from export.training.tokenizer import train_tokenizer
from tests.export.conftest import encoded


@pytest.fixture(scope="module")
def decode(spec: PreprocessingSpec):
    return tf.function(ImageDecoder(spec), input_signature=[tf.TensorSpec([None], tf.string)])


@pytest.fixture(scope="module")
def in_graph_tokens(spec: PreprocessingSpec):
    return tf.function(GraphTokenizer(spec), input_signature=[tf.TensorSpec([None], tf.string)])


@settings(max_examples=300, deadline=None)
@given(text=st.one_of(st.text(max_size=80), st.text(alphabet="猫犬 Ａｂ①ﾊﾟé\u0301🐱\u200d\x00\x07\t\n", max_size=30)))
def test_any_text_has_the_same_token_ids(spec, in_graph_tokens, text: str) -> None:
    expected = in_graph_tokens([text.encode("utf-8")]).numpy()[0]
    np.testing.assert_array_equal(Preprocessor(spec).tokens(text), expected)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 700),
    width=st.integers(1, 700),
    kind=st.sampled_from(["JPEG", "PNG"]),
    seed=st.integers(0, 99),
)
def test_pixels_of_any_size_are_the_same(spec, decode, height: int, width: int, kind: str, seed: int) -> None:
    data = encoded(height, width, kind, seed)
    np.testing.assert_array_equal(Preprocessor(spec).image(data), decode([data]).numpy()[0])


@pytest.mark.parametrize(("height", "width"), [(201, 2), (101, 1), (700, 1), (1, 700), (2, 201)])
def test_pixels_of_very_narrow_images_are_the_same(spec, decode, height: int, width: int) -> None:
    """Pillow resizes those in another order since release 12."""
    data = encoded(height, width, "PNG")
    np.testing.assert_array_equal(Preprocessor(spec).image(data), decode([data]).numpy()[0])


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_jpeg_is_turned_alike(spec, decode, turn: int) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", turn
    data = encoded(300, 500, "JPEG", seed=turn, exif=exif)
    np.testing.assert_array_equal(Preprocessor(spec).image(data), decode([data]).numpy()[0])
    if turn != 1:
        flat = Preprocessor(spec).image(encoded(300, 500, "JPEG", seed=turn))
        assert not np.array_equal(Preprocessor(spec).image(data), flat), "the image was not turned at all"


def test_every_demo_row_is_prepared_alike(emoji: Path) -> None:
    """Same pixels, same token ids, hence the same top class by either signature."""
    rows = load_dataset(emoji).rows
    demo = PreprocessingSpec(64, 64, 16, train_tokenizer(row.text for row in rows), ("any",), 1)
    preprocessor, decode, tokenizer = Preprocessor(demo), ImageDecoder(demo), GraphTokenizer(demo)
    in_graph = tf.function(
        lambda images, texts: (decode(images), tokenizer(texts)),
        input_signature=[tf.TensorSpec([None], tf.string)] * 2,
    )
    for start in range(0, len(rows), 256):
        part = rows[start : start + 256]
        images = [row.image.read_bytes() for row in part]
        pixels, tokens = in_graph(images, [row.text.encode("utf-8") for row in part])
        np.testing.assert_array_equal(np.stack([preprocessor.image(data) for data in images]), pixels.numpy())
        np.testing.assert_array_equal(np.stack([preprocessor.tokens(row.text) for row in part]), tokens.numpy())
