"""One call of a client's method, and the observers that are notified of its start and end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from duoserve import observe
from duoserve._checks import Metadata, check_metadata
from duoserve.errors import DeadlineExceeded
from duoserve.observe import CallRecord, Observer


class Observers:
    """The observers of one client. An exception in an observer fails no call: it is logged, once."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self.all = tuple(observers)
        self._failed: set[int] = set()  # by id: an observer need not be hashable, and lives as long as this

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


class Context:
    """The state of one call. As a context manager it closes the record, and notifies the observers of the end."""

    __slots__ = ("_observers", "_started", "_states", "deadline", "metadata", "patient", "record")

    def __init__(self, observers: Observers, record: CallRecord, timeout: float, metadata: Metadata) -> None:
        self._observers = observers
        self._started = time.monotonic()
        self._states: list[tuple[Observer, Any]] = []
        self.deadline = self._started + timeout  # on time.monotonic's clock
        self.record = record
        self.metadata = metadata  # the caller's, and that of the observers
        self.patient = True  # whether it keeps asking a server that has no free thread, until the deadline
        for observer in observers.all:
            try:
                state, pairs = observer.started(record)
                self._states.append((observer, state))
                self.metadata += check_metadata(pairs)
            except Exception as error:
                observers.failed(observer, "started", error)

    def __enter__(self) -> Context:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.record.seconds = time.monotonic() - self._started
        if kind is not None:
            self.record.outcome = kind.__name__
        for observer, state in self._states:
            try:
                observer.finished(state, self.record)
            except Exception as failure:
                self._observers.failed(observer, "finished", failure)
        observe.log(self.record)

    def remaining(self) -> float:
        """Seconds until the deadline. After it, no request is sent: the server would run it without a deadline."""
        left = self.deadline - time.monotonic()
        if left > 0:
            return left
        record, text = self.record, f"Expected an answer within {self.deadline - self._started:g} s"
        raise DeadlineExceeded(
            f"{text}. Received: none in time", server=record.server, model=record.model, version=record.target
        )
