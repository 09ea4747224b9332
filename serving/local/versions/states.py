"""The state of every version that was ever managed, and waiting for changes."""

from __future__ import annotations

import dataclasses
import enum
import threading
from collections.abc import Callable, Collection

from serving.local.errors import ServingError


class State(enum.IntEnum):
    """Life of a version, with the numbers of `ModelVersionStatus.State`."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class ServableId:
    """One version of one model."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{{name: {self.name} version: {self.version}}}"


@dataclasses.dataclass(frozen=True, slots=True)
class VersionStatus:
    """State of a version; `error` is why it ended, None when nothing went wrong."""

    state: State
    error: ServingError | None = None


class StateMonitor:
    """Newest status of each version since the monitor was made."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._statuses: dict[str, dict[int, VersionStatus]] = {}

    def publish(self, *changes: tuple[ServableId, VersionStatus]) -> None:
        """Record changes; a reader sees all of them or none."""
        with self._changed:
            for servable, status in changes:
                self._statuses.setdefault(servable.name, {})[servable.version] = status
            self._changed.notify_all()

    def status(self, servable: ServableId) -> VersionStatus | None:
        with self._changed:
            return self._statuses.get(servable.name, {}).get(servable.version)

    def versions(self, name: str) -> dict[int, VersionStatus]:
        """All versions of a model, newest first."""
        with self._changed:
            return dict(sorted(self._statuses.get(name, {}).items(), reverse=True))

    def _settled(self, name: str) -> ServableId | None:
        # As the stock server: the first version, from the newest, that is available or over.
        for version, status in sorted(self._statuses.get(name, {}).items(), reverse=True):
            if status.state in (State.AVAILABLE, State.END):
                return ServableId(name, version)
        return None

    def wait_until_settled(
        self, names: Collection[str], *, give_up: Callable[[], bool] = lambda: False
    ) -> dict[ServableId, VersionStatus] | None:
        """Wait until each model has a version that is available or over; None if `give_up` returned True first."""
        with self._changed:
            while True:
                settled = [self._settled(name) for name in names]
                if all(settled):
                    return {one: self._statuses[one.name][one.version] for one in settled if one}
                if give_up():
                    return None
                self._changed.wait(timeout=0.2)


class StateBus:
    """Passes each change to the permanent monitor and to temporary ones."""

    def __init__(self) -> None:
        self.lasting = StateMonitor()
        self._lock = threading.Lock()
        self._listeners: list[StateMonitor] = []

    def publish(self, *changes: tuple[ServableId, VersionStatus]) -> None:
        self.lasting.publish(*changes)
        with self._lock:
            listeners = list(self._listeners)
        for monitor in listeners:
            monitor.publish(*changes)

    def listen(self) -> StateMonitor:
        """A temporary monitor without earlier changes; `forget` it afterwards."""
        monitor = StateMonitor()
        with self._lock:
            self._listeners.append(monitor)
        return monitor

    def forget(self, monitor: StateMonitor) -> None:
        with self._lock:
            self._listeners.remove(monitor)
