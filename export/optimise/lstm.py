"""LSTM and Bidirectional LSTM as one operation for each direction, or a lean loop for large products.

Keras runs an LSTM as a loop of a dozen small operations for each step, over padding too, and a server
spends more time on starting them than on computing. `BlockLSTMV2` runs all steps, and stops after
the longest row of the batch. It has the gates in Keras' order, and reads rows from their first step
on: where a mask hides steps in between, the visible steps are moved to the front, in their order.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf

_CLIPS_NOTHING: Final = -1.0

_HEAVY: Final = 500_000
"""From this number of rows times weights of a gate on, a loop of matrix products is as fast as `BlockLSTMV2`:
matrix product operations use all instructions of the processor, those inside `BlockLSTMV2` do not."""

_ANY_BATCH: Final = 48
"""More rows than a server's batch has: above, no graph is made."""


def block_lstm(layer: keras.Layer) -> keras.Layer | None:
    """The layer as a `BlockLSTM` with the same weights, inputs, outputs and mask; None if it does not fit."""
    if type(layer) is keras.layers.LSTM:
        return BlockLSTM(layer, None, None) if _fits(layer) else None
    if type(layer) is not keras.layers.Bidirectional or layer.compute_dtype != "float32":
        return None
    forward, backward = layer.forward_layer, layer.backward_layer
    if not _fits(forward) or not _fits(backward) or forward.go_backwards:
        return None
    return BlockLSTM(forward, backward, layer.merge_mode, name=layer.name)


def _fits(layer: keras.Layer) -> bool:
    return (
        type(layer) is keras.layers.LSTM
        and layer.activation is keras.activations.tanh
        and layer.recurrent_activation is keras.activations.sigmoid
        and not layer.stateful
        and not layer.return_state
        and layer.activity_regularizer is None
        # The output of the last step even if it is masked (zeros), not of the last visible step.
        and not (layer.zero_output_for_mask and not layer.return_sequences)
        # Unrolled, Keras masks the wrong steps of a sequence that it reads backwards.
        and not (layer.zero_output_for_mask and layer.unroll)
        and {layer.compute_dtype, layer.cell.compute_dtype, layer.cell.kernel.dtype} == {"float32"}
    )


class BlockLSTM(keras.Layer):  # type: ignore[misc]
    """An LSTM, or two, of which the second reads backwards.

    Args:
        forward: A built LSTM whose weights are copied; `go_backwards` as it has it.
        backward: The one that reads backwards; None if there is only one.
        merge_mode: How two outputs are joined, as in `keras.layers.Bidirectional`.
        name: Of this layer; None takes that of `forward`.
    """

    def __init__(
        self, forward: keras.layers.LSTM, backward: keras.layers.LSTM | None, merge_mode: str | None, name: str = ""
    ) -> None:
        super().__init__(name=name or forward.name, dtype="float32", trainable=False)
        self.supports_masking = True
        self.return_sequences = forward.return_sequences
        self.merge_mode = merge_mode
        self.directions = [self._direction(each) for each in (forward, backward) if each is not None]
        self.built = True

    def _direction(self, layer: keras.layers.LSTM) -> _Direction:
        cell = layer.cell
        kernels = np.concatenate([cell.kernel.numpy(), cell.recurrent_kernel.numpy()])
        bias = cell.bias.numpy() if cell.use_bias else np.zeros(4 * layer.units, np.float32)
        weights = [
            self.add_weight(name=f"{layer.name}_{name}", shape=values.shape, initializer=lambda *_, v=values, **__: v)
            for name, values in (("kernels", kernels), ("bias", bias))
        ]
        return _Direction(layer.units, layer.go_backwards, layer.zero_output_for_mask, *weights)

    def call(self, sequences: Any, mask: Any = None, training: Any = None) -> Any:
        if isinstance(mask, (list, tuple)):
            mask = mask[0]
        steps = _Steps(sequences, mask)
        outputs = [each(steps, self.return_sequences) for each in self.directions]
        if len(outputs) == 1:
            alone = self.directions[0]
            return tf.reverse(outputs[0], [1]) if alone.backwards and self.return_sequences else outputs[0]
        forward, backward = outputs
        if self.merge_mode == "concat":
            return tf.concat(outputs, axis=-1)
        if self.merge_mode == "sum":
            return forward + backward
        if self.merge_mode == "ave":
            return (forward + backward) / 2
        return forward * backward if self.merge_mode == "mul" else (forward, backward)

    def compute_output_shape(self, sequences_shape: Any) -> Any:
        leading = tuple(sequences_shape[: 2 if self.return_sequences else 1])
        shapes = [(*leading, each.units) for each in self.directions]
        if len(shapes) == 2 and self.merge_mode is None:
            return tuple(shapes)
        return (*leading, sum(each.units for each in self.directions)) if self.merge_mode == "concat" else shapes[0]

    def compute_mask(self, _: Any, mask: Any) -> Any:
        if isinstance(mask, (list, tuple)):
            mask = mask[0]
        output = mask if self.return_sequences else None
        return (output, output) if len(self.directions) == 2 and self.merge_mode is None else output


