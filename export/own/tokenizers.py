"""The tokenizer of your own model: its ids in the client, and whether the graph can compute them."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from duoserve.contract import SENTENCEPIECE, ContractError, PreprocessingSpec
from duoserve.preprocessing.preprocessor import Preprocessor
from duoserve.preprocessing.tokenizers.kinds import load_tokenizer
from export.errors import ExportError
from export.graph.text import GraphTokenizer
from export.own.reasons import reason, said
from export.own.settings import OwnModel
from export.own.tokenizer_files import read_file
from export.publish.probes import odd_texts, probes

__all__ = ["Tokenizer", "check_tokenizer", "read_tokenizer"]


@dataclasses.dataclass(frozen=True, slots=True)
class Tokenizer:
    """A tokenizer, its ids, and how it was understood.

    Attributes:
        data: `PreprocessingSpec.tokenizer`.
        kind: `PreprocessingSpec.tokenizer_kind`.
        ids: One more than the largest id.
        pad_id: The id of padding.
        around: The ids that it puts before and after every text.
        note: A note as text.
    """

    data: bytes
    kind: str
    ids: int
    pad_id: int
    around: tuple[int, ...] = ()
    note: str = ""


def read_tokenizer(own: OwnModel, reasons: list[str]) -> Tokenizer | None:
    """The tokenizer, or None with the reasons."""
    expected = "--tokenizer to be a SentencePiece model, tokenizer.json, vocab.txt, or vocab.json with merges.txt"
    if own.tokenizer is None:
        reasons.append(reason(expected, "none", "give the file that the training used"))
        return None
    try:
        kind, data, pad_id, note = read_file(own.tokenizer)
        roomy = PreprocessingSpec(1, 1, 512, data, ("any",), 1, tokenizer_kind=kind)
        loaded = load_tokenizer(roomy)
    except (OSError, ValueError) as error:
        reasons.append(reason(expected, said(error), "give the unchanged file that the training used"))
        return None
    pad_id = pad_id if own.pad_id is None else own.pad_id
    if pad_id is None:
        fix = "give --pad-id N, the padding id of the training"
        if kind == SENTENCEPIECE:
            fix += "; models such as XLM-R have other ids than their .model file: give their tokenizer.json"
        reasons.append(reason("to know the padding id", "a tokenizer without one", fix))
        return None
    if loaded.prefix or loaded.suffix:
        note += f", {[*loaded.prefix]} before a text and {[*loaded.suffix]} after it"
    return Tokenizer(data, kind, loaded.size, pad_id, (*loaded.prefix, *loaded.suffix), note)


def check_tokenizer(spec: PreprocessingSpec, texts: list[str], reasons: list[str]) -> tuple[PreprocessingSpec, str]:
    """The spec, without `serving_bytes` if the graph can't compute the ids, and a note with the reason.

    Adds a reason if client and graph give different ids for a text, of the given texts or of unusual ones.
    """
    try:
        in_graph = GraphTokenizer(spec)
    except ContractError as error:
        reasons.append(str(error))
        return spec, ""
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
            reasons.append(reason("the client and the graph to make the same token ids", received, fix))
            break
    return spec, ""


_CHARACTERS = np.concatenate(
    [np.arange(start, stop) for start, stop in
     ((0x20, 0x7F), (0xA0, 0x250), (0x300, 0x370), (0x390, 0x400), (0x410, 0x450), (0x621, 0x64B), (0x905, 0x940),
      (0x3041, 0x30FF), (0x4E00, 0x4F00), (0xFF01, 0xFF60), (0x1F300, 0x1F650))]
)  # fmt: skip
