"""Differences between the replicas and the file. Without any, an edit has arrived everywhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from serving.rollout.edits import State
from serving.rollout.replicas.fleet import ReplicaView

__all__ = ["Difference", "differences", "ended", "shown"]

_GONE = frozenset(("END", "UNLOADING"))


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """One difference.

    Attributes:
        address: The replica.
        what: The content of the file, and the replica's answer.
        versions: The versions concerned; empty if the replica does not answer.
    """

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
    found = [(view, view.versions.get(version)) for view in views]
    return [
        f"{view.address}: {shown(view, version)}"
        for view, status in found
        if status is not None and status.state in _GONE and status.error
    ]


def shown(view: ReplicaView, version: int) -> str:
    """A version that should be AVAILABLE on a replica, and what it is."""
    status = view.versions.get(version)
    received = f"{status.state} {status.error}".strip() if status else "unknown version"
    return f"version {version}: expected AVAILABLE. Received: {received}"


def _of(state: State, view: ReplicaView) -> list[Difference]:
    if not view.up:
        return [Difference(view.address, f"expected an answer. Received: {view.error}")]
    found = []
    if state.versions is not None:
        missing = (version for version in state.versions if not view.available(version))
        found += [Difference(view.address, shown(view, version), _set(version)) for version in missing]
        for version, status in view.versions.items():
            if version not in state.versions and status.state not in _GONE:
                found.append(
                    Difference(
                        view.address,
                        f"version {version}: expected not to be served. Received: {status.state}",
                        _set(version),
                    )
                )
    for label, answering in view.labels.items():
        wanted = state.labels.get(label)
        if answering != wanted:
            found.append(
                Difference(
                    view.address,
                    f"label {label}: expected {_named(wanted)}. Received: {_named(answering)}",
                    _set(wanted, answering),
                )
            )
    return found


def _named(version: int | None) -> str:
    return "no answer" if version is None else f"version {version}"


def _set(*versions: int | None) -> frozenset[int]:
    return frozenset(version for version in versions if version is not None)
