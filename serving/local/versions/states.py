"""The state of every version that was ever managed, and waiting for changes."""

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


Change = tuple[ServableId, VersionStatus]


class StateMonitor:
    """Newest status of each version. `changes` counts, and so numbers, what was published."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        # With the number of the change that set it.
        self._statuses: dict[str, dict[int, tuple[int, VersionStatus]]] = {}
        self.changes = 0

    def publish(self, *changes: Change) -> None:
        """Records changes; a reader sees all of them or none."""
        with self._changed:
            self.changes += 1
            for servable, status in changes:
                self._statuses.setdefault(servable.name, {})[servable.version] = self.changes, status
            self._changed.notify_all()

    def versions(self, name: str, *, since: int = 0) -> dict[int, VersionStatus]:
        """The versions of a model that changed after the change `since`, newest first."""
        with self._changed:
            statuses = sorted(self._statuses.get(name, {}).items(), reverse=True)
            return {version: status for version, (change, status) in statuses if change > since}

    def wait_until_settled(
        self, names: Collection[str], *, since: int = 0, give_up: Callable[[], bool]
    ) -> dict[ServableId, VersionStatus] | None:
        """The newest version of each model that became available or ended after the change `since`, once each has one.

        None if `give_up` returned True first.
        """
        with self._changed:
            while True:
                settled = {}
                for name in names:
                    for version, status in self.versions(name, since=since).items():
                        if status.state in (State.AVAILABLE, State.END):
                            settled[ServableId(name, version)] = status
                            break
                if len(settled) == len(names):
                    return settled
                if give_up():
                    return None
                self._changed.wait(timeout=0.2)
