"""The decision as a text, in the graph, by kind of answer: a further output of `serving_bytes`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import tensorflow as tf

from duoserve.contract import BAR, PreprocessingSpec, Tags

__all__ = ["decided"]


def decided(spec: PreprocessingSpec, values: tf.Tensor) -> dict[str, tf.Tensor]:
    """The further output of the contract beside the answer: a string for each row. Twin of `Answer.decision`.

    Args:
        spec: Of the model.
        values: float32 of shape (batch, columns): the answer.
    """
    name = spec.answer.decided
    return {} if name is None else {name: _DECIDED[name](spec, values)}


def _label(spec: PreprocessingSpec, values: tf.Tensor) -> tf.Tensor:
    return tf.gather(tf.constant(spec.labels), tf.argmax(values, axis=-1))


def _tags(spec: PreprocessingSpec, values: tf.Tensor) -> tf.Tensor:
    assert isinstance(spec.answer, Tags)
    ended = tf.constant([label + BAR for label in spec.labels])
    joined = tf.strings.reduce_join(tf.where(values >= tf.constant(spec.answer.thresholds), ended, ""), axis=-1)
    return tf.strings.regex_replace(joined, f"\\{BAR}$", "")


_DECIDED: Final[Mapping[str, Callable[[PreprocessingSpec, tf.Tensor], tf.Tensor]]] = MappingProxyType(
    {"label": _label, "tags": _tags}
)
"""By name of the output."""
