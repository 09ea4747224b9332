"""Training batches: shuffled, with images shifted a little and texts tokenised in different ways."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import sentencepiece
import tensorflow as tf

from duoserve.contract import PreprocessingSpec
from export.dataset.data import Arrays

Tokens = npt.NDArray[np.int32]

_WORKERS: Final = min(8, os.cpu_count() or 1)
_AHEAD: Final = 2


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


def steps(rows: int, batch_size: int, least: int) -> int:
    """The batches of an epoch; a last one of fewer than `least` rows is left out."""
    whole, rest = divmod(rows, batch_size)
    return whole + (rest >= least)


@dataclasses.dataclass(frozen=True, slots=True)
class Batches:
    """Every row once in each epoch, in an order from the seed. The last batch of an epoch may be smaller.

    A batch depends only on the seed and the number of its step, never on earlier batches, so a
    resumed training sees the same batches.

    Attributes:
        arrays: The training rows.
        outputs: Names of the outputs that all get the row's target.
        batch_size: Rows a batch.
        shift: By how many pixels an image is shifted at most; it wraps around.
        segmentations: From `segmentations`, or None for the usual tokens.
        seed: Decides all draws.
        least: Smallest batch: a smaller last one is left out, with different rows in every epoch.
    """

    arrays: Arrays
    outputs: tuple[str, ...]
    batch_size: int
    shift: int
    segmentations: list[Tokens] | None
    seed: int
    least: int = 1

    def __len__(self) -> int:
        """Steps of an epoch."""
        return steps(len(self.arrays.targets), self.batch_size, self.least)

    def batch(self, step: int) -> tuple[Any, Any]:
        """Inputs and targets by name; steps count from 0 over all epochs."""
        return self._named(*self._batch(step))

    def pipeline(self, first: int, last: int) -> tf.data.Dataset:
        """The batches from step `first` up to but excluding `last`, made on other threads while the model computes."""
        kinds = [tf.TensorSpec((None, *array.shape[1:]), array.dtype) for array in self._batch(0)]

        def load(step: tf.Tensor) -> tuple[Any, Any]:
            made = tf.numpy_function(self._batch, [step], [kind.dtype for kind in kinds])
            return self._named(*(tf.ensure_shape(each, kind.shape) for each, kind in zip(made, kinds, strict=True)))

        steps = tf.data.Dataset.range(first, last)
        return steps.map(load, num_parallel_calls=_WORKERS, deterministic=True).prefetch(_AHEAD)

    def _named(self, image: Any, tokens: Any, target: Any) -> tuple[Any, Any]:
        return {"image": image, "tokens": tokens}, dict.fromkeys(self.outputs, target)

    def _batch(self, step: int) -> tuple[npt.NDArray[np.uint8], Tokens, npt.NDArray[np.float32]]:
        epoch, index = divmod(int(step), len(self))
        order = np.random.default_rng((self.seed, epoch + 1)).permutation(len(self.arrays.targets))
        rows = order[index * self.batch_size : (index + 1) * self.batch_size]
        draw = np.random.default_rng((self.seed, epoch + 1, index))
        images = self.arrays.images[rows]
        if self.shift:
            moves = draw.integers(-self.shift, self.shift + 1, (len(rows), 2))
            for position, (down, right) in enumerate(moves):
                images[position] = np.roll(images[position], (down, right), (0, 1))
        if self.segmentations is None:
            tokens = self.arrays.tokens[rows]
        else:
            ways = [self.segmentations[row] for row in rows]
            tokens = np.stack([way[draw.integers(len(way))] for way in ways])
        return images, tokens, self.arrays.targets[rows]
