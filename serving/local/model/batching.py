"""Joins concurrent calls of a signature into batches, as the stock server's BatchingSession does.

The scheduler is TensorFlow's own, the one in the stock server: a BatchFunction op with a
queue for each signature. It carries not the tensors but *slips*, rows of (call, row):
so the composition of a batch, its padding and its errors follow the rules of
BatchingSession and not those of BatchFunction, and no tensor is copied twice.
"""

import dataclasses
import itertools
import operator
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.client import pywrap_tf_session

from serving.local.errors import Code, ServingError, failed_precondition, from_exception, invalid_argument
from serving.local.metrics import Metrics
from serving.local.model.batching_parameters import Batching
from serving.local.tensors import Array

# Tensors to feed and fetch by name, and the caller's deadline in monotonic time.
Run = Callable[[Mapping[str, Array], Sequence[str], "float | None"], list[Array]]
Key = tuple[frozenset[str], frozenset[str]]


@dataclasses.dataclass(eq=False, slots=True)
class _Call:
    """One caller's request while it waits."""

    feeds: Mapping[str, Array]
    deadline: float | None
    enqueued: float = dataclasses.field(default_factory=time.monotonic)
    pieces: list[tuple[int, list[Array]]] = dataclasses.field(default_factory=list)
    failure: tuple[Code, str] | None = None


class _Part(NamedTuple):
    """Rows of a call that are in one batch: all of them, unless large calls are split."""

    call: _Call
    start: int
    stop: int


class Batcher:
    """The batch queues of one version: one for the tensor names fed and fetched by each of the `signatures`.

    `run` runs a batch at once; `model` is the name that the metrics carry.
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
        """Adds a BatchFunction to the graph; returns the ends to feed and fetch, and the order of its outputs."""
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
            num_batch_threads=batching.num_batch_threads,
            max_batch_size=batching.max_batch_size,
            batch_timeout_micros=batching.batch_timeout_micros,
            max_enqueued_batches=batching.max_enqueued_batches,
            allowed_batch_sizes=[batching.max_execution_batch_size] if batching.enable_large_batch_splitting else [],
            enable_large_batch_splitting=batching.enable_large_batch_splitting,
            # One scheduler, and so one set of threads, for all queues of the session.
            shared_name="scheduler",
            batching_queue=str(number),
            Tout=[tf.int64],
        )[0]
        return slips._as_tf_output(), output._as_tf_output(), fetches

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str], deadline: float | None) -> list[Array]:
        """Waits for a batch and for its run. What is not exactly a signature bypasses the queues.

        Raises:
            ServingError: INVALID_ARGUMENT for rows that can't be batched, UNAVAILABLE when the
                queue is full, or whatever the run of the whole batch raised.
        """
        queue = self._queues.get((frozenset(feeds), frozenset(fetches)))
        if queue is None:
            return self._run(feeds, fetches, deadline)
        entry, exit_, order = queue
        call, number = _Call(feeds, deadline), next(self._numbers)
        slips = np.array([(number, row) for row in range(_rows(feeds))], np.int64)
        self._calls[number] = call
        try:
            self._session._call_tf_sessionrun(self._options, {entry: slips}, [exit_], [], None)
        except tf.errors.OpError as error:
            # From the scheduler itself: drop the name of our node.
            failure = from_exception(error)
            raise ServingError(failure.code, failure.message.partition("\n")[0]) from error
        finally:
            del self._calls[number]
        if call.failure is not None:
            # A new error for this caller. A stored one would hold, by its traceback,
            # the call and its tensors until the next garbage collection.
            raise ServingError(*call.failure)
        pieces = [arrays for _, arrays in sorted(call.pieces, key=operator.itemgetter(0))]
        outputs = pieces[0] if len(pieces) == 1 else map(np.concatenate, zip(*pieces, strict=True))
        arrays = dict(zip(order, outputs, strict=True))
        return [arrays[name] for name in fetches]

    def _process(self, slips: Array, fetches: tuple[str, ...]) -> None:
        """Runs one batch in a thread of the scheduler. Results and errors go to the calls; nothing is raised."""
        parts = []
        rows = dict.fromkeys(map(tuple, slips.tolist()))  # BatchFunction pads with repeated rows; we do it ourselves
        for number, of_call in itertools.groupby(rows, key=operator.itemgetter(0)):
            indices = [index for _, index in of_call]
            parts.append(_Part(self._calls[number], indices[0], indices[-1] + 1))
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

    def _run_batch(self, parts: Sequence[_Part], fetches: tuple[str, ...]) -> list[Array]:
        now = time.monotonic()
        for part in parts:
            waited = (now - part.call.enqueued) * 1e6
            self._metrics.queuing_latency.observe(self._batching.thread_pool_name, value=waited)
        ends = [part.call.deadline for part in parts]
        latest = None if None in ends else max(end for end in ends if end is not None)
        if latest is not None and latest <= now:
            raise ServingError(Code.RESOURCE_EXHAUSTED, "Run() timeout exceeded while waiting in batching queue")
        rows = sum(part.stop - part.start for part in parts)
        padding = self._batching.rounded(rows) - rows
        feeds = {name: self._merged(name, parts, padding) for name in parts[0].call.feeds}
        self._metrics.wrapped_runs.add()
        self._metrics.batch_sizes.add(self._model, str(rows + padding))
        self._metrics.padding.observe(self._model, str(rows + padding), value=padding)
        outputs = self._run(feeds, fetches, latest)
        if any(array.shape[:1] != (rows + padding,) for array in outputs):
            raise failed_precondition(
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input "
                "tensors"
            )
        return outputs

    def _merged(self, name: str, parts: Sequence[_Part], padding: int) -> Array:
        arrays = [call.feeds[name][start:stop] for call, start, stop in parts]
        if len({array.shape[1:] for array in arrays}) > 1:
            if not self._batching.pad_variable_length_inputs:
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
        """Ends the scheduler's threads."""
        self._session.close()
        pywrap_tf_session.TF_DeleteBuffer(self._options)


def _rows(feeds: Mapping[str, Array]) -> int:
    """The number of rows that all inputs share."""
    if not feeds:
        raise invalid_argument("Batching Run() must have at least one input tensor")
    if any(array.ndim == 0 for array in feeds.values()):
        raise invalid_argument("Batching Run() input tensors must have at least one dimension")
    rows, *others = {len(array) for array in feeds.values()}
    if others:
        raise invalid_argument("Batching Run() input tensors must have equal 0th-dimension size")
    if not rows:
        # The stock server takes it, never answers, and spoils the next call's batch.
        raise invalid_argument("Expected a batch of 1 row or more, as requests are batched. Received: 0 rows")
    return rows


def _padded(arrays: list[Array]) -> list[Array]:
    """All arrays padded to the largest sizes (except the first dimension), with each array's first element."""
    if len({array.ndim for array in arrays}) > 1:
        raise invalid_argument("Expected inputs of one rank in a batch, to pad them. Received: several")
    if not all(array.size for array in arrays):
        raise invalid_argument("Got empty tensor in batch of non-empty tensors.")
    largest = [max(sizes) for sizes in zip(*(array.shape[1:] for array in arrays), strict=True)]
    padded = [np.empty((len(each), *largest), each.dtype) for each in arrays]
    for each, array in zip(padded, arrays, strict=True):
        each[...] = array.flat[0]  # np.pad and np.full would drop trailing NULs of bytes.
        each[tuple(map(slice, array.shape))] = array
    return padded
