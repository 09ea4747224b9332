"""Asks every replica at its own address: versions and their states, and which one answers for a label."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar

import numpy as np

import duoserve
from duoserve import Client, DuoserveError, ModelNotFound, Retry, VersionStatus
from duoserve.contract import DESCRIBE
from duoserve.errors import DeadlineExceeded, InvalidInput, ServerUnavailable
from serving.rollout.errors import Away, RolloutError, SettingsError
from serving.rollout.replicas.discovery import Discovery
from serving.rollout.settings import Tls

T = TypeVar("T")
DISCOVERY = "discovery"
"""In place of an address: the discovery itself."""

_TRIES = 3  # for a briefly busy server; one that is down stays down for longer
Send = Literal["auto", "tensors", "bytes"]


@dataclasses.dataclass(frozen=True, slots=True)
class ReplicaView:
    """One replica at one moment: why it did not answer, or its versions, and the one that answers for each label."""

    address: str
    error: str = ""
    versions: Mapping[int, VersionStatus] = dataclasses.field(default_factory=dict)
    labels: Mapping[str, int | None] = dataclasses.field(default_factory=dict)

    @property
    def up(self) -> bool:
        """Whether it answered."""
        return not self.error

    def available(self, version: int) -> bool:
        """Whether the version serves there."""
        return version in self.versions and self.versions[version].state == "AVAILABLE"


class Fleet:
    """The replicas of one model. A context manager; thread-safe.

    Args:
        find: Returns their addresses.
        model: The model's name.
        timeout: Seconds for a call.
        parallel: Replicas that are asked at once.
        tls: The encryption of the calls; its files are checked here.
    """

    def __init__(self, find: Discovery, model: str, *, timeout: float, parallel: int, tls: Tls = Tls()) -> None:
        self._find = find
        retry = Retry(attempts=_TRIES)
        self._options: dict[str, Any] = {"model": model, "timeout": timeout, "tls": _checked(tls), "retry": retry}
        self._pool = concurrent.futures.ThreadPoolExecutor(parallel, "replica")
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._known: tuple[str, ...] = ()
        self._lost = ""
        self._clients: dict[tuple[str, int | str | None, Send], Client] = {}

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes every connection; calls in progress fail."""
        self._closed.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            clients = list(self._clients.values())
            self._clients.clear()
        for client in clients:
            client.close()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed.is_set()

    def addresses(self) -> tuple[str, ...]:
        """The replicas' addresses now; the last known ones while discovery fails or finds none.

        Raises:
            RolloutError: Discovery is refused, and never found one.
        """
        try:
            found = self._find()
            self._lost = "no addresses" if self._known and not found else ""
        except RolloutError as error:
            if not self._known and not isinstance(error, Away):
                raise
            found, self._lost = (), str(error)
        self._known = found or self._known
        return self._known

    def client(self, address: str, target: int | str | None = None, send: Send = "auto") -> Client:
        """A client for one replica, pinned to a version (int) or a label (str); None for its latest version."""
        with self._lock:
            if self.closed:
                raise duoserve.ClientClosed("Expected an open fleet. Received: a call after close()")
            found = self._clients.get((address, target, send))
            if found is None:
                pin: dict[str, Any] = {"version" if isinstance(target, int) else "label": target}
                found = Client(address, send=send, **pin, **self._options)
                self._clients[address, target, send] = found
            return found

    def forget(self, address: str) -> None:
        """Closes the connections to a replica, as a new one doesn't wait for gRPC's backoff."""
        with self._lock:
            gone = [key for key in self._clients if key[0] == address]
            clients = [self._clients.pop(key) for key in gone]
        for client in clients:
            client.close()

    def each(self, ask: Callable[[str], T], addresses: Iterable[str] | None = None) -> list[T]:
        """The results of `ask` for every replica, in order, a few at a time. `ask` must not call `each` itself."""
        return list(self._pool.map(ask, self.addresses() if addresses is None else addresses))

    def look(self, labels: Iterable[str]) -> tuple[ReplicaView, ...]:
        """Every replica now. A failed discovery counts as one more that does not answer, as there may be others."""
        wanted = tuple(labels)
        views = self.each(lambda address: self.view(address, wanted))
        return (*views, *([ReplicaView(DISCOVERY, self._lost)] if self._lost else []))

    def view(self, address: str, labels: Iterable[str] = ()) -> ReplicaView:
        """One replica now, with the version that answers for each label. Never raises."""
        labels = tuple(labels)
        try:
            versions = {status.version: status for status in self.client(address).status()}
            return ReplicaView(address, "", versions, {label: self._answering(address, label) for label in labels})
        except ModelNotFound:
            return ReplicaView(address, labels=dict.fromkeys(labels))
        except DuoserveError as error:
            self.forget(address)
            return ReplicaView(address, error=f"{type(error).__name__}: {error.message}"[:200])

    def _answering(self, address: str, label: str) -> int | None:
        try:
            return self.client(address, label).run(DESCRIBE, {"key": np.array([b""], object)}, outputs=["spec"]).version
        except (ServerUnavailable, DeadlineExceeded):
            raise
        except DuoserveError:  # an unknown label, or one whose version is gone
            return None


def _checked(tls: Tls) -> duoserve.TLS | None:
    """The TLS option for clients, checked here: invalid files would look like replicas that don't answer."""
    if not any(dataclasses.astuple(tls)):
        return None
    try:
        found = duoserve.TLS(tls.ca, tls.cert, tls.key, tls.server_name)
        found.check()
    except InvalidInput as error:
        raise SettingsError(f"tls: {error.message}") from error
    return found
