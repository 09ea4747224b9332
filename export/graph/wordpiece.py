"""WordPiece in the graph: the same ids as Hugging Face's `tokenizers` for any text.

TensorFlow Text's own BERT normaliser applies compatibility forms ("…" becomes "..."), which BERT's does not,
and uses another release of Unicode. Here each character is mapped as by the client's library
(`export.graph.code_points`); only the search for the longest pieces of a word is TensorFlow Text's.
"""

import functools
import itertools
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text
from tokenizers import normalizers, pre_tokenizers

from export.errors import ExportError
from export.graph.code_points import CODE_POINTS, Classes, Rewriting, ordering

_MOST_MARKED: Final = 64
"""Most added tokens: a text is searched for each of them in turn."""

_SPACE: Final = 1
_ALONE: Final = 2


class WordPiece:
    """Texts to ids by a `tokenizer.json` with a BertNormalizer and a BertPreTokenizer.

    Args:
        record: The content of the file.

    Raises:
        ExportError: It has a feature without an equivalent here; the message names it.
    """

    def __init__(self, record: Mapping[str, Any]) -> None:
        _check(record)
        model = record["model"]
        self._most = int(model["max_input_chars_per_word"])
        self._unknown = str(model["unk_token"])
        pieces = _by_id(model["vocab"])
        self._unknown_id = int(model["vocab"][self._unknown])
        self._added: dict[str, int] = {each["content"]: each["id"] for each in record["added_tokens"]}
        self._characters = _characters(json.dumps(record["normalizer"], sort_keys=True))
        try:
            self._pieces = tf_text.FastWordpieceTokenizer(
                pieces,
                suffix_indicator=model["continuing_subword_prefix"],
                unknown_token=self._unknown,
                no_pretokenization=True,
                token_out_type=tf.int32,
            )
        except (ValueError, RuntimeError, tf.errors.OpError) as error:
            raise ExportError(f"TensorFlow Text does not accept its vocabulary: {error}") from error

    def __call__(self, text: tf.Tensor) -> tf.RaggedTensor:
        """int32 array of shape (batch, None).

        Args:
            text: string array of shape (batch,), UTF-8.
        """
        decoded = tf.strings.unicode_decode(self._marked(text), "UTF-8", errors="replace")
        found, rows, kinds = self._characters(decoded.values, decoded.value_rowids())
        visible = kinds != _SPACE
        begins = visible & ~((kinds == 0) & _continues(kinds, rows))
        words = tf.RaggedTensor.from_value_rowids(
            tf.boolean_mask(found, visible),
            tf.boolean_mask(tf.cumsum(tf.cast(begins, tf.int64)) - 1, visible),
            nrows=tf.reduce_sum(tf.cast(begins, tf.int64)),
        )
        first = tf.boolean_mask(found, begins)
        # One id for the whole word (an added token, too long a word); -1: the ids of its pieces.
        one = tf.where(words.row_lengths() > self._most, self._unknown_id, -1)
        for position, number in enumerate(self._added.values()):
            one = tf.where(first == self._characters.marks[position], number, one)
        spelled = tf.where(one < 0, tf.strings.unicode_encode(words, "UTF-8"), self._unknown)
        pieces = self._pieces.tokenize(spelled)
        word = pieces.value_rowids()
        ids = tf.where(tf.gather(one, word) < 0, pieces.values, tf.gather(one, word))
        row = tf.gather(tf.boolean_mask(rows, begins), word)
        return tf.RaggedTensor.from_value_rowids(ids, row, nrows=tf.size(text, tf.int64))

    def _marked(self, text: tf.Tensor) -> tf.Tensor:
        """Added tokens are found before anything else: each becomes a character that is removed from texts."""
        if not self._added:
            return text
        marks = [chr(each) for each in self._characters.marks]
        text = tf.strings.regex_replace(text, f"[{marks[0]}-{marks[-2]}]", marks[-1])
        for content, mark in zip(self._added, marks, strict=False):
            text = tf.strings.regex_replace(text, re.escape(content), mark)
        return text


