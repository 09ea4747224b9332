"""Weights stored in fewer bytes than float32, and the cost.

float16 halves the matrices of a model; int8 makes them a quarter: every output channel has a
scale, and its weights are multiples of it from -127 to 127 (the symmetric scheme of
Jacob et al. 2018, https://arxiv.org/abs/1712.05877, for weights alone). The graph computes in
float32: it makes the float32 weights of a layer when it runs that layer, and drops them
afterwards. It needs only reads, casts and products, which every server has, around any Keras layer.
Vectors (biases, statistics) and small matrices stay float32: they are a thousandth of the bytes.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Final

import keras
import numpy as np
import tensorflow as tf

from export.defaults import WEIGHTS
from export.errors import ExportError
from export.measures import Array
from export.optimise import Reading

_LEAST: Final = 1024
"""Elements of the smallest matrix that is packed."""


class PackedWeights:
    """The float32 matrices of a model as "float16" or "int8". The model itself is not changed.

    Attributes:
        facts: For the card: the number of packed weights, and the bytes of all stored ones, including scales.

    Raises:
        ExportError: Another type, no weights to pack, or weights that the type can't hold.
    """

    def __init__(self, model: keras.Model, kind: str) -> None:
        if kind not in WEIGHTS[1:]:
            raise ExportError(f"Expected weights to be one of {', '.join(WEIGHTS)}. Received: {kind!r}")
        layers = {id(variable): layer for layer in model._flatten_layers() for variable in layer._trainable_variables}
        chosen = [each for each in model.variables if each.dtype == "float32" and len(each.shape) > 1]
        chosen = [each for each in chosen if np.prod(each.shape) >= _LEAST]
        if not chosen:
            raise ExportError(
                f"Expected a model with float32 matrices of {_LEAST} elements or more, to store them as {kind}."
                " Received: none"
            )
        self._packed = {id(each): _pack(each, kind, layers.get(id(each))) for each in chosen}
        self._embeddings = [
            (layer, self._packed[id(layer._embeddings)])
            for layer in model._flatten_layers()
            if type(layer).call is keras.layers.Embedding.call
            and not layer.lora_enabled
            and id(getattr(layer, "_embeddings", None)) in self._packed
        ]
        others = sum(int(np.prod(each.shape)) * 4 for each in model.variables if id(each) not in self._packed)
        self.facts = {
            "packed_parameters": sum(int(np.prod(each.shape)) for each in chosen),
            "bytes": others + sum(each.stored for each in self._packed.values()),
        }

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """A context manager: inside, the model computes from the packed weights. Enter it once, in a graph."""
        for layer, packed in self._embeddings:
            layer.call = _looking_up(packed, layer.compute_dtype)
        try:
            with Reading({key: each.unpack for key, each in self._packed.items()}):
                yield
        finally:
            for layer, _ in self._embeddings:
                del layer.call


class _Packed:
    """One matrix: `stored * scale`, or only `stored`."""

    def __init__(self, values: Array, scale: Array | None) -> None:
        self.stored = values.nbytes + (0 if scale is None else scale.nbytes)
        self._values = tf.Variable(values, trainable=False)
        self._scale = None if scale is None else tf.Variable(scale, trainable=False)

    def unpack(self) -> tf.Tensor:
        """float32, made after the preceding operations, so that a call never holds all layers' weights at once."""
        with tf.control_dependencies(tf.compat.v1.get_default_graph().get_operations()[-1:]):
            values = tf.cast(self._values, tf.float32)
            return values if self._scale is None else values * self._scale

    def look_up(self, rows: tf.Tensor) -> tf.Tensor:
        """Some rows of the result of `unpack`."""
        values = tf.cast(tf.gather(self._values, rows), tf.float32)
        return values if self._scale is None else values * tf.gather(self._scale, rows)


def _pack(variable: keras.Variable, kind: str, layer: keras.Layer | None) -> _Packed:
    values = np.asarray(variable.numpy())
    largest = float(np.abs(values).max())
    if kind == "float16":
        most = float(np.finfo(np.float16).max)
        if not largest <= most:  # also refuses NaN
            raise ExportError(f"Expected {variable.path} to hold numbers up to {most:.0f}. Received: {largest:g}")
        return _Packed(values.astype(np.float16), None)
    if not np.isfinite(largest):
        raise ExportError(f"Expected {variable.path} to hold finite numbers. Received: {largest:g}")
    kept = _channels(values, layer)
    over = tuple(axis for axis in range(values.ndim) if axis not in kept)
    scale = np.abs(values).max(axis=over, keepdims=True) / np.float32(127)
    scale[scale == 0] = 1
    return _Packed(np.rint(values / scale).astype(np.int8), scale.astype(np.float32))


def _channels(values: Array, layer: keras.Layer | None) -> set[int]:
    """The axes along which each index has its own scale: those that are not summed over."""
    last = values.ndim - 1
    if isinstance(layer, keras.layers.Embedding):
        return {0}  # rows are looked up one by one, and frequent words have larger numbers
    if type(layer).__name__.startswith("DepthwiseConv"):
        return {last - 1, last}
    return {last}


def _looking_up(packed: _Packed, dtype: str) -> Callable[[tf.Tensor], tf.Tensor]:
    def call(inputs: tf.Tensor) -> tf.Tensor:
        rows = inputs if inputs.dtype in (tf.int32, tf.int64) else tf.cast(inputs, tf.int32)
        return tf.cast(packed.look_up(rows), dtype)

    return call
