"""Training batches: shuffled, with images shifted a little and texts tokenised in different ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import sentencepiece

from duoserve.contract import PreprocessingSpec
from export.dataset.data import Arrays

__all__ = ["Batches", "segmentations"]

Tokens = npt.NDArray[np.int32]


def segmentations(texts: Sequence[str], spec: PreprocessingSpec, most: int) -> list[Tokens] | None:
    """The most likely ways to split each text into tokens, best first; None if `most` is 1.

    A model that saw "woman" only whole learns nothing for "wom|an". With only a thousand texts
    to learn from, other splits are the cheapest new data. Serving always uses the best one.

    Returns:
        For each text an int32 array of shape (ways, token_length).
    """
    if most == 1:
        return None
    processor = sentencepiece.SentencePieceProcessor(model_proto=spec.tokenizer)
    found: list[Tokens] = []
    for text in texts:
        ways = processor.nbest_encode_as_ids(text, most) or [[]]
        rows: Tokens = np.full((len(ways), spec.token_length), spec.pad_id, np.int32)
        for row, ids in zip(rows, ways, strict=True):
            row[: len(ids)] = ids[: spec.token_length]
        found.append(rows)
    return found


class Batches:
    """Every row once in each epoch, in an order from the seed. The last batch may be smaller.

    A batch depends only on the seed, its epoch and its number, never on earlier batches, so a
    resumed training sees the same batches.

    Args:
        arrays: The training rows.
        outputs: Names of the outputs that all get the row's target.
        batch_size: Rows a batch.
        shift: By how many pixels an image is shifted at most; it wraps around.
        segmentations: From `segmentations`, or None for the usual tokens.
        seed: Decides all draws.
        least: Smallest batch: a smaller last one is left out, with different rows in every epoch.
    """

    def __init__(
        self,
        arrays: Arrays,
        *,
        outputs: tuple[str, ...],
        batch_size: int,
        shift: int,
        segmentations: list[Tokens] | None,
        seed: int,
        least: int = 1,
    ) -> None:
        self._arrays = arrays
        self._targets = arrays.targets
        self._outputs = outputs
        self._batch_size = batch_size
        self._shift = shift
        self._segmentations = segmentations
        self._seed = seed
        self._least = least

    def __len__(self) -> int:
        whole, rest = divmod(len(self._targets), self._batch_size)
        return whole + (rest >= self._least)

    def batch(self, epoch: int, index: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Inputs and targets by name.

        Args:
            epoch: From 0.
            index: From 0 to `len(self) - 1`.
        """
        rows = self._order(epoch)[index * self._batch_size : (index + 1) * self._batch_size]
        draw = np.random.default_rng((self._seed, epoch + 1, index))
        target = self._targets[rows]
        inputs = {"image": self._images(rows, draw), "tokens": self._tokens(rows, draw)}
        return inputs, dict.fromkeys(self._outputs, target)

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        return np.random.default_rng((self._seed, epoch + 1)).permutation(len(self._targets))

    def _images(self, rows: npt.NDArray[np.int64], draw: np.random.Generator) -> npt.NDArray[np.uint8]:
        images = self._arrays.images[rows]
        if self._shift:
            moves = draw.integers(-self._shift, self._shift + 1, (len(rows), 2))
            for position, (down, right) in enumerate(moves):
                images[position] = np.roll(images[position], (down, right), (0, 1))
        return images

    def _tokens(self, rows: npt.NDArray[np.int64], draw: np.random.Generator) -> Tokens:
        if self._segmentations is None:
            return self._arrays.tokens[rows]
        ways = [self._segmentations[row] for row in rows]
        return np.stack([way[draw.integers(len(way))] for way in ways])