class _Steps:
    """A batch of sequences, steps first, with the visible steps at the front of each row.

    Args:
        sequences: float32 array of shape (batch, steps, features).
        mask: Of shape (batch, steps): which steps are visible; None: all.
    """

    def __init__(self, sequences: tf.Tensor, mask: tf.Tensor | None) -> None:
        self.batch, self.most = tf.unstack(tf.shape(sequences)[:2])
        self.mask = mask
        if mask is None:
            self.forward = tf.transpose(sequences, [1, 0, 2])
            return
        self.mask = mask = tf.cast(mask, tf.bool)
        counts = tf.cast(mask, tf.int32)
        self.until = tf.cumsum(counts, axis=1)
        """Number of visible steps up to and including each one."""
        self.after = tf.cumsum(counts, axis=1, reverse=True)
        """The same from the end."""
        self.lengths = tf.reduce_sum(counts, axis=1)
        wanted = tf.tile(tf.range(1, self.most + 1)[tf.newaxis], [self.batch, 1])
        # The first step at which `until` reaches n is the n-th visible step.
        order = tf.minimum(tf.searchsorted(self.until, wanted), self.most - 1)
        flat = tf.reshape(sequences, [-1, sequences.shape[-1]])
        self.forward = tf.gather(flat, tf.transpose(order + self._row()[:, tf.newaxis]))

    def _row(self) -> tf.Tensor:
        return tf.range(self.batch) * self.most

    @property
    def backward(self) -> tf.Tensor:
        """`forward`, with each row reversed."""
        if self.mask is None:
            return tf.reverse(self.forward, [0])
        return tf.reverse_sequence(self.forward, self.lengths, seq_axis=0, batch_axis=1)

    @property
    def longest(self) -> tf.Tensor:
        """Steps to run."""
        return self.most if self.mask is None else tf.maximum(tf.reduce_max(self.lengths), 0)  # of no rows: negative

    def last(self, states: tf.Tensor) -> tf.Tensor:
        """Each row's state after its last step; zeros where it has none."""
        if self.mask is None:
            return states[-1]
        return self._after(states, self.lengths, self.lengths > 0)

    def at_each(self, states: tf.Tensor, backwards: bool, zero_elsewhere: bool) -> tf.Tensor:
        """Each row's states at the steps as they came, batch first.

        For masked steps, the state before them, or zeros if `zero_elsewhere`.
        """
        if self.mask is None:
            return tf.transpose(tf.reverse(states, [0]) if backwards else states, [1, 0, 2])
        count = self.after if backwards else self.until
        return self._after(states, count, self.mask if zero_elsewhere else count > 0)

    def _after(self, states: tf.Tensor, count: tf.Tensor, there: tf.Tensor) -> tf.Tensor:
        """The states after `count` steps, of shape (batch, …, units); zeros where not `there`."""
        row = tf.range(self.batch)
        row = row if count.shape.rank == 1 else row[:, tf.newaxis]
        flat = tf.reshape(states, [-1, states.shape[-1]])
        found = tf.gather(flat, tf.maximum(count - 1, 0) * self.batch + row)
        return tf.where(there[..., tf.newaxis], found, 0.0)


@dataclasses.dataclass(frozen=True, slots=True)
class _Direction:
    """One direction: the weights of a Keras LSTM as `BlockLSTMV2` takes them."""

    units: int
    backwards: bool
    zero_elsewhere: bool
    kernels: keras.Variable
    bias: keras.Variable

    def __call__(self, steps: _Steps, return_sequences: bool) -> tf.Tensor:
        given = steps.backward if self.backwards else steps.forward
        read = given, steps, tf.convert_to_tensor(self.kernels), tf.convert_to_tensor(self.bias)
        heavy = -(-_HEAVY // (self.kernels.shape[0] * self.units))
        if heavy > _ANY_BATCH:
            states = self._block(*read)
        elif heavy <= 1:
            states = self._loop(*read)
        else:
            states = tf.cond(steps.batch < heavy, lambda: self._block(*read), lambda: self._loop(*read))
        if return_sequences:
            return steps.at_each(states, self.backwards, self.zero_elsewhere)
        return steps.last(states)

    def _block(self, given: tf.Tensor, steps: _Steps, kernels: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
        start, no_peephole = tf.zeros([steps.batch, self.units]), tf.zeros([self.units])
        return tf.raw_ops.BlockLSTMV2(
            seq_len_max=tf.cast(steps.longest, tf.int64),
            x=given,
            cs_prev=start,
            h_prev=start,
            w=kernels,
            wci=no_peephole,
            wcf=no_peephole,
            wco=no_peephole,
            b=bias,
            cell_clip=_CLIPS_NOTHING,
        ).h

    def _loop(self, given: tf.Tensor, steps: _Steps, kernels: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
        """The same as a lean loop, with the input products of all steps in one operation."""
        of_inputs, of_states = tf.split(kernels, [given.shape[-1], self.units])
        inputs = tf.tensordot(given, of_inputs, 1) + bias

        def step(number: tf.Tensor, state: tf.Tensor, memory: tf.Tensor, states: tf.TensorArray) -> Any:
            taken, kept, new, shown = tf.split(inputs[number] + state @ of_states, 4, axis=1)
            memory = tf.sigmoid(kept) * memory + tf.sigmoid(taken) * tf.tanh(new)
            state = tf.sigmoid(shown) * tf.tanh(memory)
            return number + 1, state, memory, states.write(number, state)

        start = tf.zeros([steps.batch, self.units])
        states = tf.TensorArray(tf.float32, steps.most, element_shape=[None, self.units])
        end = tf.maximum(steps.longest, 1)  # a TensorArray with no entry at all can't be stacked
        *_, states = tf.while_loop(
            lambda number, *_: number < end, step, (0, start, start, states), parallel_iterations=1
        )
        return tf.ensure_shape(states.stack(), [given.shape[0], given.shape[1], self.units])
