"""The tokenizer of your own model: its ids in the client, and whether the graph can compute them."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import sentencepiece
import tensorflow as tf
import tokenizers

from duoserve.contract import SENTENCEPIECE, TOKENIZERS, PreprocessingSpec, pack_tokenizer
from duoserve.preprocessing.preprocessor import Preprocessor
from duoserve.preprocessing.tokenizers.kinds import load_tokenizer
from export.errors import ExportError
from export.graph.text import GraphTokenizer
from export.own.reasons import MisfitError, misfit, said
from export.own.settings import OwnModel
from export.own.tokenizer_recipes import bert, byte_level
from export.publish.probes import odd_texts, probes

_NAMES: Final = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
_PADS: Final = ("[PAD]", "<pad>", "<|pad|>")

Content = tuple[str, bytes, int | None, str]
"""The kind, the bytes for `PreprocessingSpec.tokenizer`, the padding id if known, and a note."""


@dataclasses.dataclass(frozen=True, slots=True)
class Tokenizer:
    """A tokenizer as in `PreprocessingSpec`, and how it was understood.

    Attributes:
        ids: One more than the largest id.
        around: The ids that it puts before and after every text.
        note: How it was understood, as text.
    """

    data: bytes
    kind: str
    ids: int
    pad_id: int
    around: tuple[int, ...] = ()
    note: str = ""


def read_tokenizer(own: OwnModel) -> Tokenizer:
    """The tokenizer. Raises MisfitError if it can't be used."""
    expected = "--tokenizer to be a SentencePiece model, tokenizer.json, vocab.txt, or vocab.json with merges.txt"
    if own.tokenizer is None:
        raise misfit(expected, "none", "give the file that the training used")
    try:
        kind, data, pad_id, note = read_file(own.tokenizer)
        roomy = PreprocessingSpec(1, 1, 512, data, ("any",), 1, tokenizer_kind=kind)
        loaded = load_tokenizer(roomy)
    except MisfitError:
        raise
    except (OSError, ValueError) as error:
        raise misfit(expected, said(error), "give the unchanged file that the training used") from error
    pad_id = pad_id if own.pad_id is None else own.pad_id
    if pad_id is None:
        fix = "give --pad-id N, the padding id of the training"
        if kind == SENTENCEPIECE:
            fix += "; models such as XLM-R have other ids than their .model file: give their tokenizer.json"
        raise misfit("to know the padding id", "a tokenizer without one", fix)
    if loaded.prefix or loaded.suffix:
        note += f", {[*loaded.prefix]} before a text and {[*loaded.suffix]} after it"
    return Tokenizer(data, kind, loaded.size, pad_id, (*loaded.prefix, *loaded.suffix), note)


def check_tokenizer(spec: PreprocessingSpec, texts: list[str]) -> tuple[PreprocessingSpec, str]:
    """The spec, without `serving_bytes` if the graph can't compute the ids, and a note with the reason.

    Raises:
        ContractError: The tokenizer does not fit the contract.
        MisfitError: Client and graph give different ids for one of these texts, or for an unusual one.
    """
    try:
        in_graph = GraphTokenizer(spec)
    except ExportError as error:
        return dataclasses.replace(spec, serving_bytes=False), f"none, as the graph can't compute these ids: {error}"
    draw = np.random.default_rng(0)
    odd = ["".join(chr(each) for each in draw.choice(_CHARACTERS, draw.integers(1, 40))) for _ in range(200)]
    client = Preprocessor(spec)
    every = [*texts[:1000], *(text for _, text in probes(spec)), *odd_texts(spec, 400), *odd, "", " "]
    rows = in_graph(tf.constant([text.encode() for text in every])).numpy()
    for text, ids in zip(every, rows, strict=True):
        # Empty bytes mean a missing text, not an empty one, where the text may be missing.
        if text and not np.array_equal(client.tokens(text), ids):
            fix = "train a tokenizer with `export.training.tokenizer.train_tokenizer`, whose options both sides know"
            if spec.tokenizer_kind != SENTENCEPIECE:
                fix = "report it, with the tokenizer's file: its ids should be equal for any text"
            received = f"{client.tokens(text).tolist()} and {ids.tolist()} for {text!r:.60}"
            raise misfit("the client and the graph to make the same token ids", received, fix)
    return spec, ""


