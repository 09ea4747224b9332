"""A loaded version: its signatures, and running them, one call at a time or in batches."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from tensorflow.core.protobuf import config_pb2, meta_graph_pb2

# The C API under Session.run: the same call without 250 µs of fetch and feed bookkeeping.
from tensorflow.python.client import pywrap_tf_session

from serving.local import memory
from serving.local.errors import invalid_argument
from serving.local.metrics import Metrics
from serving.local.model.batching import Batcher
from serving.local.model.batching_parameters import Batching
from serving.local.model.savedmodel import Signatures
from serving.local.tensors import Array, as_array, dtype_enum, type_name

DEFAULT_SIGNATURE: Final = "serving_default"
SignatureDef: TypeAlias = "meta_graph_pb2.SignatureDef"


class Servable:
    """One version in memory. Safe to call from many threads.

    Attributes:
        signatures: By name, as the SavedModel has them.
    """

    def __init__(self, session: Any, signatures: Signatures) -> None:
        self.signatures = signatures
        self._session = session
        self._tensors: dict[str, tuple[Any, int]] = {}
        self._batcher: Batcher | None = None

    def batch(self, batching: Batching, model: str, metrics: Metrics) -> None:
        """From now on, join concurrent calls of a signature."""
        ends = [
            ([info.name for info in signature.inputs.values()], [info.name for info in signature.outputs.values()])
            for signature in self.signatures.values()
        ]
        self._batcher = Batcher(self._run_now, ends, batching, model, metrics)

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str], deadline: float | None) -> list[Array]:
        """Feeds arrays by tensor name, fetches tensors by name, until `deadline` in monotonic time.

        Raises:
            ServingError: INVALID_ARGUMENT for a wrong dtype or a tensor that the graph lacks.
            tf.errors.OpError: From the graph; DEADLINE_EXCEEDED when `deadline` passes.
        """
        # The check of a Session's call frame, in the same order; here it also protects other callers' batch.
        for position, name in enumerate(sorted(feeds)):
            expected, received = self._tensor(name)[1], dtype_enum(feeds[name])
            if expected != received:
                raise invalid_argument(
                    f"Expects arg[{position}] to be {type_name(expected)} but {type_name(received)} is provided"
                )
        if self._batcher is None:
            return self._run_now(feeds, fetches, deadline)
        return self._batcher.run(feeds, fetches, deadline)

    def _run_now(self, feeds: Mapping[str, Array], fetches: Sequence[str], deadline: float | None) -> list[Array]:
        feed = {self._tensor(name)[0]: array for name, array in feeds.items()}
        fetch = [self._tensor(name)[0] for name in fetches]
        milliseconds = 0 if deadline is None else int((deadline - time.monotonic()) * 1000)
        options = None
        if milliseconds > 0:  # a deadline that has passed counts as none, as in the stock server
            text = config_pb2.RunOptions(timeout_in_ms=milliseconds).SerializeToString()
            options = pywrap_tf_session.TF_NewBufferFromString(text)
        try:
            return [as_array(value) for value in self._session._call_tf_sessionrun(options, feed, fetch, [], None)]
        finally:
            if options is not None:
                pywrap_tf_session.TF_DeleteBuffer(options)

    def close(self) -> None:
        """Frees the graph, its variables and its threads. No call may be in flight."""
        if self._batcher is not None:
            self._batcher.close()
        self._session.close()
        memory.give_back_soon()

    def _tensor(self, name: str) -> tuple[Any, int]:
        """The C handle and the DataType of a tensor."""
        found = self._tensors.get(name)
        if found is None:
            try:
                tensor = self._session.graph.get_tensor_by_name(name if ":" in name else f"{name}:0")
            except (KeyError, ValueError) as error:
                raise invalid_argument(f"Tensor {name} was not found in the Graph") from error
            found = self._tensors[name] = (tensor._as_tf_output(), int(tensor.dtype.base_dtype.as_datatype_enum))
        return found
