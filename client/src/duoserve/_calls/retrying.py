"""One request to one method, with the retries that gRPC can't decide on its own."""

import dataclasses
import math
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final

import grpc

from duoserve._calls.effects import Call, Offload, Sleep, Steps
from duoserve._calls.failures import classify
from duoserve._calls.observing import Context
from duoserve._checks import Metadata, Target, check_metadata
from duoserve._transport.fork import Lock
from duoserve.errors import DuoserveError, InvalidInput, PermissionDenied
from duoserve.observe import CallRecord
from duoserve.options import Hedge, Retry

# A call that was turned away waits a share of its remaining time, so it tries more often towards its deadline.
_SHARE: Final = 1 / 16


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


@dataclasses.dataclass
class Rpc:
    """Sends requests under the client's retry, hedging and credential options."""

    retry: Retry
    hedge: Hedge | None
    metadata: Metadata
    token: Callable[[], str | Awaitable[str]] | None
    retry_unavailable: bool  # False: the channel's service config does it

    def __post_init__(self) -> None:
        self._budget = Budget(self.retry.budget)

    def send(self, context: Context, method: str, request: bytes, target: Target) -> Steps[bytes]:
        """The reply's bytes. Raises the DuoserveError for the reply's status."""
        record = context.record
        failures = refusals = 0
        while True:
            metadata = self.metadata + context.metadata if context.metadata else self.metadata
            if self.token is not None:
                metadata = (*metadata, (yield from self._bearer(self.token)))
            record.attempts += 1
            record.request_bytes += len(request)
            call = Call(method, request, context.remaining(), metadata or None)
            if self.hedge is not None:
                call.hedge_after, call.on_hedge = self.hedge.after, lambda: self._may_hedge(record, len(request))
            try:
                reply: bytes = yield call
            except grpc.RpcError as error:
                code, details = error.code(), error.details() or ""
                failure = classify(code, details, server=record.server, model=record.model, version=target)
                left = context.deadline - time.monotonic()
                if failure.turned_away and context.patient and self.retry.attempts > 1:
                    refusals += 1
                    wait = self._backoff(refusals, left * _SHARE)
                else:
                    failures += 1
                    ours = failure.transient and (self.retry_unavailable or code is not grpc.StatusCode.UNAVAILABLE)
                    if not (ours and self._budget.failure() and failures < self.retry.attempts):
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
        least = self.retry.initial_backoff
        most = min(self.retry.max_backoff, least * 2 ** min(times - 1, 30), max(most, least))
        return random.uniform(most / 2, most)  # noqa: S311 -- jitter, not a secret

    def _may_hedge(self, record: CallRecord, size: int) -> bool:
        if not self._budget.failure():
            return False
        record.hedges += 1
        record.attempts += 1
        record.request_bytes += size
        return True
