"""WordPiece: client and graph give the same ids for any text in Unicode."""

from __future__ import annotations

import json
import random
import unicodedata
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from duoserve import PreprocessingSpec, Preprocessor
from duoserve.contract import pack_tokenizer
from export.errors import ExportError
from export.graph.text import GraphTokenizer
from export.own.tokenizer_recipes import bert

LENGTH = 24
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
EVERYDAY = [
    "THE",
    "the",
    "##s",
    "##ing",
    "straße",
    "ﬁ",
    "…",
    "...",
    "²",
    "2",
    "İ",
    "i",
    "ς",
    "σ",
    "é",
    "##é",
    "e",
    "국",
]


@cache
def assigned() -> tuple[str, ...]:
    characters = map(chr, (*range(0xD800), *range(0xE000, 0x110000)))
    return tuple(each for each in characters if unicodedata.category(each) not in ("Cn", "Co"))


def vocabulary() -> dict[str, int]:
    """Some thousand characters of every script, each as a beginning and as a continuation, and a few longer pieces."""
    draw = random.Random(0)
    letters = sorted({*map(chr, range(0x21, 0x250)), *draw.sample(assigned(), 3000)})
    joined = ["".join(draw.sample("abcdeßéก猫", draw.randint(2, 4))) for _ in range(300)]
    pieces = [*SPECIAL, *EVERYDAY, *letters, *joined, *(f"##{each}" for each in (*letters[::2], *joined))]
    return {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}


def spec_of(record: dict[str, Any], length: int = LENGTH, **options: Any) -> PreprocessingSpec:
    data = pack_tokenizer(json.dumps(record))
    return PreprocessingSpec(1, 1, length, data, ("a",), 1, tokenizer_kind="wordpiece", **options)


def in_graph(spec: PreprocessingSpec) -> Callable[[Iterable[bytes]], np.ndarray]:
    run = tf.function(GraphTokenizer(spec), input_signature=[tf.TensorSpec([None], tf.string)])
    return lambda texts: run(tf.constant([*texts], tf.string)).numpy()


def check(spec: PreprocessingSpec, texts: list[str]) -> None:
    run, client = in_graph(spec), Preprocessor(spec)
    for start in range(0, len(texts), 8192):
        part = texts[start : start + 8192]
        rows = run(text.encode() for text in part)
        expected = np.stack([client.tokens(text) for text in part])
        wrong = [part[row] for row in np.flatnonzero((rows != expected).any(axis=1))]
        assert not wrong, f"{len(wrong)}: {wrong[:3]!a}"


def hostile(count: int, seed: int) -> list[str]:
    """Random texts: marks in any order, letters of one or of all scripts, controls, special tokens and half of one."""
    draw = random.Random(seed)
    marks = [each for each in assigned() if unicodedata.combining(each)]
    odd = [*SPECIAL, "[SEP", "[[SEP]]", "[sep]", "##", "\0", "\t", "\n", "\r", "\x85", "\u00a0", "\u200b", "\u2028"]
    odd += [
        "\ufeff",
        "\ufffd",
        "\ufffe",
        "\U00100000",
        "\U0010003f",
        "\U00100040",
        "\U0010ffff",
        "İ",
        "ΑΣ",
        "ẞ",
        "ﷺ",
        "각",
    ]
    texts = []
    for _ in range(count):
        pool = draw.choice([marks, odd, "abcdé .-'", assigned()])
        mixed = [draw.choice(pool) if draw.random() < 0.7 else draw.choice(odd) for _ in range(draw.randint(0, 20))]
        texts.append(draw.choice(["", "a", " "]).join(mixed))
    return texts


@pytest.mark.parametrize("settings", [{"do_lower_case": True}, {}, {"do_lower_case": True, "strip_accents": False}])
def test_any_text_has_the_same_ids(settings: dict[str, Any]) -> None:
    spec = spec_of(bert(vocabulary(), settings)[0])
    edges = ["", " ", *("a" * size for size in (99, 100, 101, 400)), "a" * 99 + "\u0301" * 5, "the " * 60]
    if settings == {"do_lower_case": True}:  # every character alone inside a word
        check(spec, [*(f"a{each}e" for each in assigned()), *hostile(100_000, 1), *edges])
    check(spec, [*hostile(20_000, 2), *edges])


