"""Any text in any language gets ids, the same in client and graph, from the training texts alone."""

from __future__ import annotations

import numpy as np
import pytest
import sentencepiece
import tensorflow as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from duoserve.contract import PreprocessingSpec
from duoserve.preprocessing.preprocessor import Preprocessor
from export.dataset.emoji import read_emoji
from export.graph.text import GraphTokenizer
from export.training.tokenizer import LARGEST_VOCABULARY, PAD_ID, TokenizerError, train_tokenizer

CORPUS = [f"a {colour} {thing}" for colour in ("red", "green", "grün") for thing in ("house", "door", "tree")]


def processor(texts: list[str], **options: int) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_proto=train_tokenizer(texts, **options))


def test_the_same_texts_give_the_same_bytes() -> None:
    assert train_tokenizer(CORPUS) == train_tokenizer(CORPUS)
    assert train_tokenizer(CORPUS) != train_tokenizer(CORPUS[:-1])


def test_few_texts_get_a_smaller_vocabulary_than_asked_for() -> None:
    assert 256 < processor(CORPUS).get_piece_size() < 400


def test_the_vocabulary_is_kept_within_its_limit() -> None:
    texts = [one.name for one in read_emoji()]
    assert processor(texts, vocabulary=500).get_piece_size() == 500
    assert 1000 < processor(texts).get_piece_size() < LARGEST_VOCABULARY


def test_case_and_width_do_not_matter() -> None:
    trained = processor(CORPUS)
    assert trained.encode("A RED House") == trained.encode("ａ　ｒｅｄ ｈｏｕｓｅ") == trained.encode("a red house")


@settings(deadline=None)
@given(text=st.text(max_size=40))
def test_no_text_has_padding_or_unknown_ids(text: str) -> None:
    ids = processor(CORPUS).encode(text)
    assert PAD_ID not in ids
    assert 1 not in ids


@settings(max_examples=25, deadline=None)
@given(
    corpus=st.lists(st.text(max_size=30), min_size=1, max_size=8),
    texts=st.lists(st.text(max_size=40), min_size=1, max_size=8),
)
def test_client_and_graph_agree_for_any_training_texts(corpus: list[str], texts: list[str]) -> None:
    try:
        model = train_tokenizer(corpus)
    except TokenizerError:
        assume(False)
    spec = PreprocessingSpec(1, 1, 200, model, ("a",), 1)
    client = Preprocessor(spec)
    in_graph = GraphTokenizer(spec)(tf.constant([text.encode() for text in texts])).numpy()
    np.testing.assert_array_equal(np.stack([client.tokens(text) for text in texts]), in_graph)


def test_texts_in_any_script_train_it() -> None:
    texts = ["红色的房子", "赤い家", "красный дом", "بيت أحمر", "🏠🔴", "line\nbreak\r\n", "nul\0", "x" * 5_000]
    trained = processor(texts)
    assert trained.decode(trained.encode("红色的房子")) == "红色的房子"


@pytest.mark.parametrize("texts", [[], [""], [" \n\t"], ["\0"]])
def test_nothing_to_learn_from_is_refused(texts: list[str]) -> None:
    with pytest.raises(TokenizerError, match="Expected"):
        train_tokenizer(texts)


@pytest.mark.parametrize("vocabulary", [0, 299, LARGEST_VOCABULARY + 1])
def test_a_vocabulary_out_of_range_is_refused(vocabulary: int) -> None:
    with pytest.raises(TokenizerError, match="between"):
        train_tokenizer(CORPUS, vocabulary=vocabulary)


def test_it_is_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    train_tokenizer(CORPUS)
    assert capfd.readouterr() == ("", "")