def _continues(kinds: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Whether the previous character is of the same text and part of a word that can continue."""
    return tf.pad((kinds[:-1] == 0) & (rows[:-1] == rows[1:]), [[tf.minimum(tf.size(kinds), 1), 0]])


def _by_id(vocabulary: Mapping[str, int]) -> list[str]:
    """The pieces in the order of their ids. An id without a piece gets one that occurs in no word."""
    pieces = {number: piece for piece, number in vocabulary.items()}
    return [pieces.get(number, f" {number}") for number in range(max(pieces) + 1)]


class _Characters:
    """The normalised text, character by character, and where words begin and end.

    Attributes:
        marks: Code points that the normaliser removes: the last one stands for the others where a text has them.
    """

    def __init__(self, normalizer: Mapping[str, Any]) -> None:
        accents = normalizer["strip_accents"]
        lower = bool(normalizer["lowercase"])
        stripped = lower if accents is None else bool(accents)
        nfd = normalizers.NFD().normalize_str
        steps: list[Any] = [
            normalizers.BertNormalizer(
                clean_text=True,
                handle_chinese_chars=bool(normalizer["handle_chinese_chars"]),
                strip_accents=False,
                lowercase=False,
            )
        ]
        if stripped:
            steps.append(normalizers.NFD())
        first = normalizers.Sequence(steps).normalize_str
        self.marks = _removed(first)
        kept = {each: chr(each) for each in self.marks[:-1]}
        self._clean = Rewriting(first, kept)
        self._order = None
        if stripped:
            known = {each: unicodedata.combining(chr(each)) for each in CODE_POINTS if unicodedata.combining(chr(each))}
            self._order = Classes(ordering(nfd, known))
        second = normalizers.BertNormalizer(
            clean_text=False, handle_chinese_chars=False, strip_accents=stripped, lowercase=lower
        )
        self._fold = Rewriting(second.normalize_str, kept)
        self._kinds = Classes(_kinds() | dict.fromkeys(self.marks, _ALONE))

    def __call__(self, code_points: tf.Tensor, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Characters, the text that each is of, and for each _SPACE, _ALONE (a word by itself) or 0."""
        found, rows = self._clean(code_points, rows)
        if self._order is not None:
            found = _in_order(found, self._order(found), rows)
        found, rows = self._fold(found, rows)
        return found, rows, self._kinds(found)


@functools.lru_cache(maxsize=4)
def _characters(normalizer: str) -> _Characters:
    return _Characters(json.loads(normalizer))


def _in_order(code_points: tf.Tensor, classes: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Sorts successive combining marks by their class, as in NFD."""
    starts = tf.concat([classes[:1] == 0, (classes[1:] == 0) | (rows[1:] != rows[:-1])], 0)

    def in_order() -> tf.Tensor:
        places = tf.range(tf.size(classes, tf.int64), dtype=tf.int64)
        run = tf.cumsum(tf.cast(starts, tf.int64))
        # No two keys are equal, so the sort need not be stable.
        keys = (run * 256 + tf.cast(classes, tf.int64)) * tf.size(classes, tf.int64) + places
        return tf.gather(code_points, tf.argsort(keys))

    return tf.cond(tf.reduce_any(~starts[1:] & (classes[:-1] > classes[1:])), in_order, lambda: code_points)


def _removed(normalise: Any) -> list[int]:
    """Neighbours that the normaliser removes: private ones, of which texts have the fewest."""
    found = [each for each in range(0x100000, 0x100000 + _MOST_MARKED + 1) if not normalise(chr(each))]
    if len(found) <= _MOST_MARKED:
        raise ExportError("the client's library keeps characters of private use")
    return found


@functools.lru_cache(maxsize=1)
def _kinds() -> dict[int, int]:
    """How the pre-tokenizer treats each character between letters: as a separator, as its own word, or neither."""
    split = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    found: dict[int, int] = {}
    for start in range(0, len(CODE_POINTS), 4096):
        characters = CODE_POINTS[start : start + 4096]
        pieces = split(" ".join(f"a{chr(each)}a" for each in characters))
        parts = np.bincount([begin // 4 for _, (begin, _) in pieces], minlength=len(characters))
        found |= {each: (0, 0, _SPACE, _ALONE)[part] for each, part in zip(characters, parts, strict=True) if part > 1}
    return found


def _check(record: Mapping[str, Any]) -> None:
    """Refuses settings that the graph would treat differently."""
    for part, expected in (("normalizer", "BertNormalizer"), ("pre_tokenizer", "BertPreTokenizer")):
        received = (record.get(part) or {}).get("type")
        if received != expected:
            raise ExportError(f"its {part} is {received or 'none'}, not {expected}")
    if not record["normalizer"]["clean_text"]:
        raise ExportError("its normalizer keeps control characters")
    model = record["model"]
    if model["unk_token"] not in model["vocab"]:
        raise ExportError(f"its vocabulary has no {model['unk_token']}")
    if model["continuing_subword_prefix"] != "##":
        raise ExportError(f"its pieces are continued by {model['continuing_subword_prefix']!r}, not by '##'")
    _check_added(record["added_tokens"])


def _check_added(added: Iterable[Mapping[str, Any]]) -> None:
    added = list(added)
    if len(added) > _MOST_MARKED:
        raise ExportError(f"it has {len(added)} added tokens, more than {_MOST_MARKED}")
    for each in added:
        if each["normalized"] or each["single_word"]:
            raise ExportError(f"its added token {each['content']!r} is looked for in normalised text, or as a word")
    for one, other in itertools.product([each["content"] for each in added], repeat=2):
        if one != other and (one in other or any(one.endswith(other[:size]) for size in range(1, len(other)))):
            raise ExportError(f"its added tokens {one!r} and {other!r} can overlap")
