"""Builds a `tokenizer.json` from older files: BERT's `vocab.txt`, and `vocab.json` with `merges.txt`."""

import json
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

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
    tokenizer = Tokenizer(models.WordPiece(dict(vocabulary), unk_token="[UNK]"))  # noqa: S106  no password
    tokenizer.normalizer = normalizers.BertNormalizer(
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True), strip_accents=strip, lowercase=lower
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(*_around(vocabulary, "[CLS]", "[SEP]"))
    said = "lower case" if lower else "upper and lower case"
    source = "from tokenizer_config.json" if "do_lower_case" in settings else "from its pieces"
    note = f"wordpiece, {said}, {'without' if strip else 'with'} accents, {source}"
    return _record(tokenizer, vocabulary, "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"), note


def byte_level(vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> tuple[Record, str]:
    """The one of CLIP, RoBERTa or GPT-2, by the pieces: "</w>" ends words, "<s>" and "</s>" enclose a text, or neither.

    Raises:
        ValueError: It is none of the three, or the merges do not fit the pieces.
    """
    end = "<|endoftext|>"
    is_clip = {"<|startoftext|>", end} <= vocabulary.keys() and any(p.endswith("</w>") for p in vocabulary)
    affixes = {"continuing_subword_prefix": "", "end_of_word_suffix": "</w>" if is_clip else ""}
    try:
        tokenizer = Tokenizer(models.BPE(dict(vocabulary), [*merges], unk_token=end if is_clip else None, **affixes))
    except Exception as error:  # the library raises Exception itself
        raise ValueError(f"a merges.txt that does not fit its vocab.json: {error}") from error
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if is_clip:
        words = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
        )
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(words), "removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        around = _around(vocabulary, "<|startoftext|>", end)
        tokenizer.post_processor = processors.RobertaProcessing(*around, trim_offsets=False, add_prefix_space=False)
        return _record(tokenizer, vocabulary, "<|startoftext|>", end), "bpe, as CLIP's"
    if {"<s>", "</s>"} <= vocabulary.keys():
        around = _around(vocabulary, "<s>", "</s>")
        tokenizer.post_processor = processors.RobertaProcessing(*around, add_prefix_space=False)
        return _record(tokenizer, vocabulary, "<s>", "<pad>", "</s>", "<unk>", "<mask>"), "bpe, as RoBERTa's"
    if end in vocabulary:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
        return _record(tokenizer, vocabulary, end), "bpe, as GPT-2's"
    raise ValueError("a vocab.json that is not CLIP's, RoBERTa's or GPT-2's (use the model's tokenizer.json)")


def _record(tokenizer: Tokenizer, vocabulary: Mapping[str, int], *special: str) -> Record:
    tokenizer.add_special_tokens(
        [AddedToken(each, lstrip=each == "<mask>", normalized=False) for each in special if each in vocabulary]
    )
    record: Record = json.loads(tokenizer.to_str())
    return record


def _around(vocabulary: Mapping[str, int], first: str, last: str) -> tuple[tuple[str, int], tuple[str, int]]:
    """The ids at both ends of a text, as the library's processors take them: the last one first."""
    return (last, vocabulary[last]), (first, vocabulary[first])


def _has_accents(piece: str) -> bool:
    return any(unicodedata.category(each) == "Mn" for each in unicodedata.normalize("NFD", piece))
