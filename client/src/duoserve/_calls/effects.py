"""The effects that the calls, as generators, ask a driver to perform: by blocking, or by awaiting.

A generator yields an effect and is sent its result, or has its error thrown in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeAlias, TypeVar

from duoserve._checks import Metadata

T = TypeVar("T")


@dataclasses.dataclass(slots=True)
class Call:
    """Send `request` to `method`. Returns the reply's bytes; raises grpc.RpcError."""

    method: str
    request: bytes
    timeout: float  # seconds left until the total deadline
    metadata: Metadata | None = None
    hedge_after: float | None = None  # seconds after which the same call is sent once more, None for never
    on_hedge: Callable[[], bool] = bool  # called before the second one is sent; False forbids it


@dataclasses.dataclass(slots=True)
class Sleep:
    """Wait this many seconds."""

    seconds: float


@dataclasses.dataclass(slots=True)
class Offload:
    """Run a slow function (decoding an image) outside the event loop."""

    function: Callable[[], Any]


@dataclasses.dataclass(slots=True)
class Gather:
    """Run the steps, at most `limit` at a time. Returns the results in order; steps must not raise."""

    steps: Sequence[Generator[Effect, Any, Any]]
    limit: int


@dataclasses.dataclass(slots=True)
class SingleFlight:
    """Run the steps while nobody else runs steps with the same key, or after `timeout` seconds in any case."""

    key: Any
    steps: Generator[Effect, Any, Any]
    timeout: float


@dataclasses.dataclass(slots=True)
class Background:
    """Run the steps later, in the background. Returns False when too many are waiting already."""

    steps: Generator[Effect, Any, Any]
    limit: int


Effect: TypeAlias = Call | Sleep | Offload | Gather | SingleFlight | Background
Steps: TypeAlias = Generator[Effect, Any, T]
