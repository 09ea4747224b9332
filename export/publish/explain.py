"""Explains answers in the graph: each part of the input is left out in turn, and the model runs again.

Occlusion (Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2014) needs only a model's
answers. How much each of the two inputs counts is their Shapley value (Shapley, "A Value for n-Person Games", 1953).
"""

import dataclasses
from collections.abc import Callable
from typing import Final

import tensorflow as tf

from duoserve.contract import IMAGE, PreprocessingSpec
from duoserve.preprocessing.preprocessor import Preprocessor
from export.defaults import EXPLAIN_GRID

Predict = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""`(image, tokens)` to the answer, float32 of shape (batch, columns)."""
Explain = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]

_AT_ONCE: Final = 32
"""Changed inputs that the model runs on in one step, for any number of rows: limits the memory."""

_WHOLE: Final = 3
"""Changes of whole inputs: no image, no text, neither."""


def explained(spec: PreprocessingSpec, grid: tuple[int, int] = EXPLAIN_GRID) -> PreprocessingSpec:
    """The spec of a version with the signature `explain`, whose grid is no finer than the pixels."""
    rows, columns = min(grid[0], spec.image_height), min(grid[1], spec.image_width)
    return dataclasses.replace(spec, explain_grid=(rows, columns))


def explain_fn(predict: Predict, spec: PreprocessingSpec) -> Explain:
    """`(image, tokens, class_id) -> outputs` of the signature `explain`.

    A patch of an image is painted in the image's mean colour, a part of a clip made silent, and a word's
    tokens removed, with the following ones moved up. A whole input becomes a missing one if the model was
    trained for that; otherwise the image is painted over, and the text replaced by one without words.
    """
    assert spec.explain_grid is not None
    rows, columns = spec.explain_grid
    cells = rows * columns
    words = _Words(spec)
    down = tf.range(spec.image_height) * rows // spec.image_height
    across = tf.range(spec.image_width) * columns // spec.image_width
    cell_of_pixel = down[:, tf.newaxis] * columns + across
    silent = spec.audio is not None
    missing_is_black = silent or IMAGE in spec.optional

    def explain(image: tf.Tensor, tokens: tf.Tensor, class_id: tf.Tensor) -> dict[str, tf.Tensor]:
        values = predict(image, tokens)
        said = f"Expected class_id from -1 to {len(spec.labels) - 1}. Received another"
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(class_id < len(spec.labels)), [said])]):
            # Scores have different units, so none of them is the best.
            best = tf.argmax(values, axis=-1, output_type=tf.int32) if spec.answer.decided else tf.zeros_like(class_id)
            chosen = tf.where(class_id < 0, best, class_id)
        whole = tf.gather(values, chosen, batch_dims=1)
        mean = tf.zeros_like(image[:, :1, :1]) if silent else _mean_colour(image)
        number = words.numbers(tokens)
        most = tf.maximum(tf.reduce_max(number) + 1, 1)
        changes = cells + most + _WHOLE
        total = tf.shape(image)[0] * changes

        def ask(step: tf.Tensor) -> tf.Tensor:
            """The chosen column for `_AT_ONCE` changes, counted through all rows; the last is repeated."""
            index = tf.minimum(step * _AT_ONCE + tf.range(_AT_ONCE), total - 1)
            row, change = index // changes, index % changes
            no_image = (change == cells + most) | (change == cells + most + 2)
            no_text = change > cells + most
            colour = tf.gather(mean, row)
            if missing_is_black:
                colour = tf.where(_wide(no_image, 4), tf.zeros_like(colour), colour)
            hidden = (cell_of_pixel == _wide(change, 3)) | _wide(no_image, 3)
            seen = tf.where(hidden[..., tf.newaxis], colour, tf.gather(image, row))
            word = tf.where(change < cells, -2, change - cells)  # no token has -2
            kept = words.without(tf.gather(tokens, row), tf.gather(number, row) == _wide(word, 2))
            answers = predict(seen, tf.where(_wide(no_text, 2), words.none, kept))
            return tf.gather(answers, tf.gather(chosen, row), batch_dims=1)

        steps = tf.range((total + _AT_ONCE - 1) // _AT_ONCE)
        kind = tf.TensorSpec([_AT_ONCE], tf.float32)
        asked = tf.map_fn(ask, steps, fn_output_signature=kind, parallel_iterations=1)
        without = tf.reshape(tf.reshape(asked, [-1])[:total], [-1, changes])
        fall = whole[:, tf.newaxis] - without
        of_words = tf.gather(fall[:, cells : cells + most], tf.maximum(number, 0), batch_dims=1)
        no_image, no_text, neither = tf.unstack(without[:, cells + most :], _WHOLE, axis=1)
        by_image = ((whole - no_image) + (no_text - neither)) / 2
        by_text = ((whole - no_text) + (no_image - neither)) / 2
        return {
            "class_id": chosen,
            spec.answer.value: whole,
            "image_relevance": tf.reshape(fall[:, :cells], [-1, rows, columns]),
            "token_relevance": tf.where(number < 0, 0.0, of_words),
            "input_relevance": tf.stack([by_image, by_text], axis=1),
        }

    return explain


class _Words:
    """The twin of `duoserve.preprocessing.words` for rows of tokens, in the graph. `none` is a row without words."""

    def __init__(self, spec: PreprocessingSpec) -> None:
        preprocessor = Preprocessor(spec)
        rule = preprocessor.word_rule
        self.none = preprocessor.no_text()
        self._starts, self._joined, self._marks = rule.starts, rule.joined, rule.marks
        self._pad_id, self._length = spec.pad_id, spec.token_length

    def numbers(self, tokens: tf.Tensor) -> tf.Tensor:
        """int32 array of shape (batch, token_length): the number of each token's word; -1 for no word."""
        ids = tf.clip_by_value(tokens, 0, len(self._starts) - 1)
        there = (tokens != self._pad_id) & ~tf.gather(tf.constant(self._marks), ids)
        joined = tf.pad(tf.gather(tf.constant(self._joined), ids)[:, :-1], [[0, 0], [1, 0]])
        after_a_token = tf.pad(there[:, :-1], [[0, 0], [1, 0]])
        begins = (tf.gather(tf.constant(self._starts), ids) & ~joined) | ~after_a_token
        return tf.where(there, tf.cumsum(tf.cast(begins & there, tf.int32), axis=1) - 1, -1)

    def without(self, tokens: tf.Tensor, left_out: tf.Tensor) -> tf.Tensor:
        """The rows without some of their tokens: the others move up, and padding follows."""
        positions = tf.range(self._length)
        order = tf.argsort(tf.where(left_out, positions + self._length, positions), axis=1)
        kept = self._length - tf.reduce_sum(tf.cast(left_out, tf.int32), axis=1, keepdims=True)
        return tf.where(positions < kept, tf.gather(tokens, order, batch_dims=1), self._pad_id)


def _mean_colour(image: tf.Tensor) -> tf.Tensor:
    """uint8 array of shape (batch, 1, 1, 3)."""
    pixels = image.shape[1] * image.shape[2]
    total = tf.reduce_sum(tf.cast(image, tf.int32), axis=[1, 2], keepdims=True)
    return tf.cast((total + pixels // 2) // pixels, tf.uint8)


def _wide(values: tf.Tensor, rank: int) -> tf.Tensor:
    """Values by row, to be compared with arrays of this rank."""
    return tf.reshape(values, [-1, *[1] * (rank - 1)])
