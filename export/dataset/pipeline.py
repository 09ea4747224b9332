"""Training batches as a `tf.data` pipeline: made on other threads while the model computes."""

from __future__ import annotations

import os
from typing import Any, Final

import tensorflow as tf

from export.dataset.batches import Batches

__all__ = ["pipeline"]

_WORKERS: Final = min(8, os.cpu_count() or 1)
_AHEAD: Final = 2


def pipeline(batches: Batches, *, first: int, last: int, outputs: tuple[str, ...]) -> tf.data.Dataset:
    """The batches from step `first` up to but excluding `last`, counted over all epochs.

    Args:
        batches: The source, read by several threads.
        first: From 0.
        last: A multiple of `len(batches)`, or within the epoch of `first`.
        outputs: Names of the targets.
    """
    inputs, targets = batches.batch(0, 0)
    image, tokens, target = inputs["image"], inputs["tokens"], targets[outputs[0]]
    kinds = [tf.TensorSpec((None, *array.shape[1:]), array.dtype) for array in (image, tokens, target)]

    def make(step: Any) -> tuple[Any, Any, Any]:
        inputs, targets = batches.batch(*divmod(int(step), len(batches)))
        return inputs["image"], inputs["tokens"], targets[outputs[0]]

    def load(step: tf.Tensor) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        made = tf.numpy_function(make, [step], [kind.dtype for kind in kinds])
        image, tokens, target = (tf.ensure_shape(each, kind.shape) for each, kind in zip(made, kinds, strict=True))
        return {"image": image, "tokens": tokens}, dict.fromkeys(outputs, target)

    steps = tf.data.Dataset.range(first, last)
    return steps.map(load, num_parallel_calls=_WORKERS, deterministic=True).prefetch(_AHEAD)
