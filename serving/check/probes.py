"""Probes that say what they should: the right model, the right port, and no restarts for a bad rollout."""

from __future__ import annotations

import re
from collections.abc import Iterator

from serving.check._data import integer, mapping, strings, text
from serving.check._manifests import Finding, Manifests
from serving.check._server import Server, servers
from serving.check.handlers import KINDS, number_of, probe_of, target_of
from serving.check.workloads import startup_seconds

__all__ = ["check"]

_PATH = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?(/metadata)?/?")
_ABSENT = {"curl", "wget", "grpc_health_probe", "nc", "python", "python3"}
_LATEST = 300


def check(manifests: Manifests) -> Iterator[Finding]:
    for server in servers(manifests):
        if server.container.pod.runs_for_ever:
            yield from _readiness(server)
            yield from _liveness(server)
            yield from _startup(server)
            yield from _pace(server, "readinessProbe", most=60, least=1)
            yield from _pace(server, "livenessProbe", most=600, least=30)
            for kind in KINDS:
                yield from _program(server, kind)


def _program(server: Server, kind: str) -> Iterator[Finding]:
    """A probe's program that the stock image does not have."""
    command = strings(mapping(probe_of(server.container, kind).get("exec")).get("command"))
    for word in re.split(r"[\s;&|]+", " ".join(command)):
        if word.rpartition("/")[2] in _ABSENT:
            yield Finding(
                "probe-program",
                server.object,
                f"{server.container.path}.{kind}.exec.command",
                "a program of the image, which has bash and no curl",
                word,
                "The probe always fails: the pod never gets ready, or is restarted for ever.",
                "Use httpGet for readiness and grpc for liveness.",
            )


def _pace(server: Server, kind: str, most: float, least: float) -> Iterator[Finding]:
    """How long a probe fails before the kubelet acts."""
    probe = probe_of(server.container, kind)
    period, tries = integer(probe.get("periodSeconds")) or 10, integer(probe.get("failureThreshold")) or 3
    first = integer(probe.get("initialDelaySeconds")) or 0
    if not probe or (least <= period * tries <= most and first <= _LATEST):
        return
    strict = period * tries < least
    yield Finding(
        "probe-strict" if strict else "probe-late",
        server.object,
        f"{server.container.path}.{kind}",
        f"periodSeconds x failureThreshold of {least:g} to {most:g} s, initialDelaySeconds of at most {_LATEST} s",
        f"{period * tries} s, after {first} s",
        "A load that takes all CPUs for some seconds restarts the server, and its load begins anew."
        if strict
        else "A server that does not serve gets calls, or one that does gets none, for so long.",
        "Leave the first load to the startup probe, and take the base's numbers.",
    )


def _readiness(server: Server) -> Iterator[Finding]:
    container = server.container
    for kind in ("readinessProbe", "startupProbe"):
        way, port = target_of(container, kind)
        field = f"{container.path}.{kind}"
        if not way:
            if kind == "readinessProbe":
                yield Finding(
                    "no-readiness",
                    server.object,
                    field,
                    "a probe of the label that clients ask for",
                    "none",
                    "Pods get calls before a version serves.",
                    "httpGet /v1/models/NAME/labels/stable/metadata.",
                )
            continue
        if way != "httpGet":
            if kind == "readinessProbe":
                yield Finding(
                    "readiness-blind",
                    server.object,
                    f"{field}.{way}",
                    "httpGet of the label's metadata",
                    way,
                    "The port and the gRPC health say nothing about a version: a pod without one gets calls.",
                    "httpGet /v1/models/NAME/labels/stable/metadata at the REST port.",
                )
            continue
        scheme = text(mapping(probe_of(container, kind)["httpGet"]).get("scheme"))
        if scheme not in ("", "HTTP"):
            yield Finding(
                "probe-scheme",
                server.object,
                f"{field}.httpGet.scheme",
                "HTTP",
                scheme,
                "REST knows no TLS, also where gRPC does: the probe always fails.",
                "Remove it.",
            )
        number = number_of(container, port)
        if number is not None and number != server.number("rest_api_port"):
            yield Finding(
                "probe-not-rest",
                server.object,
                f"{field}.httpGet.port",
                f"the REST port {server.number('rest_api_port')} (--rest_api_port)",
                f"{port} ({number})",
                "The gRPC port answers no HTTP/1: the probe always fails.",
                "Probe the REST port.",
            )
        yield from _path(
            server, f"{field}.httpGet.path", text(mapping(probe_of(container, kind)["httpGet"]).get("path"))
        )


