"""Joins concurrent calls of a signature into batches, as the stock server's BatchingSession does.

The scheduler is TensorFlow's own, the one in the stock server: a BatchFunction op with a
queue for each signature. It carries not the tensors but *slips*, rows of (call, row):
so the composition of a batch, its padding and its errors follow the rules of
BatchingSession and not those of BatchFunction, and no tensor is copied twice.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.client import pywrap_tf_session

from serving.local.deadline import Deadline
from serving.local.errors import Code, ServingError, failed_precondition, from_exception, invalid_argument
from serving.local.metrics import Metrics
from serving.local.model.batching_parameters import Batching
from serving.local.tensors import Array

Run = Callable[[Mapping[str, Array], Sequence[str], Deadline], list[Array]]
Key = tuple[frozenset[str], frozenset[str]]


@dataclasses.dataclass(eq=False, slots=True)
class _Call:
    """One caller's request while it waits."""

    number: int
    feeds: Mapping[str, Array]
    rows: int
    deadline: Deadline
    enqueued: float = dataclasses.field(default_factory=time.monotonic)
    pieces: list[tuple[int, list[Array]]] = dataclasses.field(default_factory=list)
    failure: tuple[Code, str] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class _Part:
    """Rows of a call that are in one batch: all of them, unless large calls are split."""

    call: _Call
    start: int
    stop: int

    def rows_of(self, name: str) -> Array:
        array = self.call.feeds[name]
        return array if self.stop - self.start == len(array) else array[self.start : self.stop]


class Batcher:
    """The batch queues of one version. `run` is what runs a batch.

    Args:
        run: Runs feeds and fetches at once, by tensor names.
        signatures: (tensor names fed, tensor names fetched) of each signature.
        batching: The parameters.
        model: The name that metrics carry.
        metrics: Where batches are counted.
    """

    def __init__(
        self,
        run: Run,
        signatures: Iterable[tuple[Sequence[str], Sequence[str]]],
        batching: Batching,
        model: str,
        metrics: Metrics,
    ) -> None:
        self._run = run
        self._batching = batching
        self._model = model
        self._metrics = metrics
        self._numbers = itertools.count()
        self._calls: dict[int, _Call] = {}
        self._queues: dict[Key, tuple[Any, Any, tuple[str, ...]]] = {}
        graph = tf.Graph()
        with graph.as_default():
            for feeds, fetches in signatures:
                key = frozenset(feeds), frozenset(fetches)
                if key not in self._queues:
                    self._queues[key] = self._queue(len(self._queues), tuple(sorted(fetches)))
        graph.finalize()
        self._session = tf.compat.v1.Session(graph=graph)
        # Run everything in the current thread, the caller's or the scheduler's. In
        # TensorFlow's shared pool a batch would block a thread that its own model needs, and
        # as many batches as there are threads would wait for each other.
        self._options = pywrap_tf_session.TF_NewBufferFromString(
            config_pb2.RunOptions(inter_op_thread_pool=-1).SerializeToString()
        )

    def _queue(self, number: int, fetches: tuple[str, ...]) -> tuple[Any, Any, tuple[str, ...]]:
        """Add a BatchFunction to the graph; the ends to feed and fetch, and the order of its outputs."""
        batching = self._batching
        slips = tf.compat.v1.placeholder(tf.int64, [None, 2])

        def process(batch: Array) -> Array:
            self._process(batch, fetches)
            return batch

        function = tf.function(
            lambda rows: tf.numpy_function(process, [rows], tf.int64), autograph=False
        ).get_concrete_function(tf.TensorSpec([None, 2], tf.int64))
        output = tf.raw_ops.BatchFunction(
            in_tensors=[slips],
            captured_tensors=[],
            f=function,
            num_batch_threads=batching.threads,
            max_batch_size=batching.max_batch_size,
            batch_timeout_micros=batching.timeout_micros,
            max_enqueued_batches=batching.max_enqueued_batches,
            allowed_batch_sizes=[batching.max_execution_size] if batching.split else [],
            enable_large_batch_splitting=batching.split,
            # One scheduler, and so one set of threads, for all queues of the session.
            shared_name="scheduler",
            batching_queue=str(number),
            Tout=[tf.int64],
        )[0]
        return slips._as_tf_output(), output._as_tf_output(), fetches

    def takes(self, feeds: Iterable[str], fetches: Iterable[str]) -> bool:
        """Whether exactly these tensors make up a signature; other calls bypass the queues."""
        return (frozenset(feeds), frozenset(fetches)) in self._queues

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str], deadline: Deadline) -> list[Array]:
        """Wait for a batch and for its run.

        Raises:
            ServingError: INVALID_ARGUMENT for rows that can't be batched, UNAVAILABLE when the
                queue is full, or whatever the run of the whole batch raised.
        """
        rows = batch_rows(feeds)
        entry, exit_, order = self._queues[frozenset(feeds), frozenset(fetches)]
        call = _Call(next(self._numbers), feeds, rows, deadline)
        slips = np.empty((rows, 2), np.int64)
        slips[:, 0], slips[:, 1] = call.number, np.arange(rows)
        self._calls[call.number] = call
        try:
            self._session._call_tf_sessionrun(self._options, {entry: slips}, [exit_], [], None)
        except tf.errors.OpError as error:
            # From the scheduler itself: drop the name of our node.
            failure = from_exception(error)
            raise ServingError(failure.code, failure.message.partition("\n")[0]) from error
        finally:
            del self._calls[call.number]
        if call.failure is not None:
            # A new error for this caller. A stored one would hold, by its traceback,
            # the call and its tensors until the next garbage collection.
            raise ServingError(*call.failure)
        arrays = dict(zip(order, _joined(call), strict=True))
        return [arrays[name] for name in fetches]

    def _process(self, slips: Array, fetches: tuple[str, ...]) -> None:
        """Run one batch in a thread of the scheduler. Results and errors go to the calls; nothing is raised."""
        parts = self._parts(slips)
        try:
            outputs = self._run_batch(parts, fetches)
        except Exception as error:
            failure = from_exception(error)
            for part in parts:
                part.call.failure = failure.code, failure.message
            return
        at = 0
        for part in parts:
            stop = at + part.stop - part.start
            part.call.pieces.append((part.start, [array[at:stop] for array in outputs]))
            at = stop

    def _parts(self, slips: Array) -> list[_Part]:
        """The calls in a batch, in order. Repeated rows are padding by BatchFunction, which we do ourselves."""
        breaks = np.flatnonzero((np.diff(slips[:, 0]) != 0) | (np.diff(slips[:, 1]) != 1)) + 1
        starts, stops = [0, *breaks.tolist()], [*breaks.tolist(), len(slips)]
        parts, seen = [], set()
        for begin, end in zip(starts, stops, strict=True):
            number, first = slips[begin].tolist()
            call = self._calls.get(number)
            if (number, first) not in seen and call is not None:
                seen.add((number, first))
                parts.append(_Part(call, first, first + end - begin))
        return parts

    def _run_batch(self, parts: Sequence[_Part], fetches: tuple[str, ...]) -> list[Array]:
        now = time.monotonic()
        for part in parts:
            self._metrics.queuing_latency.observe(self._batching.pool, value=(now - part.call.enqueued) * 1e6)
        ends = [part.call.deadline.at for part in parts]
        if all(end is not None and end <= now for end in ends):
            raise ServingError(Code.RESOURCE_EXHAUSTED, "Run() timeout exceeded while waiting in batching queue")
        latest = None if None in ends else max(end for end in ends if end is not None)
        rows = sum(part.stop - part.start for part in parts)
        padding = self._batching.rounded(rows) - rows
        feeds = {name: self._merged(name, parts, padding) for name in parts[0].call.feeds}
        self._metrics.wrapped_runs.add()
        self._metrics.batch_sizes.add(self._model, str(rows + padding))
        self._metrics.padding.observe(self._model, str(rows + padding), value=padding)
        outputs = self._run(feeds, fetches, Deadline(latest))
        for array in outputs:
            if array.ndim == 0:
                raise failed_precondition("Batched output tensor has 0 dimensions")
            if len(array) != rows + padding:
                raise failed_precondition(
                    "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the "
                    "input tensors"
                )
        return outputs

    def _merged(self, name: str, parts: Sequence[_Part], padding: int) -> Array:
        arrays = [part.rows_of(name) for part in parts]
        if any(array.shape[1:] != arrays[0].shape[1:] for array in arrays):
            if not self._batching.pad_variable_length:
                raise failed_precondition(
                    f"Tensors with name '{name}' from different tasks have different shapes and padding is turned "
                    "off. Set pad_variable_length_inputs to true, or ensure that all tensors with the same name have "
                    "equal dimensions starting with the first dim."
                )
            arrays = _padded(arrays)
        if padding:
            # Pad with the last call's first row: it is valid input for any model.
            arrays.extend([arrays[-1][:1]] * padding)
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)

    def close(self) -> None:
        """End the scheduler's threads."""
        self._session.close()
        pywrap_tf_session.TF_DeleteBuffer(self._options)


