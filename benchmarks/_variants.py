"""Trainings that `export` has no setting for: while one is on, it takes the place of one function there."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final
from unittest.mock import patch

import sentencepiece
from keras import layers

from export.fusion import FUSE, Fusion
from export.tokenizer import PAD_ID

__all__ = ["ONE_SCALE", "VARIANTS", "WORDS"]

WORDS: Final = "words"
"""Tokens are whole words; one that no training text has is the same "unknown" as any other."""

ONE_SCALE: Final = "one scale"
"""What the branches give is brought to mean 0 and variance 1, each vector by itself, before it is joined."""


def _word_tokenizer(texts: Iterable[str], *, vocabulary: int) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for text in texts if (line := " ".join(text.split()))]),
        model_writer=model,
        model_type="word",
        vocab_size=vocabulary,
        hard_vocab_limit=False,
        normalization_rule_name="nmt_nfkc_cf",
        pad_id=PAD_ID,
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        num_threads=1,
        minloglevel=4,
    )
    return model.getvalue()


def _scaled(fuse: Fusion) -> Fusion:
    def scaled(regions: Any, image: Any, text: Any, width: int) -> Any:
        image, text = (layers.LayerNormalization(center=False, scale=False)(each) for each in (image, text))
        return fuse(regions, image, text, width)

    return scaled


@contextlib.contextmanager
def _words() -> Iterator[None]:
    with patch("export.train.train_tokenizer", _word_tokenizer):
        yield


@contextlib.contextmanager
def _one_scale() -> Iterator[None]:
    with patch("export.model.FUSE", {name: _scaled(fuse) for name, fuse in FUSE.items()}):
        yield


VARIANTS: Final[Mapping[str, Callable[[], AbstractContextManager[None]]]] = {
    "": contextlib.nullcontext,
    WORDS: _words,
    ONE_SCALE: _one_scale,
}
"""By name; "" changes nothing."""
