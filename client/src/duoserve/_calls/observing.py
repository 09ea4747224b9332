"""Notifies a client's observers of its calls. An exception in an observer fails no call: it is logged, once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from duoserve import observe
from duoserve._calls.retrying import Metadata, check_metadata
from duoserve.observe import CallRecord, Observer

__all__ = ["ObservedCall", "Observers"]


class Observers:
    """The observers of one client."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)
        self._failed: set[int] = set()  # by id: an observer need not be hashable, and lives as long as this

    def start(self, record: CallRecord) -> ObservedCall:
        """Reports that a call begins; the returned object reports its end."""
        observed = ObservedCall(self, record)
        for observer in self._observers:
            try:
                state, pairs = observer.started(record)
                observed.states.append((observer, state))
                observed.metadata += check_metadata(pairs)
            except Exception as error:
                self.failed(observer, "started", error)
        return observed

    def failed(self, observer: Observer, method: str, error: Exception) -> None:
        """Logs the first failure of an observer."""
        if id(observer) in self._failed:
            return
        self._failed.add(id(observer))
        observe.logger.warning(
            "Expected the observer %s to accept calls. Received: %s from %s (logged once; calls continue without it)",
            type(observer).__name__,
            type(error).__name__,
            method,
            exc_info=error,
        )


class ObservedCall:
    """Closes a call's record when its block ends, and notifies the observers that were told of its start.

    Attributes:
        states: These observers, with the state that each returned.
        metadata: Their metadata, sent with the call.
    """

    __slots__ = ("_observers", "_record", "_started", "metadata", "states")

    def __init__(self, observed: Observers, record: CallRecord) -> None:
        self._observers = observed
        self._record = record
        self._started = time.monotonic()
        self.states: list[tuple[Observer, Any]] = []
        self.metadata: Metadata = ()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        record = self._record
        record.seconds = time.monotonic() - self._started
        if kind is not None:
            record.outcome = kind.__name__
        for observer, state in self.states:
            try:
                observer.finished(state, record)
            except Exception as failure:
                self._observers.failed(observer, "finished", failure)
        observe.log(record)
