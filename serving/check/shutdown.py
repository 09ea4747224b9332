"""Drain and rollout: what has to be longer than what, so that no call is lost when a pod ends."""

from __future__ import annotations

import re
from collections.abc import Iterator

from serving.check._data import dig, integer, mapping, quantity, strings
from serving.check._manifests import Container, Finding, Manifests
from serving.check._server import Server, servers

__all__ = ["check"]

_MARGIN = 5
_SHORTEST_AGE_MS = 10_000


def check(manifests: Manifests) -> Iterator[Finding]:
    for pod in manifests.pods:
        for container in pod.containers(init=False):
            yield from _grace(container)
    for server in servers(manifests):
        if server.container.pod.runs_for_ever:
            yield from _drain(server)


def _pre_stop(container: Container) -> float:
    hook = mapping(dig(container.data, "lifecycle", "preStop"))
    seconds = quantity(dig(hook, "sleep", "seconds"))
    if seconds is not None:
        return seconds
    command = " ".join(strings(dig(hook, "exec", "command")))
    slept = re.findall(r"\bsleep\s+(\d+(?:\.\d+)?)", command)
    return sum(float(found) for found in slept)


def _seconds(container: Container) -> float:
    drained = container.variable("DUOSERVE_DRAIN_SECONDS")
    return quantity(drained) or 0.0 if drained is not None else 0.0


def _grace(container: Container) -> Iterator[Finding]:
    pod = container.pod
    grace = integer(pod.spec.get("terminationGracePeriodSeconds"))
    needed = _pre_stop(container) + _seconds(container)
    if needed and (grace if grace is not None else 30) < needed + _MARGIN:
        yield Finding(
            "grace-short",
            str(pod.owner),
            f"{pod.path}.terminationGracePeriodSeconds",
            f"at least {needed + _MARGIN:g}: preStop {_pre_stop(container):g} s, drain {_seconds(container):g} s, "
            f"{_MARGIN} s to end",
            "30 (the default)" if grace is None else str(grace),
            "The pod is killed in the middle of its drain, and cuts the calls in flight.",
            "Raise it.",
        )


def _drain(server: Server) -> Iterator[Finding]:
    container, pod = server.container, server.container.pod
    arguments = dict(
        part.partition("=")[::2] for part in server.flags.get("grpc_channel_arguments", "").split(",") if part
    )
    age = quantity(arguments.get("grpc.max_connection_age_ms"))
    grace = quantity(arguments.get("grpc.max_connection_age_grace_ms")) or 0.0
    field = f"{container.path}.args"
    if not age:
        yield Finding(
            "no-connection-age",
            server.object,
            field,
            "--grpc_channel_arguments=grpc.max_connection_age_ms=30000,grpc.max_connection_age_grace_ms=10000",
            server.flags.get("grpc_channel_arguments") or "none",
            "Connections never end: clients stay on an ending pod and never see a new one.",
            "Set the flag.",
        )
        return
    if age < _SHORTEST_AGE_MS:
        yield Finding(
            "connection-age-short",
            server.object,
            field,
            f"grpc.max_connection_age_ms of at least {_SHORTEST_AGE_MS} (milliseconds)",
            f"{age:g}",
            "Clients spend their time on new connections.",
            "Set 30000.",
        )
    if not grace:
        yield Finding(
            "no-age-grace",
            server.object,
            field,
            "grpc.max_connection_age_grace_ms beside the age",
            "none",
            "Calls in flight when a connection ages have no limit, or are cut, by version of gRPC.",
            "Set 10000.",
        )
    serving = _pre_stop(container) + _seconds(container)
    total = integer(pod.spec.get("terminationGracePeriodSeconds"))
    # PID 1 without our entrypoint ignores SIGTERM and so serves for the whole grace period.
    if server.bare:
        serving = float(total if total is not None else 30)
    needed = (1.1 * age + grace) / 1000
    if serving < needed:
        yield Finding(
            "drain-short",
            server.object,
            f"{container.path}.env[DUOSERVE_DRAIN_SECONDS]",
            f"preStop and drain of at least {needed:g} s: connection age {age / 1000:g} s and a tenth, grace "
            f"{grace / 1000:g} s",
            f"{serving:g} s",
            "The server ends while clients still hold their connection: their calls are cut.",
            "Raise the drain, or lower the connection age.",
        )
