"""Loads and unloads versions so that a model stays available: the new one first, then the old one goes.

A version is *aspired* when its source wants it served. A change waits `SETTLE_SECONDS`; then
one action for each model is taken at a time, as the stock server does every 100 ms.
"""

import concurrent.futures
import contextlib
import dataclasses
import enum
import logging
import pathlib
import threading
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from serving.local.errors import ServingError, from_exception, not_found
from serving.local.versions.states import Change, ServableId, State, StateMonitor, VersionStatus

_LOG = logging.getLogger(__name__)

SETTLE_SECONDS = 0.1
"""The stock manager's interval: two changes within it are one."""


class Closeable(Protocol):
    def close(self) -> None: ...


S = TypeVar("S", bound=Closeable)


class _Phase(enum.Enum):
    NEW = enum.auto()
    LOADING = enum.auto()
    READY = enum.auto()
    UNLOADING = enum.auto()
    OVER = enum.auto()


@dataclasses.dataclass(eq=False, slots=True)
class _Version(Generic[S]):
    id: ServableId
    path: pathlib.Path
    aspired: bool = True
    phase: _Phase = _Phase.NEW
    servable: S | None = None
    calls: int = 0
    unwanted: threading.Event = dataclasses.field(default_factory=threading.Event)

    @property
    def ready(self) -> bool:
        return self.phase is _Phase.READY


@dataclasses.dataclass(frozen=True, slots=True)
class Retry:
    """How a failed load is tried again: `times` after the first, `seconds` apart."""

    times: int = 5
    seconds: float = 60.0


