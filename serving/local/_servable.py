"""A loaded version: its signatures, and running one of them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from tensorflow.core.protobuf import config_pb2, meta_graph_pb2

# The C API under Session.run: the same call without 250 µs of fetch and feed bookkeeping.
from tensorflow.python.client import pywrap_tf_session

from serving.local._errors import Code, ServingError, invalid_argument
from serving.local._savedmodel import Bundle
from serving.local._tensors import Array, as_array, dtype_enum, type_name

DEFAULT_SIGNATURE: Final = "serving_default"
SignatureDef: TypeAlias = "meta_graph_pb2.SignatureDef"


@dataclasses.dataclass(frozen=True, slots=True)
class Deadline:
    """A point in monotonic time after which nobody waits for the answer; None for never."""

    at: float | None = None

    @classmethod
    def after(cls, seconds: float | None) -> Deadline:
        return cls(None if seconds is None else time.monotonic() + seconds)

    def milliseconds(self) -> int:
        """Milliseconds left, for `RunOptions.timeout_in_ms`, where 0 is no limit.

        A deadline that has passed counts as none, as in the stock server.
        """
        return 0 if self.at is None else max(0, int((self.at - time.monotonic()) * 1000))


class Servable:
    """One version in memory. Safe to call from many threads.

    Attributes:
        signatures: By name, as the SavedModel has them.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._outputs: dict[str, Any] = {}
        self.meta_graph = bundle.meta_graph
        self.signatures: Mapping[str, SignatureDef] = dict(bundle.meta_graph.signature_def)

    def run_signature(
        self, name: str, feeds: Mapping[str, Array], fetches: Sequence[str], deadline: Deadline
    ) -> list[Array]:
        """`run`, through the batch queue of the signature `name` where it has one."""
        return self.run(feeds, fetches, deadline)

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str], deadline: Deadline) -> list[Array]:
        """Feed arrays by tensor name, fetch tensors by name.

        Raises:
            ServingError: INVALID_ARGUMENT for a wrong dtype or a tensor that the graph lacks.
            tf.errors.OpError: From the graph; DEADLINE_EXCEEDED when `deadline` passes.
        """
        self.check_dtypes(feeds)
        feed = {self._output(name): array for name, array in feeds.items()}
        return self._session_run(feed, [self._output(name) for name in fetches], deadline)

    def _session_run(self, feed: dict[Any, Array], fetch: list[Any], deadline: Deadline) -> list[Array]:
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

    def check_dtypes(self, feeds: Mapping[str, Array]) -> None:
        """The check of a Session's call frame, in its order: feeds by tensor name."""
        for position, name in enumerate(sorted(feeds)):
            expected = self._tensor(name).dtype.as_datatype_enum
            received = dtype_enum(feeds[name])
            if expected != received:
                raise invalid_argument(
                    f"Expects arg[{position}] to be {type_name(expected)} but {type_name(received)} is provided"
                )

    def close(self) -> None:
        self._bundle.close()

    def _tensor(self, name: str) -> Any:
        try:
            return self._bundle.graph.get_tensor_by_name(name if ":" in name else f"{name}:0")
        except (KeyError, ValueError) as error:
            raise ServingError(
                Code.INVALID_ARGUMENT,
                f"Tensor {name}, specified in either feed_devices or fetch_devices was not found in the Graph",
            ) from error

    def _output(self, name: str) -> Any:
        output = self._outputs.get(name)
        if output is None:
            output = self._outputs[name] = self._tensor(name)._as_tf_output()
        return output
