"""A server's life: probes that ask for the right thing, and a drain that loses no call."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from serving.check.findings import Finding, finding
from serving.check.manifests.objects import PROBES, Container, Manifests
from serving.check.manifests.servers import Server, is_ours, servers
from serving.check.manifests.values import integer, mapping, quantity, strings, text
from serving.check.rules.workloads.deployments import startup_seconds

__all__ = ["check"]

_PATH = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?(/metadata)?/?")
_ABSENT = {"curl", "wget", "grpc_health_probe", "nc", "python", "python3"}
_LATEST = 300
_MARGIN = 5
_SHORTEST_AGE_MS = 10_000


def check(manifests: Manifests) -> Iterator[Finding]:
    for container in manifests.containers(init=False):
        for kind in PROBES:
            yield from _port(container, kind)
        probe = mapping(container.data, "readinessProbe")
        period, limit = integer(probe, "periodSeconds") or 10, integer(probe, "timeoutSeconds") or 1
        if limit > period:
            yield finding("probe-timeout", container, "readinessProbe.timeoutSeconds", limit, period=period)
    for server in servers(manifests):
        if server.pod.is_service:
            yield from _readiness(server)
            yield from _liveness(server)
            yield from _startup(server)
            yield from _pace(server, "readinessProbe", least=1, most=60)
            yield from _pace(server, "livenessProbe", least=30, most=600)
            yield from _programs(server)
    yield from _shutdown(manifests)


def _port(container: Container, kind: str) -> Iterator[Finding]:
    """A port that is not there. A number need not be declared; our own containers declare theirs."""
    way, port = _target(container, kind)
    number = container.port_number(port)
    declared = [entry.get("containerPort") for entry in container.ports]
    strict = declared and is_ours(container)
    if port is not None and (number is None or (strict and number not in declared)):
        known = ", ".join(f"{entry.get('name')}={entry.get('containerPort')}" for entry in container.ports) or "none"
        yield finding("probe-port", container, f"{kind}.{way}.port", repr(port), known=known)


def _target(container: Container, kind: str) -> tuple[str, Any]:
    """How a probe asks, and at which port as written; ("", None) without a probe."""
    probe = mapping(container.data, kind)
    for way in ("httpGet", "grpc", "tcpSocket"):
        if probe.get(way) is not None:
            return way, mapping(probe[way]).get("port")
    return ("exec" if "exec" in probe else ""), None


def _programs(server: Server) -> Iterator[Finding]:
    """Programs of probes that the stock image does not have."""
    for kind in PROBES:
        command = strings(server.data, f"{kind}.exec.command")
        for word in re.split(r"[\s;&|]+", " ".join(command)):
            if word.rpartition("/")[2] in _ABSENT:
                yield finding("probe-program", server, f"{kind}.exec.command", word)


def _pace(server: Server, kind: str, *, least: int, most: int) -> Iterator[Finding]:
    """How long a probe fails before the kubelet acts."""
    probe = mapping(server.data, kind)
    period, tries = integer(probe, "periodSeconds") or 10, integer(probe, "failureThreshold") or 3
    first = integer(probe, "initialDelaySeconds") or 0
    if probe and not (least <= period * tries <= most and first <= _LATEST):
        rule = "probe-strict" if period * tries < least else "probe-late"
        yield finding(rule, server, kind, f"{period * tries} s, after {first} s", least=least, most=most, first=_LATEST)


def _readiness(server: Server) -> Iterator[Finding]:
    for kind in ("readinessProbe", "startupProbe"):
        way, port = _target(server, kind)
        get = mapping(server.data, f"{kind}.httpGet")
        number = server.port_number(port)
        if way == "httpGet":
            if text(get, "scheme") not in ("", "HTTP"):
                yield finding("probe-scheme", server, f"{kind}.httpGet.scheme", get["scheme"])
            if number is not None and number != server.rest_port:
                shown = server.rest_port or "which is off"
                yield finding("probe-not-rest", server, f"{kind}.httpGet.port", f"{port} ({number})", port=shown)
            yield from _page(server, f"{kind}.httpGet.path", text(get, "path"))
        elif kind == "readinessProbe":
            if way:
                yield finding("readiness-blind", server, f"{kind}.{way}", way)
            else:
                yield finding("no-readiness", server, kind, "none")


def _page(server: Server, field: str, path: str) -> Iterator[Finding]:
    match, names = _PATH.fullmatch(path), server.names()
    if match is None or (names and match[1] not in names):
        yield finding("probe-model", server, field, repr(path), known=", ".join(sorted(names)) or "none")
        return
    model = next((model for model in server.models() if model.name == match[1]), None)
    if model is not None and match[3] and match[3] not in model.labels:
        yield finding(
            "probe-label", server, field, repr(match[3]), model=model.name, known=", ".join(model.labels) or "none"
        )
    if not match[4]:
        yield finding("probe-status", server, field, repr(path))
    elif match[2]:
        yield finding("probe-version", server, field, f"version {match[2]}")


def _liveness(server: Server) -> Iterator[Finding]:
    way, port = _target(server, "livenessProbe")
    field = f"livenessProbe.{way}"
    if not way:
        yield finding("no-liveness", server, "livenessProbe", "none")
    elif way == "httpGet":
        yield finding("liveness-model", server, field, "httpGet of a model")
    elif way == "grpc":
        service = mapping(server.data["livenessProbe"]["grpc"]).get("service")
        if server.tls:
            yield finding("liveness-tls", server, field, "grpc")
        elif not server.on("enable_grpc_healthcheck_service"):
            yield finding("liveness-health", server, field, "the flag is off")
        elif service:
            yield finding("liveness-service", server, f"{field}.service", repr(service))
        if server.port_number(port) not in (None, server.grpc_port):
            yield finding("probe-not-grpc", server, f"{field}.port", repr(port), port=server.grpc_port)


def _startup(server: Server) -> Iterator[Finding]:
    probe = mapping(server.data, "startupProbe")
    if not probe and server.data.get("livenessProbe"):
        yield finding("no-startup", server, "startupProbe", "none")
    elif probe and startup_seconds(probe) < 60:
        yield finding("startup-short", server, "startupProbe", f"{startup_seconds(probe)} s")


def _shutdown(manifests: Manifests) -> Iterator[Finding]:
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
