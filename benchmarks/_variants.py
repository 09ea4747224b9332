"""Trainings that `export` has no setting for: each replaces one function of `export` while it is active."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final
from unittest.mock import patch

from keras import layers
from sentencepiece import SentencePieceTrainer

from export.training.fusion import FUSE, Fusion

WORDS: Final = "words"
"""Tokens are whole words; words outside the training texts become the same "unknown"."""

ONE_SCALE: Final = "one scale"
"""Each branch's vector is normalised to mean 0 and variance 1 before the fusion."""


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
"""The variants by name; "" changes nothing."""
