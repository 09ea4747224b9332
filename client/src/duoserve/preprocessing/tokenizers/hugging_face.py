"""WordPiece, byte-level BPE and Unigram from a `tokenizer.json`, by Hugging Face's library `tokenizers`."""

import functools
import json
from collections.abc import Mapping
from typing import Any

from duoserve.contract import BPE, WORDPIECE, ContractError, PreprocessingSpec, unpack_tokenizer
from duoserve.errors import UnsupportedModel
from duoserve.preprocessing.tokenizers.kinds import Tokenizer
from duoserve.preprocessing.words import WordRule, is_written_without_spaces


class HuggingFace(Tokenizer):
    """A packed `tokenizer.json`. The file's settings for cutting and padding are ignored: the spec has them."""

    def __init__(self, spec: PreprocessingSpec) -> None:
        try:
            import tokenizers
        except ImportError as error:
            raise UnsupportedModel(
                f"Expected the package tokenizers, as this version's tokenizer is of the kind {spec.tokenizer_kind}."
                " Received: none (pip install 'duoserve[tokenizers]')"
            ) from error
        text = unpack_tokenizer(spec.tokenizer)
        try:
            model: Mapping[str, Any] = json.loads(text)["model"]
            kind = str(model["type"]).lower()
            self._tokenizer = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the library raises Exception itself
            raise ContractError(f"Expected tokenizer to be a tokenizer.json. Received: {error}") from error
        if kind != spec.tokenizer_kind:
            raise ContractError(f"Expected a tokenizer of the kind {spec.tokenizer_kind}. Received: {kind}")
        self._kind = kind
        self._continued = model.get("continuing_subword_prefix") or ""
        self._last = model.get("end_of_word_suffix") or ""
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.size = 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
        whole = self._tokenizer.encode("a")
        own = [place for place, sequence in enumerate(whole.sequence_ids) if sequence is not None]
        first, end = (own[0], own[-1] + 1) if own else (len(whole.ids), len(whole.ids))
        self.prefix, self.suffix = tuple(whole.ids[:first]), tuple(whole.ids[end:])
        marks = len(self.prefix) + len(self.suffix)
        if marks >= spec.token_length:
            raise ContractError(
                f"Expected token_length over {marks} for the ids that the tokenizer adds. Received: {spec.token_length}"
            )

    @functools.cached_property
    def words(self) -> WordRule:
        """WordPiece: every piece except a continuation begins a word. BPE, Unigram: words are separated by spaces."""
        pieces = [self.piece(number) for number in range(self.size)]
        joined = [False] * self.size
        if self._kind == WORDPIECE:
            starts = [not piece.startswith(self._continued) for piece in pieces]
        elif self._last:
            starts, joined = [True] * self.size, [not piece.endswith(self._last) for piece in pieces]
        else:
            texts = [_read(piece) if self._kind == BPE else piece.replace("▁", " ") for piece in pieces]
            starts = [text[:1] == " " or is_written_without_spaces(text) for text in texts]
            joined = [text == " " for text in texts]
        return WordRule(starts, joined=joined, marks={*self.prefix, *self.suffix})

    def piece(self, number: int) -> str:
        return self._tokenizer.id_to_token(number) or ""

    def encode(self, text: str) -> list[int]:
        found: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return found

    def spans(self, text: str) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = self._tokenizer.encode(text, add_special_tokens=False).offsets
        return found


def _read(piece: str) -> str:
    """The text of a piece of byte-level BPE, which writes every byte as a visible character; ▁ is a space too."""
    if not piece or piece[0] == "▁":
        return piece.replace("▁", " ")
    data = bytes(_BYTES[character] for character in piece if character in _BYTES)
    return data.decode("utf-8", errors="replace")


def _byte_characters() -> dict[str, int]:
    """GPT-2's: printable Latin-1 stands for itself, the others for U+0100 and what follows."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = sorted(set(range(256)).difference(visible))
    return {chr(byte): byte for byte in visible} | {chr(0x100 + place): byte for place, byte in enumerate(hidden)}


_BYTES = _byte_characters()
