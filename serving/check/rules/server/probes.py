"""Probes: they ask for the right thing, at the right port, and do not restart servers after a bad rollout."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from serving.check.findings import Finding, finding
from serving.check.manifests.objects import PROBES, Container, Manifests
from serving.check.manifests.servers import Server, is_ours, servers
from serving.check.manifests.values import integer, mapping, strings, text
from serving.check.rules.workloads.deployments import startup_seconds

__all__ = ["check"]


_PATH = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?(/metadata)?/?")
_ABSENT = {"curl", "wget", "grpc_health_probe", "nc", "python", "python3"}
_LATEST = 300


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