def batch_rows(feeds: Mapping[str, Array]) -> int:
    """The number of rows that all inputs share.

    Raises:
        ServingError: INVALID_ARGUMENT when there are none, or not the same everywhere.
    """
    if not feeds:
        raise invalid_argument("Batching Run() must have at least one input tensor")
    for array in feeds.values():
        if array.ndim == 0:
            raise invalid_argument("Batching Run() input tensors must have at least one dimension")
    rows = {len(array) for array in feeds.values()}
    if len(rows) > 1:
        raise invalid_argument("Batching Run() input tensors must have equal 0th-dimension size")
    if rows == {0}:
        # The stock server takes it, never answers, and spoils the next call's batch.
        raise invalid_argument("Expected a batch of 1 row or more, as requests are batched. Received 0 rows")
    return rows.pop()


def _padded(arrays: list[Array]) -> list[Array]:
    """All arrays padded to the largest sizes (except the first dimension), with each array's first element."""
    ranks = {array.ndim for array in arrays}
    if len(ranks) > 1:
        raise invalid_argument(f"Expected inputs of one rank in a batch, to pad them. Received ranks {sorted(ranks)}")
    largest = np.max([array.shape[1:] for array in arrays], axis=0).tolist()
    grown = []
    for array in arrays:
        if not array.size:
            raise invalid_argument("Got empty tensor in batch of non-empty tensors.")
        full = np.full((len(array), *largest), array.flat[0], dtype=array.dtype)
        full[tuple(slice(size) for size in array.shape)] = array
        grown.append(full)
    return grown


def _joined(call: _Call) -> list[Array]:
    """The outputs of a call, from its pieces."""
    pieces = [arrays for _, arrays in sorted(call.pieces, key=lambda piece: piece[0])]
    if len(pieces) == 1:
        return pieces[0]
    return [np.concatenate(column) for column in zip(*pieces, strict=True)]