def _path(server: Server, field: str, path: str) -> Iterator[Finding]:
    match = _PATH.fullmatch(path)
    names = server.names()
    if match is None or (names and match[1] not in names):
        yield Finding(
            "probe-model",
            server.object,
            field,
            f"/v1/models/NAME/labels/LABEL/metadata with a model of its config ({', '.join(sorted(names)) or 'none'})",
            repr(path),
            "The server answers 404: no pod gets ready.",
            "Name the model of models.config.",
        )
        return
    model = next((model for model in server.models() if model.name == match[1]), None)
    if model is not None and match[3] and match[3] not in model.labels:
        yield Finding(
            "probe-label",
            server.object,
            field,
            f"a label of {model.name} ({', '.join(model.labels) or 'none'})",
            repr(match[3]),
            "The server answers 400: no pod gets ready.",
            "Name a label of models.config.",
        )
    if not match[4]:
        yield Finding(
            "probe-status",
            server.object,
            field,
            "a path that ends in /metadata",
            repr(path),
            "The status page is 200 while a version loads and after it failed.",
            "Ask /v1/models/NAME/labels/stable/metadata.",
        )
    elif match[2]:
        yield Finding(
            "probe-version",
            server.object,
            field,
            "a label, which moves with a rollout",
            f"version {match[2]}",
            "Retiring that version takes every pod out of service.",
            "Ask for the label that clients ask for.",
        )


def _liveness(server: Server) -> Iterator[Finding]:
    container = server.container
    way, port = target_of(container, "livenessProbe")
    field = f"{container.path}.livenessProbe"
    if not way:
        yield Finding(
            "no-liveness",
            server.object,
            field,
            "a gRPC health probe (tcpSocket with TLS)",
            "none",
            "A server that hangs is never restarted.",
            "grpc: port: 8500, with --enable_grpc_healthcheck_service=true.",
        )
    elif way == "httpGet":
        yield Finding(
            "liveness-model",
            server.object,
            f"{field}.httpGet",
            "a probe that no rollout can fail",
            "httpGet of a model",
            "A version that does not load restarts every server, and takes the good versions down too.",
            "Use grpc at the gRPC port.",
        )
    elif way == "grpc" and server.tls:
        yield Finding(
            "liveness-tls",
            server.object,
            f"{field}.grpc",
            "tcpSocket, since the gRPC port speaks TLS",
            "grpc",
            "The kubelet's gRPC probe is plain text, without a certificate: the server is restarted for ever.",
            "Use tcpSocket.",
        )
    elif way == "grpc" and not server.on("enable_grpc_healthcheck_service"):
        yield Finding(
            "liveness-health",
            server.object,
            f"{field}.grpc",
            "--enable_grpc_healthcheck_service=true with it",
            "the flag is off",
            "The service is UNIMPLEMENTED: the server is restarted for ever.",
            "Set the flag.",
        )
    elif way == "grpc" and mapping(probe_of(container, "livenessProbe")["grpc"]).get("service"):
        yield Finding(
            "liveness-service",
            server.object,
            f"{field}.grpc.service",
            "no service name",
            repr(probe_of(container, "livenessProbe")["grpc"]["service"]),
            "The server knows the empty name only: it is restarted for ever.",
            "Remove service.",
        )
    if way == "grpc" and number_of(container, port) not in (None, server.number("port")):
        yield Finding(
            "probe-not-grpc",
            server.object,
            f"{field}.grpc.port",
            f"the gRPC port {server.number('port')} (--port)",
            repr(port),
            "The REST port speaks no gRPC: the server is restarted for ever.",
            "Probe the gRPC port.",
        )


def _startup(server: Server) -> Iterator[Finding]:
    container = server.container
    probe = probe_of(container, "startupProbe")
    field = f"{container.path}.startupProbe"
    if not probe:
        yield Finding(
            "no-startup",
            server.object,
            field,
            "a startup probe",
            "none",
            "Ports open only after the first load: liveness kills a server whose model takes longer.",
            "Add one with the readiness path and time for the load and its warmup.",
        )
        return
    allowed = startup_seconds(probe)
    if allowed < 60:
        yield Finding(
            "startup-short",
            server.object,
            field,
            "at least 60 s for the first load and its warmup",
            f"{allowed} s",
            "A slow disk or a larger model is restarted in the middle of its load, for ever.",
            "Raise failureThreshold.",
        )