class Manager(Generic[S]):
    """All versions of all models, and calls on those that serve."""

    def __init__(
        self,
        load: Callable[[ServableId, pathlib.Path], S],
        states: StateMonitor,
        *,
        load_threads: int = 0,
        initial_load_threads: int = 8,
        retry: Retry,
    ) -> None:
        self._load = load
        self._states = states
        self._retry = retry
        self._lock = threading.Condition()
        self._versions: dict[str, dict[int, _Version[S]]] = {}
        self._pending: dict[str, dict[int, pathlib.Path]] = {}
        self._stopping = False
        self._first_load = True
        self._first_loaders = concurrent.futures.ThreadPoolExecutor(initial_load_threads, "first-load")
        self._loaders = concurrent.futures.ThreadPoolExecutor(max(1, load_threads), "load")
        self._unloaders = concurrent.futures.ThreadPoolExecutor(thread_name_prefix="unload")
        self._thread = threading.Thread(target=self._run, name="version-manager", daemon=True)
        self._thread.start()

    def aspire(self, name: str, versions: dict[int, pathlib.Path]) -> None:
        """Sets which versions of a model should serve; a later call overrides an earlier one."""
        with self._lock:
            managed = self._versions.get(name, {})
            unchanged = managed.keys() == versions.keys() and all(version.aspired for version in managed.values())
            if name in self._pending or not unchanged:
                self._pending[name] = versions
                self._lock.notify_all()

    @contextlib.contextmanager
    def hold(self, name: str, number: int | None) -> Iterator[tuple[ServableId, S]]:
        """Holds a serving version, the newest when none is named: it is not unloaded before the block ends.

        Raises:
            ServingError: NOT_FOUND when no such version is serving.
        """
        with self._lock:
            ready = {v.id.version: v for v in self._versions.get(name, {}).values() if v.ready}
            version = ready.get(max(ready, default=0) if number is None else number)
            if version is None or version.servable is None:
                wanted = f"Latest({name})" if number is None else f"Specific({name}, {number})"
                raise not_found(f"Servable not found for request: {wanted}")
            version.calls += 1
            servable = version.servable
        try:
            yield version.id, servable
        finally:
            with self._lock:
                version.calls -= 1
                if version.phase is _Phase.UNLOADING and not version.calls:
                    self._lock.notify_all()

    def end_of_first_load(self) -> None:
        """From now on changes settle before they are acted on, and versions load one by one."""
        with self._lock:
            self._first_load = False
            self._first_loaders.shutdown(wait=False)

    def stop(self, seconds: float) -> None:
        """Unloads everything; calls in flight are waited for, but no longer than `seconds`."""
        with self._lock:
            self._stopping = True
            for version in self._all():
                version.unwanted.set()
            self._lock.notify_all()
        self._thread.join()
        for pool in (self._first_loaders, self._loaders):
            pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            unloads = [self._start_unload(version) for version in self._all() if version.ready]
        concurrent.futures.wait(unloads, timeout=seconds)
        self._unloaders.shutdown(wait=False)

    # The methods below are called with the lock held, unless noted.

    def _all(self) -> list[_Version[S]]:
        return [version for by_number in self._versions.values() for version in by_number.values()]

    def _run(self) -> None:  # The manager's thread.
        settle = 0.0  # The very first load need not wait for more to come.
        with self._lock:
            while not self._stopping:
                self._flush()
                if not self._pending and not any(map(self._next_action, self._versions.values())):
                    self._lock.wait()
                    continue
                if self._lock.wait_for(lambda: self._stopping, timeout=settle):
                    return
                settle = SETTLE_SECONDS
                self._flush()
                self._take_pending()
                for by_number in self._versions.values():
                    self._act(by_number)

    def _flush(self) -> None:
        """Forgets versions that are no longer aspired and do not serve."""
        for version in self._all():
            if not version.aspired and version.phase in (_Phase.NEW, _Phase.OVER):
                if version.phase is _Phase.NEW:
                    self._states.publish((version.id, VersionStatus(State.END)))
                del self._versions[version.id.name][version.id.version]

    def _take_pending(self) -> None:
        for name, wanted in list(self._pending.items()):
            managed = self._versions.setdefault(name, {})
            returning = [version for number, version in managed.items() if number in wanted and not version.aspired]
            if any(not version.ready for version in returning):
                continue  # It is being unloaded: it can be loaded again only after that.
            for version in returning:
                version.aspired = True
                version.unwanted.clear()
            del self._pending[name]
            for number, version in managed.items():
                if number not in wanted:
                    version.aspired = False
                    version.unwanted.set()
            for number, path in sorted(wanted.items()):
                if number not in managed:
                    managed[number] = _Version(ServableId(name, number), path)
                    self._states.publish((managed[number].id, VersionStatus(State.START)))

    @staticmethod
    def _next_action(by_number: dict[int, _Version[S]]) -> _Version[S] | None:
        """Availability first: unloads what is not aspired once something aspired serves, else loads the newest."""
        aspired = [v for v in by_number.values() if v.aspired]
        leftover = [v for v in by_number.values() if not v.aspired and v.ready]
        if leftover and (not aspired or any(v.ready for v in aspired) or len(leftover) > 1):
            return min(leftover, key=lambda v: v.id.version)
        new = [v for v in aspired if v.phase is _Phase.NEW]
        return max(new, key=lambda v: v.id.version) if new else None

    def _act(self, by_number: dict[int, _Version[S]]) -> None:
        while (version := self._next_action(by_number)) is not None:
            if version.ready:
                self._start_unload(version)
                return
            version.phase = _Phase.LOADING
            (self._first_loaders if self._first_load else self._loaders).submit(self._load_version, version)
            if not self._first_load:
                return

    def _start_unload(self, version: _Version[S], *changes: Change) -> concurrent.futures.Future[None]:
        """Publishes these changes and unloads the version: no reader sees the one without the other."""
        version.phase = _Phase.UNLOADING
        self._states.publish(*changes, (version.id, VersionStatus(State.UNLOADING)))
        return self._unloaders.submit(self._unload_version, version)

    def _finish(self, version: _Version[S], phase: _Phase, status: VersionStatus) -> None:  # Takes the lock.
        with self._lock:
            version.phase = phase
            name = version.id.name
            # Before anyone can act on the phase, or the states would come out of order.
            following = self._next_action(self._versions[name]) if version.ready and version.aspired else None
            if following is not None and following.ready and not self._first_load and name not in self._pending:
                self._start_unload(following, (version.id, status))  # No reader sees both as available.
            else:
                self._states.publish((version.id, status))
            self._lock.notify_all()

    def _load_version(self, version: _Version[S]) -> None:  # A loader's thread, no lock.
        self._states.publish((version.id, VersionStatus(State.LOADING)))
        error: ServingError | None = None
        for attempt in range(max(0, self._retry.times) + 1):
            if attempt and version.unwanted.wait(max(0.0, self._retry.seconds)):
                break
            try:
                version.servable = self._load(version.id, version.path)
            except Exception as failure:
                error = from_exception(failure)
                _LOG.error("Servable %s cannot be loaded (try %d): %s", version.id, attempt + 1, error)
            else:
                _LOG.info("Successfully loaded servable version %s", version.id)
                self._finish(version, _Phase.READY, VersionStatus(State.AVAILABLE))
                return
        self._finish(version, _Phase.OVER, VersionStatus(State.END, error))

    def _unload_version(self, version: _Version[S]) -> None:  # An unloader's thread, no lock.
        with self._lock:
            self._lock.wait_for(lambda: not version.calls)
            servable, version.servable = version.servable, None
        try:
            if servable is not None:
                servable.close()
        except Exception as failure:
            _LOG.error("Unloading %s: %s", version.id, from_exception(failure))
        _LOG.info("Done unloading servable version %s", version.id)
        self._finish(version, _Phase.OVER, VersionStatus(State.END))
