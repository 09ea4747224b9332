"""Drain and rollout: the order of timeouts, so that no call is lost when a pod ends."""

from __future__ import annotations

import re
from collections.abc import Iterator

from serving.check.findings import Finding, finding
from serving.check.manifests.objects import Container, Manifests
from serving.check.manifests.servers import Server, servers
from serving.check.manifests.values import integer, mapping, quantity, strings

__all__ = ["check"]


_MARGIN = 5
_SHORTEST_AGE_MS = 10_000


def check(manifests: Manifests) -> Iterator[Finding]:
    for container in manifests.containers(init=False):
        stop, drain, given = _pre_stop(container), _drain_seconds(container), _grace(container)
        needed = stop + drain + _MARGIN
        if stop + drain and (30 if given is None else given) < needed:
            shown = "30 (the default)" if given is None else given
            values = {"needed": needed, "stop": stop, "drain": drain, "margin": _MARGIN}
            yield finding("grace-short", container.pod, "terminationGracePeriodSeconds", shown, **values)
    for server in servers(manifests):
        if server.pod.is_service:
            yield from _drain(server)


def _grace(container: Container) -> int | None:
    return integer(container.pod.spec, "terminationGracePeriodSeconds")


def _pre_stop(container: Container) -> float:
    """How long a preStop hook waits, in seconds."""
    hook = mapping(container.data, "lifecycle.preStop")
    seconds = quantity(hook, "sleep.seconds")
    if seconds is not None:
        return seconds
    command = " ".join(strings(hook, "exec.command"))
    return sum(float(found) for found in re.findall(r"\bsleep\s+(\d+(?:\.\d+)?)", command))


def _drain_seconds(container: Container) -> float:
    return quantity(container.variable("DUOSERVE_DRAIN_SECONDS")) or 0.0


def _drain(server: Server) -> Iterator[Finding]:
    written = server.flags.get("grpc_channel_arguments", "")
    arguments = dict(part.partition("=")[::2] for part in written.split(",") if part)
    age = quantity(arguments.get("grpc.max_connection_age_ms"))
    grace = quantity(arguments.get("grpc.max_connection_age_grace_ms")) or 0.0
    if not age:
        yield finding("no-connection-age", server, "args", written or "none")
        return
    if age < _SHORTEST_AGE_MS:
        yield finding("connection-age-short", server, "args", f"{age:g}", least=_SHORTEST_AGE_MS)
    if not grace:
        yield finding("no-age-grace", server, "args", "none")
    if server.entrypoint == "duoserve":
        serving, how = _pre_stop(server) + _drain_seconds(server), "preStop and drain"
    else:  # as PID 1 it ignores SIGTERM, and so serves for the whole grace period
        given = _grace(server)
        serving, how = float(30 if given is None else given), "a grace period"
    needed = (1.1 * age + grace) / 1000
    if serving < needed:
        values = {"how": how, "needed": needed, "age": age / 1000, "grace": grace / 1000}
        if server.entrypoint == "duoserve":
            yield finding("drain-short", server, "env[DUOSERVE_DRAIN_SECONDS]", f"{serving:g} s", **values)
        else:
            yield finding("drain-short", server.pod, "terminationGracePeriodSeconds", f"{serving:g} s", **values)
