"""Tokenizer files, recognised by their content: the bytes for a spec, or the reason why they can't be used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import sentencepiece
import tokenizers

from duoserve.contract import SENTENCEPIECE, TOKENIZERS, pack_tokenizer
from export.own.tokenizer_recipes import bert, byte_level

__all__ = ["read_file"]

_NAMES: Final = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
_PADS: Final = ("[PAD]", "<pad>", "<|pad|>")


def read_file(path: Path) -> tuple[str, bytes, int | None, str]:
    """The kind, the bytes for `PreprocessingSpec.tokenizer`, the padding id if known, and a note.

    Args:
        path: A SentencePiece model; a `tokenizer.json`; BERT's `vocab.txt`; `vocab.json` with `merges.txt`
            beside it, or "vocab.json+merges.txt"; or a folder with one of these.

    Raises:
        OSError: A file can't be read.
        ValueError: It is none of these, or is not supported by the contract.
    """
    if path.is_dir():
        found = [each for name in _NAMES for each in sorted(path.glob(name))]
        if not found:
            raise ValueError(f"a folder with none of {', '.join(_NAMES)}, {path}")
        path = found[0]
    merges = path.with_name("merges.txt")
    if not path.exists() and "+" in path.name:
        first, _, second = path.name.partition("+")
        path, merges = path.with_name(first), path.with_name(second)
    data = path.read_bytes()
    if not data:
        raise ValueError(f"an empty file, {path}")
    if data.lstrip()[:1] == b"{":
        return _from_json(json.loads(data), path, merges)
    try:
        lines = data.decode("utf-8").replace("\r\n", "\n").removesuffix("\n").split("\n")
    except UnicodeDecodeError:
        lines = []
    if "[UNK]" in lines:
        vocabulary = {piece: number for number, piece in enumerate(lines)}
        record, note = bert(vocabulary, _settings(path))
        return _packed(record, note)
    return _sentencepiece(data)


def _sentencepiece(data: bytes) -> tuple[str, bytes, int | None, str]:
    try:
        pad_id = sentencepiece.SentencePieceProcessor(model_proto=data).pad_id()
    except RuntimeError as error:
        raise ValueError(f"a file that is not a SentencePiece model, JSON or vocab.txt with [UNK] ({error})") from error
    return SENTENCEPIECE, data, pad_id if pad_id >= 0 else None, SENTENCEPIECE


def _from_json(content: Mapping[str, Any], path: Path, merges: Path) -> tuple[str, bytes, int | None, str]:
    if isinstance(content.get("model"), dict):
        return _packed(content, "")
    if not content or not all(isinstance(number, int) for number in content.values()):
        raise ValueError(f"JSON that is neither a tokenizer.json nor a vocab.json, {path}")
    if not merges.is_file():
        raise ValueError(f"{path.name} without merges.txt beside it")
    lines = merges.read_text(encoding="utf-8").split("\n")
    pairs = [tuple(line.split(" ")) for line in lines if line.count(" ") == 1 and not line.startswith("#version")]
    return _packed(*byte_level(content, pairs))


def _settings(path: Path) -> Mapping[str, Any]:
    """The content of `tokenizer_config.json` beside a vocabulary; empty without one."""
    beside = path.with_name("tokenizer_config.json")
    found = json.loads(beside.read_bytes()) if beside.is_file() else {}
    return found if isinstance(found, dict) else {}


def _packed(record: Mapping[str, Any], note: str) -> tuple[str, bytes, int | None, str]:
    model = record["model"]
    kind = str(model.get("type", "BPE" if "merges" in model else "none")).lower()
    if kind not in TOKENIZERS:
        raise ValueError(f"a tokenizer.json of the type {model.get('type')}, not WordPiece, BPE or Unigram")
    for part in ("padding", "truncation"):
        if (record.get(part) or {}).get("direction") == "Left":
            raise ValueError(f"a tokenizer.json with {part} on the left; rows are padded and cut on the right")
    padding = record.get("padding") or {}
    try:
        tokenizer = tokenizers.Tokenizer.from_str(json.dumps({**record, "padding": None, "truncation": None}))
    except Exception as error:  # the library raises Exception itself
        raise ValueError(f"a tokenizer.json that can't be read: {error}") from error
    ids = [padding.get("pad_id"), *map(tokenizer.token_to_id, _PADS)]
    # In the library's own form, with every key, whatever release wrote the file.
    text = json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":"))
    return kind, pack_tokenizer(text), next((each for each in ids if each is not None), None), note or kind
