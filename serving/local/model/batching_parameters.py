"""The parameters of a batch queue, read from a parameters file and checked."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

from serving.local.configs_pb2 import BatchingParameters
from serving.local.errors import invalid_argument


@dataclasses.dataclass(frozen=True, slots=True)
class Batching:
    """The parameters of a batch queue, with the scheduler's own defaults."""

    max_batch_size: int = 1000
    timeout_micros: int = 0
    max_enqueued_batches: int = 10
    threads: int = 1
    pool: str = "batch_threads"
    allowed_sizes: tuple[int, ...] = ()
    pad_variable_length: bool = False
    split: bool = False
    max_execution_size: int = 0

    @classmethod
    def from_proto(cls, proto: BatchingParameters, cores: int) -> Batching:
        """From a parameters file.

        Raises:
            ServingError: INVALID_ARGUMENT for sizes that do not fit together.
        """

        def value(name: str, default: Any) -> Any:
            return getattr(proto, name).value if proto.HasField(name) else default

        largest = value("max_batch_size", 1000)
        split = value("enable_large_batch_splitting", False)
        made = cls(
            max_batch_size=largest,
            timeout_micros=value("batch_timeout_micros", 0),
            max_enqueued_batches=value("max_enqueued_batches", 10),
            threads=value("num_batch_threads", cores),
            pool=value("thread_pool_name", "batch_threads"),
            allowed_sizes=tuple(proto.allowed_batch_sizes),
            pad_variable_length=proto.pad_variable_length_inputs,
            split=split,
            max_execution_size=value("max_execution_batch_size", largest) if split else largest,
        )
        made._check()
        return made

    def _check(self) -> None:
        for name in ("max_batch_size", "max_enqueued_batches", "threads", "max_execution_size"):
            if getattr(self, name) < 1:
                raise invalid_argument(f"Expected {name} of 1 or more. Received {getattr(self, name)}")
        if self.timeout_micros < 0:
            raise invalid_argument(f"Expected batch_timeout_micros of 0 or more. Received {self.timeout_micros}")
        sizes = self.allowed_sizes
        if sizes and any(left >= right for left, right in itertools.pairwise(sizes)):
            raise invalid_argument(f"allowed_batch_sizes entries must be monotonically increasing: {list(sizes)}")
        if sizes and sizes[-1] != self.max_execution_size:
            name = "max_execution_batch_size" if self.split else "max_batch_size"
            raise invalid_argument(
                f"Last entry in allowed_batch_sizes must match {name}; last entry was {sizes[-1]}; "
                f"expected {self.max_execution_size}"
            )

    def rounded(self, rows: int) -> int:
        """The smallest allowed size that holds `rows`."""
        return next((size for size in self.allowed_sizes if size >= rows), rows)
