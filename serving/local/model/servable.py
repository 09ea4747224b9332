"""A loaded version: its signatures, and running them, one call at a time or in batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias

from tensorflow.core.protobuf import config_pb2, meta_graph_pb2

# The C API under Session.run: the same call without 250 µs of fetch and feed bookkeeping.
from tensorflow.python.client import pywrap_tf_session

from serving.local import memory
from serving.local.deadline import Deadline
from serving.local.errors import Code, ServingError, invalid_argument
from serving.local.metrics import Metrics
from serving.local.model.batching import Batcher, batch_rows
from serving.local.model.batching_parameters import Batching
from serving.local.model.savedmodel import Bundle
from serving.local.tensors import Array, as_array, dtype_enum, type_name

DEFAULT_SIGNATURE: Final = "serving_default"
SignatureDef: TypeAlias = "meta_graph_pb2.SignatureDef"


class Runner(Protocol):
    """The parts of a version that calls need."""

    signatures: Mapping[str, SignatureDef]

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str], deadline: Deadline) -> list[Array]: ...


class Servable:
    """One version in memory. Safe to call from many threads.

    Attributes:
        signatures: By name, as the SavedModel has them.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._outputs: dict[str, tuple[Any, int]] = {}
        self._batcher: Batcher | None = None
        self.signatures: Mapping[str, SignatureDef] = dict(bundle.meta_graph.signature_def)

    def batch(self, batching: Batching, model: str, metrics: Metrics) -> None:
        """From now on, join concurrent calls of a signature."""
        ends = [
            ([info.name for info in signature.inputs.values()], [info.name for info in signature.outputs.values()])
            for signature in self.signatures.values()
        ]
        self._batcher = Batcher(self._run_now, ends, batching, model, metrics)

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str], deadline: Deadline) -> list[Array]:
        """Feed arrays by tensor name, fetch tensors by name.

        Raises:
            ServingError: INVALID_ARGUMENT for a wrong dtype or a tensor that the graph lacks.
            tf.errors.OpError: From the graph; DEADLINE_EXCEEDED when `deadline` passes.
        """
        if self._batcher is None or not self._batcher.takes(feeds, fetches):
            self._check_dtypes(feeds)
            return self._run_now(feeds, fetches, deadline)
        batch_rows(feeds)
        # Checked before it can spoil other callers' batch.
        self._check_dtypes(feeds)
        return self._batcher.run(feeds, fetches, deadline)

    def _run_now(self, feeds: Mapping[str, Array], fetches: Sequence[str], deadline: Deadline) -> list[Array]:
        feed = {self._output(name)[0]: array for name, array in feeds.items()}
        fetch = [self._output(name)[0] for name in fetches]
        session = self._bundle.session
        milliseconds = deadline.milliseconds()
        if not milliseconds:
            return [as_array(value) for value in session._call_tf_sessionrun(None, feed, fetch, [], None)]
        options = pywrap_tf_session.TF_NewBufferFromString(
            config_pb2.RunOptions(timeout_in_ms=milliseconds).SerializeToString()
        )
        try:
            return [as_array(value) for value in session._call_tf_sessionrun(options, feed, fetch, [], None)]
        finally:
            pywrap_tf_session.TF_DeleteBuffer(options)

    def _check_dtypes(self, feeds: Mapping[str, Array]) -> None:
        """The checks of a Session's call frame, in the same order: feeds by tensor name."""
        for position, name in enumerate(sorted(feeds)):
            expected, received = self._output(name)[1], dtype_enum(feeds[name])
            if expected != received:
                raise invalid_argument(
                    f"Expects arg[{position}] to be {type_name(expected)} but {type_name(received)} is provided"
                )

    def close(self) -> None:
        """Free the graph, its variables and its threads. No call may be in flight."""
        if self._batcher is not None:
            self._batcher.close()
        self._bundle.close()
        memory.give_back_soon()

    def _output(self, name: str) -> tuple[Any, int]:
        """The C handle and the DataType of a tensor."""
        found = self._outputs.get(name)
        if found is None:
            try:
                tensor = self._bundle.graph.get_tensor_by_name(name if ":" in name else f"{name}:0")
            except (KeyError, ValueError) as error:
                raise ServingError(
                    Code.INVALID_ARGUMENT,
                    f"Tensor {name}, specified in either feed_devices or fetch_devices was not found in the Graph",
                ) from error
            found = self._outputs[name] = (tensor._as_tf_output(), int(tensor.dtype.base_dtype.as_datatype_enum))
        return found
