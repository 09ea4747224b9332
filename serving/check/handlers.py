"""Probes of any container: one way to ask, at a port that is there, in a pace that can be kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from serving.check._data import integer, items, mapping, text
from serving.check._manifests import Container, Finding, Manifests

__all__ = ["KINDS", "check", "number_of", "probe_of", "target_of"]

KINDS = ("startupProbe", "readinessProbe", "livenessProbe")
_HANDLERS = {"httpGet", "grpc", "tcpSocket", "exec"}


def check(manifests: Manifests) -> Iterator[Finding]:
    for container in [container for pod in manifests.pods for container in pod.containers(init=False)]:
        for kind in KINDS:
            yield from _port(container, kind)
            yield from _handlers(container, kind)
            yield from _successes(container, kind)
        yield from _timeout(container)


def probe_of(container: Container, kind: str) -> dict[str, Any]:
    return mapping(container.data.get(kind))


def target_of(container: Container, kind: str) -> tuple[str, Any]:
    """How a probe asks, and at which port as written."""
    probe = probe_of(container, kind)
    for way in ("httpGet", "grpc", "tcpSocket"):
        if way in probe and probe[way] is not None:
            return way, mapping(probe[way]).get("port")
    return ("exec" if "exec" in probe else ""), None


def number_of(container: Container, port: Any) -> int | None:
    """The port's number; a name is looked up in this container, where the kubelet looks."""
    own = {text(entry.get("name")): integer(entry.get("containerPort")) for entry in items(container.data.get("ports"))}
    return own.get(port) if isinstance(port, str) and not port.isdigit() else integer(port)


def _port(container: Container, kind: str) -> Iterator[Finding]:
    way, port = target_of(container, kind)
    if way in ("", "exec"):
        return
    declared = items(container.data.get("ports"))
    number = number_of(container, port)
    if number is None or number not in [entry.get("containerPort") for entry in declared]:
        shown = ", ".join(f"{entry.get('name')}={entry.get('containerPort')}" for entry in declared) or "none"
        yield Finding(
            "probe-port",
            container.object,
            f"{container.path}.{kind}.{way}.port",
            f"a port of the container ({shown})",
            repr(port),
            "The probe always fails: the pod never gets ready, or is restarted for ever.",
            "Name a port that the container declares.",
        )


def _handlers(container: Container, kind: str) -> Iterator[Finding]:
    found = [key for key, value in probe_of(container, kind).items() if key in _HANDLERS and value is not None]
    if len(found) > 1:
        yield Finding(
            "probe-handlers",
            container.object,
            f"{container.path}.{kind}",
            "one way to ask",
            " and ".join(sorted(found)),
            "The API server refuses it.",
            "Remove the others.",
        )


def _successes(container: Container, kind: str) -> Iterator[Finding]:
    wanted = integer(probe_of(container, kind).get("successThreshold"))
    if kind != "readinessProbe" and wanted not in (None, 1):
        field, why = f"{container.path}.{kind}.successThreshold", "The API server refuses it."
        yield Finding("probe-success", container.object, field, "1", str(wanted), why, "Leave it out.")


def _timeout(container: Container) -> Iterator[Finding]:
    probe = probe_of(container, "readinessProbe")
    period, limit = integer(probe.get("periodSeconds")) or 10, integer(probe.get("timeoutSeconds")) or 1
    if limit > period:
        yield Finding(
            "probe-timeout",
            container.object,
            f"{container.path}.readinessProbe.timeoutSeconds",
            f"at most periodSeconds, {period}",
            str(limit),
            "A pod that hangs is asked less often than it says, and gets calls for longer.",
            "Lower it.",
        )