def read_file(path: Path) -> Content:
    """Recognises a tokenizer by its content.

    Args:
        path: A SentencePiece model; a `tokenizer.json`; BERT's `vocab.txt`; `vocab.json` with `merges.txt`
            beside it, or "vocab.json+merges.txt"; or a folder with one of these.

    Raises:
        OSError: A file can't be read.
        MisfitError: It pads or cuts texts on the left.
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


def _sentencepiece(data: bytes) -> Content:
    try:
        pad_id = sentencepiece.SentencePieceProcessor(model_proto=data).pad_id()
    except RuntimeError as error:
        raise ValueError(f"a file that is not a SentencePiece model, JSON or vocab.txt with [UNK] ({error})") from error
    return SENTENCEPIECE, data, pad_id if pad_id >= 0 else None, SENTENCEPIECE


def _from_json(content: Mapping[str, Any], path: Path, merges: Path) -> Content:
    if isinstance(content.get("model"), dict):
        return _packed(content, "")
    if not content or not all(isinstance(number, int) for number in content.values()):
        raise ValueError(f"JSON that is neither a tokenizer.json nor a vocab.json, {path}")
    if not merges.is_file():
        raise ValueError(f"{path.name} without merges.txt beside it")
    lines = [line.split(" ") for line in merges.read_text(encoding="utf-8").split("\n")]
    pairs = [(line[0], line[1]) for line in lines if len(line) == 2 and not line[0].startswith("#version")]
    return _packed(*byte_level(content, pairs))


def _settings(path: Path) -> Mapping[str, Any]:
    """The content of `tokenizer_config.json` beside a vocabulary; empty without one."""
    beside = path.with_name("tokenizer_config.json")
    found = json.loads(beside.read_bytes()) if beside.is_file() else {}
    return found if isinstance(found, dict) else {}


def _packed(record: Mapping[str, Any], note: str) -> Content:
    model = record["model"]
    kind = str(model.get("type", "BPE" if "merges" in model else "none")).lower()
    if kind not in TOKENIZERS:
        raise ValueError(f"a tokenizer.json of the type {model.get('type')}, not WordPiece, BPE or Unigram")
    for part in ("padding", "truncation"):
        if (record.get(part) or {}).get("direction") == "Left":
            expected = f"a tokenizer.json with {part} on the right, as clients and the server do it"
            fix = f"train the model with {part} on the right ({part}_side='right'), and give that tokenizer"
            raise misfit(expected, f"{part} on the left", fix)
    padding = record.get("padding") or {}
    try:
        tokenizer = tokenizers.Tokenizer.from_str(json.dumps({**record, "padding": None, "truncation": None}))
    except Exception as error:  # the library raises Exception itself
        raise ValueError(f"a tokenizer.json that can't be read: {error}") from error
    ids = [padding.get("pad_id"), *map(tokenizer.token_to_id, _PADS)]
    # In the library's own form, with every key, whatever release wrote the file.
    text = json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":"))
    return kind, pack_tokenizer(text), next((each for each in ids if each is not None), None), note or kind


_CHARACTERS = np.concatenate(
    [np.arange(start, stop) for start, stop in
     ((0x20, 0x7F), (0xA0, 0x250), (0x300, 0x370), (0x390, 0x400), (0x410, 0x450), (0x621, 0x64B), (0x905, 0x940),
      (0x3041, 0x30FF), (0x4E00, 0x4F00), (0xFF01, 0xFF60), (0x1F300, 0x1F650))]
)  # fmt: skip
