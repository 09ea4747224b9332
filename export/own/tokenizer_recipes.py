"""Builds a `tokenizer.json` from older files: BERT's `vocab.txt`, and `vocab.json` with `merges.txt`."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["bert", "byte_level"]

Record = dict[str, Any]


def bert(vocabulary: Mapping[str, int], settings: Mapping[str, Any]) -> tuple[Record, str]:
    """The one of a BertTokenizer, and a note on how it treats letters.

    Args:
        vocabulary: Pieces and their ids.
        settings: Content of `tokenizer_config.json`. Missing settings are detected from the pieces: without a capital
            letter among them, texts become lower case; without an accent, they lose theirs.

    Raises:
        ValueError: A required piece is missing.
    """
    missing = [each for each in ("[UNK]", "[CLS]", "[SEP]") if each not in vocabulary]
    if missing:
        raise ValueError(f"a vocab.txt without {' and '.join(missing)}")
    plain = [piece for piece in vocabulary if not piece.startswith("[")]
    lower = settings.get("do_lower_case")
    if lower is None:
        lower = not any(piece != piece.lower() for piece in plain)
    strip = settings.get("strip_accents")
    if strip is None:
        strip = lower and ("do_lower_case" in settings or not any(map(_has_accents, plain)))
    added = [each for each in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if each in vocabulary]
    record = _record(
        vocabulary,
        added,
        normalizer={
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": settings.get("tokenize_chinese_chars", True),
            "strip_accents": strip,
            "lowercase": lower,
        },
        pre_tokenizer={"type": "BertPreTokenizer"},
        post_processor=_around("BertProcessing", vocabulary, "[CLS]", "[SEP]"),
        model={
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
        },
    )
    said = "lower case" if lower else "upper and lower case"
    source = "from tokenizer_config.json" if "do_lower_case" in settings else "from its pieces"
    return record, f"wordpiece, {said}, {'without' if strip else 'with'} accents, {source}"


def byte_level(vocabulary: Mapping[str, int], merges: Sequence[Sequence[str]]) -> tuple[Record, str]:
    """The one of CLIP, RoBERTa or GPT-2, by the pieces: "</w>" ends words, "<s>" and "</s>" enclose a text, or neither.

    Raises:
        ValueError: It is none of the three.
    """
    model: Record = {
        "type": "BPE",
        "merges": [list(pair) for pair in merges],
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": "",
        "end_of_word_suffix": "",
        "fuse_unk": False,
        "byte_fallback": False,
    }
    bytes_alone = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    options = {"trim_offsets": True, "add_prefix_space": False}
    if {"<|startoftext|>", "<|endoftext|>"} <= vocabulary.keys() and any(p.endswith("</w>") for p in vocabulary):
        start, end = "<|startoftext|>", "<|endoftext|>"
        words = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
        split = {"type": "Split", "pattern": {"Regex": words}, "behavior": "Removed", "invert": True}
        spaces = {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}
        record = _record(
            vocabulary,
            [start, end],
            normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}, spaces, {"type": "Lowercase"}]},
            pre_tokenizer={"type": "Sequence", "pretokenizers": [split, {**bytes_alone, "use_regex": False}]},
            post_processor=_around("RobertaProcessing", vocabulary, start, end) | {**options, "trim_offsets": False},
            model=model | {"unk_token": end, "end_of_word_suffix": "</w>"},
        )
        return record, "bpe, as CLIP's"
    if {"<s>", "</s>"} <= vocabulary.keys():
        added = [each for each in ("<s>", "<pad>", "</s>", "<unk>", "<mask>") if each in vocabulary]
        around = _around("RobertaProcessing", vocabulary, "<s>", "</s>") | options
        return _record(
            vocabulary, added, normalizer=None, pre_tokenizer=bytes_alone, post_processor=around, model=model
        ), "bpe, as RoBERTa's"
    if "<|endoftext|>" in vocabulary:
        record = _record(
            vocabulary,
            ["<|endoftext|>"],
            normalizer=None,
            pre_tokenizer=bytes_alone,
            post_processor={**bytes_alone, "add_prefix_space": True, "trim_offsets": False},
            model=model,
        )
        return record, "bpe, as GPT-2's"
    raise ValueError("a vocab.json that is not CLIP's, RoBERTa's or GPT-2's (use the model's tokenizer.json)")


def _record(vocabulary: Mapping[str, int], added: Iterable[str], *, model: Record, **parts: Any) -> Record:
    looks = {"single_word": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": vocabulary[each], "content": each, "lstrip": each == "<mask>", **looks} for each in added
        ],
        "decoder": None,
        **parts,
        "model": {**model, "vocab": dict(vocabulary)},
    }


def _around(kind: str, vocabulary: Mapping[str, int], first: str, last: str) -> Record:
    return {"type": kind, "sep": [last, vocabulary[last]], "cls": [first, vocabulary[first]]}


def _has_accents(piece: str) -> bool:
    return any(unicodedata.category(each) == "Mn" for each in unicodedata.normalize("NFD", piece))
