"""The parameters of a batch queue, read from a parameters file and checked."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

from serving.local.configs_pb2 import BatchingParameters
from serving.local.errors import invalid_argument


@dataclasses.dataclass(frozen=True, slots=True)
class Batching:
    """The parameters of a batch queue, named as in the file, with the scheduler's own defaults."""

    num_batch_threads: int
    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    thread_pool_name: str = "batch_threads"
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int = 0

    @classmethod
    def from_proto(cls, proto: BatchingParameters, cores: int) -> Batching:
        """From a parameters file.

        Raises:
            ServingError: INVALID_ARGUMENT for sizes that do not fit together.
        """
        values: dict[str, Any] = {"num_batch_threads": cores}
        for field, value in proto.ListFields():
            values[field.name] = value.value if field.message_type else value
        values["allowed_batch_sizes"] = tuple(proto.allowed_batch_sizes)
        made = cls(**values)
        if not made.enable_large_batch_splitting or not made.max_execution_batch_size:
            made = dataclasses.replace(made, max_execution_batch_size=made.max_batch_size)
        made._check()
        return made

    def _check(self) -> None:
        for name in ("max_batch_size", "max_enqueued_batches", "num_batch_threads", "max_execution_batch_size"):
            if getattr(self, name) < 1:
                raise invalid_argument(f"Expected {name} of 1 or more. Received: {getattr(self, name)}")
        if self.batch_timeout_micros < 0:
            raise invalid_argument(f"Expected batch_timeout_micros of 0 or more. Received: {self.batch_timeout_micros}")
        sizes = self.allowed_batch_sizes
        if any(left >= right for left, right in itertools.pairwise(sizes)):
            raise invalid_argument(f"allowed_batch_sizes entries must be monotonically increasing: {list(sizes)}")
        if sizes and sizes[-1] != self.max_execution_batch_size:
            name = "max_execution_batch_size" if self.enable_large_batch_splitting else "max_batch_size"
            raise invalid_argument(
                f"Last entry in allowed_batch_sizes must match {name}; last entry was {sizes[-1]}; "
                f"expected {self.max_execution_batch_size}"
            )

    def rounded(self, rows: int) -> int:
        """The smallest allowed size that holds `rows`."""
        return next((size for size in self.allowed_batch_sizes if size >= rows), rows)
