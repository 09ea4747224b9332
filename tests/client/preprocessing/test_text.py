"""Any text gets the same ids as in the model's graph."""

from __future__ import annotations

import itertools
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text as tf_text
from hypothesis import given, settings
from hypothesis import strategies as st

from duoserve import ContractError, InvalidInput, PreprocessingSpec, Preprocessor
from tests.client.conftest import train

HARD = [
    "",
    " ",
    "\0",
    "a\0b",
    "  two  spaces ",
    "▁",
    "▁▁a",
    "<unk>",
    "<0x41>",
    "ＦＵＬＬ",
    "手机",
    "👩‍👩‍👧",
    "ﷺ",
    "\ufeff",
    "\n\r\t",
    "e\u0301",
]
TEXTS = st.one_of(
    st.sampled_from(HARD),
    st.text(max_size=40),
    st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF), max_size=10),
    st.text(st.characters(min_codepoint=0x1F300, max_codepoint=0x1FAFF), max_size=10),
)


@given(st.lists(TEXTS, min_size=1, max_size=20))
@settings(max_examples=150, deadline=None)
def test_ids_equal_the_graphs(spec1: PreprocessingSpec, texts: list[str]) -> None:
    in_graph = tf_text.SentencepieceTokenizer(spec1.tokenizer, out_type=tf.int32)
    wide = Preprocessor(PreprocessingSpec(1, 1, 400, spec1.tokenizer, ("a",), 1))
    theirs = in_graph.tokenize(tf.constant([text.encode() for text in texts])).to_tensor(0, shape=(len(texts), 400))
    np.testing.assert_array_equal(np.stack([wide.tokens(text) for text in texts]), theirs.numpy())


@pytest.mark.parametrize("symbols", [[], ["<", "<<", "<<<"], ["a", "ab", "ba"]])
def test_segmentations_of_one_score_fall_alike(symbols: list[str]) -> None:
    """Of "aa|aaa" and "aaa|aa" it is the last bit of a sum that decides: releases of sentencepiece differ in it."""
    draw = random.Random(0)
    lines = ["".join(draw.choices("ab<", k=draw.randint(1, 9))) for _ in range(3000)]
    tokenizer = train(lines, 400, user_defined_symbols=symbols)
    texts = ["x <<<< y", *("".join(letters) for letters in itertools.product("ab<", repeat=8))]
    wide = Preprocessor(PreprocessingSpec(1, 1, 20, tokenizer, ("a",), 1))
    theirs = tf_text.SentencepieceTokenizer(tokenizer, out_type=tf.int32).tokenize(texts).to_tensor(0, shape=(None, 20))
    np.testing.assert_array_equal(np.stack([wide.tokens(text) for text in texts]), theirs.numpy())


def test_rows_have_one_length(spec1: PreprocessingSpec) -> None:
    preprocessor = Preprocessor(spec1)
    for text in ("", "red", "red heart " * 50):
        row = preprocessor.tokens(text)
        assert row.shape == (spec1.token_length,) and row.dtype == np.int32
    assert preprocessor.tokens("").tolist() == [spec1.pad_id] * spec1.token_length
    padded = Preprocessor(PreprocessingSpec(1, 1, 8, spec1.tokenizer, ("a",), 1, pad_id=5)).tokens("")
    assert padded.tolist() == [5] * 8


@pytest.mark.parametrize("text", [None, b"bytes", 3, "\ud800 alone"])
def test_an_invalid_text_is_refused(spec1: PreprocessingSpec, text: object) -> None:
    with pytest.raises(InvalidInput, match="text"):
        Preprocessor(spec1).tokens(text)  # type: ignore[arg-type]


def test_an_invalid_tokenizer_is_a_contract_error() -> None:
    with pytest.raises(ContractError, match="SentencePiece"):
        Preprocessor(PreprocessingSpec(1, 1, 4, b"not a model", ("a",), 1)).tokens("x")


def test_threads_share_one_preprocessor(spec1: PreprocessingSpec) -> None:
    preprocessor = Preprocessor(spec1)
    texts = [f"red {i} heart" for i in range(50)] * 4
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(preprocessor.tokens, texts))
    for text, row in zip(texts, found, strict=True):
        np.testing.assert_array_equal(row, Preprocessor(preprocessor.spec).tokens(text))
