"""One request to one method, with the retries that gRPC can't decide on its own."""

from __future__ import annotations

import dataclasses
import math
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

import grpc

from duoserve._calls.effects import Call, Offload, Sleep, Steps
from duoserve._calls.failures import classify
from duoserve._checks import expect_kind
from duoserve._transport.fork import Lock
from duoserve.errors import DeadlineExceeded, DuoserveError, InvalidInput, PermissionDenied
from duoserve.observe import CallRecord
from duoserve.options import Hedge, Retry

__all__ = ["Budget", "Context", "Metadata", "Pairs", "Rpc", "check_metadata"]

Metadata = tuple[tuple[str, str], ...]
Pairs = Sequence[tuple[str, str]]
# A call that was turned away waits a share of its remaining time, so it tries more often towards its deadline.
_SHARE: Final = 1 / 16
_KEY = re.compile(r"[0-9a-z_.-]+(?<!-bin)")
_VALUE = re.compile(r"[ -~]*")  # printable ASCII


def check_metadata(pairs: Pairs) -> Metadata:
    """The pairs in gRPC's form. Error messages show no value: it may be a secret.

    Raises:
        InvalidInput: Not pairs of str, a key that is not in lower case, a value that is not ASCII.
    """
    expect_kind("metadata", pairs, Iterable, "pairs of str")
    found = tuple(pairs)
    for pair in found:
        if not isinstance(pair, tuple) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise InvalidInput(f"Expected metadata as pairs of str. Received: {type(pair).__name__}")
        if not _KEY.fullmatch(pair[0]) or not _VALUE.fullmatch(pair[1]):
            raise InvalidInput(
                f"Expected metadata with a key in lower case and a value in ASCII. Received: one with key {pair[0]!r}"
            )
    return found


@dataclasses.dataclass(slots=True)
class Context:
    """The state of one call of a client's method.

    Attributes:
        deadline: When the call must have ended, on time.monotonic's clock.
        timeout: Its total time in seconds.
        record: Filled in during the call.
        metadata: Sent with the call.
        patient: Whether it keeps asking a server that has no free thread, until the deadline.
    """

    deadline: float
    timeout: float
    record: CallRecord
    metadata: Metadata = ()
    patient: bool = True

    def remaining(self) -> float:
        """Seconds until the deadline.

        Raises:
            DeadlineExceeded: No time is left. A request whose deadline has passed is never
                sent: the server would run it without a deadline.
        """
        left = self.deadline - time.monotonic()
        if left > 0:
            return left
        raise DeadlineExceeded(
            f"Expected an answer within {self.timeout:g} s. Received: none in time",
            server=self.record.server,
            model=self.record.model,
            version=self.record.target,
        )


class Budget:
    """gRPC's retry throttling, for our own retries. Thread-safe."""

    def __init__(self, tokens: int) -> None:
        self._most = float(tokens)
        self._tokens = float(tokens)
        self._lock = Lock()

    def success(self) -> None:
        """A call succeeded: returns a tenth of a token."""
        if self._tokens < self._most:
            with self._lock:
                self._tokens = min(self._most, self._tokens + 0.1)

    def failure(self) -> bool:
        """A call failed, or is slow: whether it may be sent again."""
        with self._lock:
            self._tokens = max(0.0, self._tokens - 1)
            return self._tokens > self._most / 2


class Rpc:
    """Sends requests under the client's retry, hedging and credential options."""

    def __init__(
        self,
        *,
        retry: Retry,
        hedge: Hedge | None,
        metadata: Metadata,
        token: Callable[[], str | Awaitable[str]] | None,
        retry_unavailable: bool,
    ) -> None:
        self._retry = retry
        self._hedge_after = hedge.after if hedge else None
        self._metadata = metadata
        self._token = token
        self._retry_unavailable = retry_unavailable  # False: the channel's service config does it
        self._budget = Budget(retry.budget)

    def send(self, context: Context, method: str, request: bytes, target: int | str | None) -> Steps[bytes]:
        """The reply's bytes. Raises the DuoserveError for the reply's status."""
        record = context.record
        failures = refusals = 0
        while True:
            metadata = self._metadata + context.metadata if context.metadata else self._metadata
            if self._token is not None:
                metadata = (*metadata, (yield from self._bearer(self._token)))
            record.attempts += 1
            record.request_bytes += len(request)
            call = Call(method, request, context.remaining(), metadata or None)
            if self._hedge_after is not None:
                call.hedge_after, call.on_hedge = self._hedge_after, lambda: self._may_hedge(record)
            try:
                reply: bytes = yield call
            except grpc.RpcError as error:
                code, details = error.code(), error.details() or ""
                failure = classify(code, details, server=record.server, model=record.model, version=target)
                left = context.deadline - time.monotonic()
                if failure.turned_away and context.patient and self._retry.attempts > 1:
                    refusals += 1
                    wait = self._backoff(refusals, left * _SHARE)
                else:
                    failures += 1
                    ours = failure.transient and (self._retry_unavailable or code is not grpc.StatusCode.UNAVAILABLE)
                    if not (ours and self._budget.failure() and failures < self._retry.attempts):
                        raise failure.error from error
                    wait = self._backoff(failures)
                if wait >= left:
                    raise failure.error from error
            else:
                self._budget.success()
                return reply
            yield Sleep(wait)

    def _bearer(self, source: Callable[[], str | Awaitable[str]]) -> Steps[tuple[str, str]]:
        try:
            token: object = yield Offload(source)
        except DuoserveError:
            raise
        except Exception as error:
            raise PermissionDenied(f"Expected token() to return a token. Received: {type(error).__name__}") from error
        if not isinstance(token, str) or not token:
            raise InvalidInput(f"Expected token() to return a non-empty str. Received: {type(token).__name__}")
        return check_metadata([("authorization", f"Bearer {token}")])[0]

    def _backoff(self, times: int, most: float = math.inf) -> float:
        """Seconds to wait after this many failures; at most `most`, unless that is below the first wait."""
        least = self._retry.initial_backoff
        most = min(self._retry.max_backoff, least * 2 ** min(times - 1, 30), max(most, least))
        return random.uniform(most / 2, most)  # noqa: S311 -- jitter, not a secret

    def _may_hedge(self, record: CallRecord) -> bool:
        if not self._budget.failure():
            return False
        record.hedges += 1
        record.attempts += 1
        return True
