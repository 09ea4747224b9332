"""Differences between the replicas and the file. Without any, an edit has arrived everywhere."""

import dataclasses
from collections.abc import Iterable, Sequence

from serving.rollout.edits import State
from serving.rollout.replicas.fleet import ReplicaView

_GONE = frozenset(("END", "UNLOADING"))


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """What the file has, and what a replica answers; the versions concerned, none if it does not answer."""

    address: str
    what: str
    versions: frozenset[int] = frozenset()

    def __str__(self) -> str:
        return f"{self.address}: {self.what}"


def differences(state: State, views: Iterable[ReplicaView]) -> list[Difference]:
    """Every difference between the file and the replicas."""
    return [found for view in views for found in _of(state, view)]


def ended(views: Sequence[ReplicaView], version: int) -> list[str]:
    """The replicas on which a version ended with an error, one line each."""
    return [
        f"{view.address}: {shown(view, version)}"
        for view in views
        if (status := view.versions.get(version)) is not None and status.state in _GONE and status.error
    ]


def shown(view: ReplicaView, version: int) -> str:
    """A version that should be AVAILABLE on a replica, and what it is."""
    status = view.versions.get(version)
    received = f"{status.state} {status.error}".strip() if status else "unknown version"
    return f"version {version}: expected AVAILABLE. Received: {received}"


def _of(state: State, view: ReplicaView) -> list[Difference]:
    if not view.up:
        return [Difference(view.address, f"expected an answer. Received: {view.error}")]
    found: list[tuple[str, set[int]]] = []
    if state.versions is not None:
        found = [(shown(view, version), {version}) for version in state.versions if not view.available(version)]
        found += [
            (f"version {version}: expected not to be served. Received: {status.state}", {version})
            for version, status in view.versions.items()
            if version not in state.versions and status.state not in _GONE
        ]
    for label, answering in view.labels.items():
        wanted = state.labels.get(label)
        if answering != wanted:
            what = f"label {label}: expected {_named(wanted)}. Received: {_named(answering)}"
            found.append((what, {version for version in (wanted, answering) if version is not None}))
    return [Difference(view.address, what, frozenset(versions)) for what, versions in found]


def _named(version: int | None) -> str:
    return "no answer" if version is None else f"version {version}"
