"""Weights as constants of the graph: TensorFlow then prepares them once, when a version loads, not at each call.

What depends only on constants is computed once, and the matrices of convolutions and dense
layers are laid out for the processor. The price is memory, as each signature has its own constants,
and a graph is one protobuf message of at most 2 GB: so this is for small models only.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import keras
import tensorflow as tf

MOST_BYTES: Final = 32 << 20
"""Upper limit for all weights together. A server holds constants about nine times while it loads a version:
400 MB took gigabytes and minutes."""


class Constants:
    """The weights of a model as they are now."""

    def __init__(self, model: keras.Model) -> None:
        self._values = {id(each): each.numpy() for each in model.variables}

    @staticmethod
    def fit(model: keras.Model) -> bool:
        """Whether the weights are few enough."""
        return bool(sum(each.value.dtype.size * math.prod(each.shape) for each in model.variables) <= MOST_BYTES)

    def reading(self) -> Reading:
        """A context manager: inside, the model computes from constants. Enter it once, in a graph."""
        return Reading({key: functools.partial(tf.constant, value) for key, value in self._values.items()})


class Reading(keras.StatelessScope):  # type: ignore[misc]
    """A context manager: inside, layers get tensors in place of variables, by their ids.

    Each is made once, in the graph where the scope was opened, so a loop inside reuses it.
    """

    def __init__(self, makers: Mapping[int, Callable[[], tf.Tensor]]) -> None:
        super().__init__()
        self._makers = makers
        self._graph = tf.compat.v1.get_default_graph()
        self._made: dict[int, tf.Tensor] = {}

    def get_current_value(self, variable: keras.Variable) -> Any:
        key = id(variable)
        if key not in self._makers:
            return super().get_current_value(variable)
        if key not in self._made:
            with self._graph.as_default():
                self._made[key] = self._makers[key]()
        return self._made[key]
