"""Inputs beside image and token ids that follow from the ids: masks of padding, and segment ids."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, Final

import keras

from export.own.calling import Input
from export.own.settings import OwnModel

__all__ = ["DERIVED", "MASK", "Derived", "find_derived"]

MASK: Final = "mask"
SEGMENTS: Final = "segments"

DERIVED: Final = {
    "padding_mask": MASK,
    "attention_mask": MASK,
    "input_mask": MASK,
    "segment_ids": SEGMENTS,
    "token_type_ids": SEGMENTS,
    "input_type_ids": SEGMENTS,
}
"""The names of these inputs in KerasHub, Hugging Face and TF Hub, whole or as the end of a longer name."""

_NAME: Final = re.compile(rf"(?:.*[^a-z])?({'|'.join(DERIVED)})(?:_\d+)?")


@dataclasses.dataclass(frozen=True, slots=True)
class Derived:
    """An input that follows from the token ids; `kind` is MASK or SEGMENTS."""

    name: str
    kind: str
    dtype: str

    def of(self, tokens: Any, pad_id: int) -> Any:
        """The input for rows of token ids."""
        found = keras.ops.not_equal(tokens, pad_id) if self.kind == MASK else keras.ops.zeros_like(tokens)
        return keras.ops.cast(found, self.dtype)

    def said(self, pad_id: int) -> str:
        """How it is computed, as text."""
        return f"1 where the tokens are not {pad_id}" if self.kind == MASK else "0: each row is one text"


def find_derived(found: Sequence[Input], own: OwnModel) -> tuple[list[Input], tuple[Derived, ...]]:
    """The inputs to be given, and those that follow from the tokens, by their names and shapes."""
    primary, derived = [], []
    for one in found:
        name = _NAME.fullmatch(one.name)
        rows = one.shape is None or len(one.shape) == 2
        if name and rows and one.name not in (own.image_input, own.text_input):
            derived.append(Derived(one.name, DERIVED[name[1]], one.dtype or "int32"))
        else:
            primary.append(one)
    return primary, tuple(derived)