def test_bytes_that_are_not_utf8_are_dropped_like_replacement_characters() -> None:
    spec = spec_of(bert(vocabulary(), {})[0])
    broken = [b"the\xff the", b"\xed\xa0\x80a", b"\xf4\x90\x80\x80", b"e\xcc", b"\xc0\x80"]
    expected = [Preprocessor(spec).tokens(data.decode(errors="replace")) for data in broken]
    np.testing.assert_array_equal(in_graph(spec)(broken), expected)


def test_the_marks_stay_where_a_text_is_cut_and_a_missing_one_is_padding() -> None:
    record, _ = bert(vocabulary(), {})
    spec = spec_of(record, 4, pad_id=9, optional=("text",))
    cls, sep, the = (record["model"]["vocab"][piece] for piece in ("[CLS]", "[SEP]", "the"))
    rows = in_graph(spec)([b"", b" ", b"the", b"the the the the"])
    assert rows.tolist() == [[9, 9, 9, 9], [cls, sep, 9, 9], [cls, the, sep, 9], [cls, the, the, sep]]
    client = Preprocessor(spec)
    np.testing.assert_array_equal(rows, [client.tokens(text) for text in (None, " ", "the", "the the the the")])
    with pytest.raises(ValueError, match="Expected token_length over 2 for the ids that the tokenizer adds"):
        GraphTokenizer(spec_of(record, 2))


@pytest.mark.parametrize("marks", [("[CLS]",), ("[SEP]",), ()])
def test_marks_on_one_side_or_none_and_no_rows_at_all(marks: tuple[str, ...]) -> None:
    record, _ = bert({piece: number for number, piece in enumerate([*SPECIAL, "a"])}, {})
    single = [{"SpecialToken": {"id": mark, "type_id": 0}} for mark in marks]
    single.insert(marks == ("[CLS]",), {"Sequence": {"id": "A", "type_id": 0}})
    special = {mark: {"id": mark, "ids": [record["model"]["vocab"][mark]], "tokens": [mark]} for mark in marks}
    record["post_processor"] = {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": special,
    }
    spec = spec_of(record, 5)
    check(spec, ["", "a", "a a a a a a"])
    check(spec, [""])
    assert in_graph(spec)([]).shape == (0, 5)


def test_a_vocabulary_with_holes_and_odd_pieces() -> None:
    pieces = dict(
        zip([*SPECIAL, "a", "##", "##a", "##[SEP]", "[SEP]]", "##b", "ab", "#"], range(0, 39, 3), strict=True)
    )
    record, _ = bert(pieces, {})
    check(spec_of(record), ["a", "aa", "ab", "aba", "abab", "##", "##a", "a##", "#", "[SEP]]", "a[SEP]a", "b", "ac"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda record: record["normalizer"].update(clean_text=False), "its normalizer keeps control characters"),
        (lambda record: record.update(normalizer={"type": "NFC"}), "its normalizer is NFC, not BertNormalizer"),
        (lambda record: record["pre_tokenizer"].update(type="Whitespace"), "its pre_tokenizer is Whitespace"),
        (lambda record: record["model"].update(continuing_subword_prefix="~"), "its pieces are continued by '~'"),
        (lambda record: record["added_tokens"][0].update(single_word=True), "is looked for in normalised text"),
        (lambda record: record["added_tokens"][0].update(content="[CLS]["), "can overlap"),
    ],
)
def test_tokenizers_that_the_graph_can_not_reproduce_are_refused(change: Callable[[Any], None], said: str) -> None:
    record, _ = bert({piece: number for number, piece in enumerate([*SPECIAL, "[CLS][", "a"])}, {})
    change(record)
    with pytest.raises(ExportError, match=said.replace("[", r"\[")):
        GraphTokenizer(spec_of(record))
