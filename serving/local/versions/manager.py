"""Loads and unloads versions so that a model stays available: the new one first, then the old one goes.

A version is *aspired* when its source wants it served. A change waits `SETTLE_SECONDS`; then
one action for each model is taken at a time, as the stock server does every 100 ms.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import enum
import logging
import pathlib
import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from serving.local.errors import ServingError, from_exception, not_found
from serving.local.versions.states import ServableId, State, StateBus, VersionStatus

_LOG = logging.getLogger(__name__)

SETTLE_SECONDS = 0.1
"""The stock manager's interval: two changes within it are one."""


class Closeable(Protocol):
    """The parts of a loaded version that the manager needs."""

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


@dataclasses.dataclass(frozen=True, slots=True)
class Handle(Generic[S]):
    """A context manager: the version is not unloaded before the block ends."""

    id: ServableId
    servable: S
    release: Callable[[], None]

    def __enter__(self) -> Handle[S]:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


@dataclasses.dataclass(frozen=True, slots=True)
class Retry:
    """How a failed load is tried again: `times` after the first, `seconds` apart."""

    times: int = 5
    seconds: float = 60.0


class Manager(Generic[S]):
    """All versions of all models, their states, and handles on those that serve."""

    def __init__(
        self,
        load: Callable[[ServableId, pathlib.Path], S],
        bus: StateBus,
        *,
        load_threads: int = 0,
        initial_load_threads: int = 8,
        retry: Retry | None = None,
    ) -> None:
        self._load = load
        self._bus = bus
        self._retry = retry or Retry()
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
        """Set which versions of a model should serve; a later call overrides an earlier one."""
        with self._lock:
            if name not in self._pending and self._is_as_aspired(name, versions):
                return
            self._pending[name] = versions
            self._lock.notify_all()

    def handle(self, name: str, version: int | None) -> Handle[S]:
        """Hold a serving version, the newest when none is named.

        Raises:
            ServingError: NOT_FOUND when no such version is serving.
        """
        with self._lock:
            found = self._serving(name, version)
            if found is None or found.servable is None:
                wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
                raise not_found(f"Servable not found for request: {wanted}")
            found.calls += 1
            return Handle(found.id, found.servable, lambda: self._release(found))

    def _release(self, version: _Version[S]) -> None:
        with self._lock:
            version.calls -= 1
            if version.phase is _Phase.UNLOADING and not version.calls:
                self._lock.notify_all()

    def serving(self) -> list[ServableId]:
        """The versions that answer now."""
        with self._lock:
            return sorted(v.id for by in self._versions.values() for v in by.values() if v.phase is _Phase.READY)

    def end_of_first_load(self) -> None:
        """From now on changes settle before they are acted on, and versions load one by one."""
        with self._lock:
            self._first_load = False
        self._first_loaders.shutdown(wait=False)

    def stop(self, seconds: float) -> None:
        """Unload everything; calls in flight are waited for, but no longer than `seconds`."""
        with self._lock:
            self._stopping = True
            for by_number in self._versions.values():
                for version in by_number.values():
                    version.unwanted.set()
            self._lock.notify_all()
        self._thread.join()
        for pool in (self._first_loaders, self._loaders):
            pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            ready = [v for by in self._versions.values() for v in by.values() if v.phase is _Phase.READY]
            unloads = [self._start_unload(version) for version in ready]
        concurrent.futures.wait(unloads, timeout=seconds)
        self._unloaders.shutdown(wait=False)

    # The methods below are called with the lock held, unless noted.

    def _is_as_aspired(self, name: str, versions: dict[int, pathlib.Path]) -> bool:
        managed = self._versions.get(name, {})
        return managed.keys() == versions.keys() and all(version.aspired for version in managed.values())

    def _serving(self, name: str, number: int | None) -> _Version[S] | None:
        by_number = self._versions.get(name, {})
        if number is not None:
            version = by_number.get(number)
            return version if version and version.phase is _Phase.READY else None
        ready = [number for number, version in by_number.items() if version.phase is _Phase.READY]
        return by_number[max(ready)] if ready else None

    def _run(self) -> None:  # The manager's thread.
        settle = 0.0  # The very first load need not wait for more to come.
        with self._lock:
            while not self._stopping:
                if not self._pending and not self._has_work():
                    self._lock.wait()
                    continue
                self._lock.wait_for(lambda: self._stopping, timeout=settle)
                settle = SETTLE_SECONDS
                if not self._stopping:
                    self._flush()
                    self._take_pending()
                    for name in list(self._versions):
                        self._act(name)

    def _has_work(self) -> bool:
        self._flush()
        return any(self._next_action(by_number) is not None for by_number in self._versions.values())

    def _flush(self) -> None:
        """Forget versions that are no longer aspired and do not serve."""
        for name, by_number in list(self._versions.items()):
            for number, version in list(by_number.items()):
                if not version.aspired and version.phase in (_Phase.NEW, _Phase.OVER):
                    if version.phase is _Phase.NEW:
                        self._bus.publish((version.id, VersionStatus(State.END)))
                    del by_number[number]
            if not by_number:
                del self._versions[name]

    def _take_pending(self) -> None:
        for name, wanted in list(self._pending.items()):
            managed = self._versions.setdefault(name, {})
            returning = [version for number, version in managed.items() if number in wanted and not version.aspired]
            if any(version.phase is not _Phase.READY for version in returning):
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
                    self._bus.publish((managed[number].id, VersionStatus(State.START)))

    @staticmethod
    def _next_action(by_number: dict[int, _Version[S]]) -> _Version[S] | None:
        """Availability first: unload what is not aspired once something aspired serves, else load the newest."""
        aspired = [v for v in by_number.values() if v.aspired]
        leftover = [v for v in by_number.values() if not v.aspired and v.phase is _Phase.READY]
        if leftover and (not aspired or any(v.phase is _Phase.READY for v in aspired) or len(leftover) > 1):
            return min(leftover, key=lambda v: v.id.version)
        new = [v for v in aspired if v.phase is _Phase.NEW]
        return max(new, key=lambda v: v.id.version) if new else None

    def _act(self, name: str) -> None:
        while (version := self._next_action(self._versions[name])) is not None:
            if version.phase is _Phase.READY:
                self._start_unload(version)
                return
            version.phase = _Phase.LOADING
            pool = self._first_loaders if self._first_load else self._loaders
            pool.submit(self._load_version, version)
            if not self._first_load:
                return

    def _start_unload(self, version: _Version[S]) -> concurrent.futures.Future[None]:
        version.phase = _Phase.UNLOADING
        self._bus.publish((version.id, VersionStatus(State.UNLOADING)))
        return self._unloaders.submit(self._unload_version, version)

    def _finish(self, version: _Version[S], phase: _Phase, status: VersionStatus) -> None:  # Takes the lock.
        with self._lock:
            version.phase = phase
            # Before anyone can act on the phase, or the states would come out of order.
            replaced = self._replaced_by(version)
            if replaced is None:
                self._bus.publish((version.id, status))
            else:
                replaced.phase = _Phase.UNLOADING
                self._bus.publish((version.id, status), (replaced.id, VersionStatus(State.UNLOADING)))
                self._unloaders.submit(self._unload_version, replaced)
            self._lock.notify_all()

    def _replaced_by(self, loaded: _Version[S]) -> _Version[S] | None:
        """The version to unload in the moment in which another one serves: no reader sees both as available."""
        name = loaded.id.name
        if loaded.phase is not _Phase.READY or not loaded.aspired or self._first_load or name in self._pending:
            return None
        following = self._next_action(self._versions[name])
        return following if following is not None and following.phase is _Phase.READY else None

    def _load_version(self, version: _Version[S]) -> None:  # A loader's thread, no lock.
        self._bus.publish((version.id, VersionStatus(State.LOADING)))
        error: ServingError | None = None
        for attempt in range(max(0, self._retry.times) + 1):
            if attempt and (self._wait_for_retry(version) or self._stopping):
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

    def _wait_for_retry(self, version: _Version[S]) -> bool:
        return version.unwanted.wait(max(0.0, self._retry.seconds))

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
