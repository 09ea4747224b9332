"""Trainings that `export` has no setting for: while one is on, it takes the place of one function there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final
from unittest.mock import patch

from keras import layers
from sentencepiece import SentencePieceTrainer

from export.training.fusion import FUSE, Fusion

__all__ = ["ONE_SCALE", "VARIANTS", "WORDS"]

WORDS: Final = "words"
"""Tokens are whole words; one that no training text has is the same "unknown" as any other."""

ONE_SCALE: Final = "one scale"
"""What the branches give is brought to mean 0 and variance 1, each vector by itself, before it is joined."""


def _scaled(fuse: Fusion) -> Fusion:
    def scaled(regions: Any, image: Any, text: Any, width: int) -> Any:
        image, text = (layers.LayerNormalization(center=False, scale=False)(each) for each in (image, text))
        return fuse(regions, image, text, width)

    return scaled


@contextlib.contextmanager
def _words() -> Iterator[None]:
    usual = SentencePieceTrainer.train

    def train(**options: Any) -> None:
        usual(**{**options, "model_type": "word", "byte_fallback": False})

    with patch.object(SentencePieceTrainer, "train", train):
        yield


@contextlib.contextmanager
def _one_scale() -> Iterator[None]:
    with patch("export.training.model.FUSE", {name: _scaled(fuse) for name, fuse in FUSE.items()}):
        yield


VARIANTS: Final[Mapping[str, Callable[[], AbstractContextManager[None]]]] = {
    "": contextlib.nullcontext,
    WORDS: _words,
    ONE_SCALE: _one_scale,
}
"""By name; "" changes nothing."""
