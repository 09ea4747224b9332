"""Gateway API: routes that are attached, lead to the right port, and let no config reload through."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from serving.check.findings import Finding, finding
from serving.check.manifests.objects import Manifests, Object
from serving.check.manifests.servers import servers
from serving.check.manifests.values import integer, items, mapping, text

__all__ = ["check"]


_SERVICES = {
    "tensorflow.serving.PredictionService": {"Predict", "GetModelMetadata", "Classify", "Regress", "MultiInference"},
    "tensorflow.serving.ModelService": {"GetModelStatus", "HandleReloadConfigRequest"},
    "tensorflow.serving.SessionService": {"SessionRun"},
    "grpc.health.v1.Health": {"Check", "Watch"},
}
_RELOAD = ("tensorflow.serving.ModelService", "HandleReloadConfigRequest")


def check(manifests: Manifests) -> Iterator[Finding]:
    for route in manifests.of("GRPCRoute", "HTTPRoute", "TLSRoute", "TCPRoute"):
        yield from _parents(manifests, route)
        rules = items(route.spec, "rules")
        if not any(items(rule, "backendRefs") for rule in rules):
            yield finding("route-empty", route, "spec.rules", route.spec.get("rules"))
        for rule in rules:
            backends = items(rule, "backendRefs")
            for backend in backends:
                yield from _backend(manifests, route, backend)
            yield from _weights(manifests, route, backends)
            services = [manifests.find("Service", text(b, "name"), route.namespace) for b in backends]
            pods = [pod for service in services for pod in manifests.behind(service)]
            if route.kind == "GRPCRoute" and any(servers(pod) for pod in pods):
                yield from _methods(route, rule)


def _parents(manifests: Manifests, route: Object) -> Iterator[Finding]:
    for parent in items(route.spec, "parentRefs"):
        namespace = text(parent, "namespace") or route.namespace
        if text(parent, "kind") not in ("", "Gateway") or namespace != route.namespace:
            continue
        name, section = text(parent, "name"), text(parent, "sectionName")
        gateway = manifests.find("Gateway", name, namespace)
        listeners = [listener for listener in items(gateway.spec, "listeners")
                     if section in ("", listener.get("name"))] if gateway else []  # fmt: skip
        if manifests.lacks("Gateway", name, namespace) or (gateway and section and not listeners):
            yield finding("route-parent", route, "spec.parentRefs", f"{name!r}, listener {section or 'any'!r}")
        for listener in listeners:
            protocol, field = text(listener, "protocol"), f"spec.listeners[{listener.get('name')}].protocol"
            if gateway and route.kind in ("GRPCRoute", "HTTPRoute") and protocol not in ("HTTP", "HTTPS"):
                yield finding("route-listener", gateway, field, repr(protocol), kind=route.kind)


def _backend(manifests: Manifests, route: Object, backend: dict[str, Any]) -> Iterator[Finding]:
    name, port = text(backend, "name"), backend.get("port")
    if text(backend, "kind") not in ("", "Service") or backend.get("namespace") not in (None, route.namespace):
        return
    service = manifests.find("Service", name, route.namespace)
    ports = items(service.spec, "ports") if service else []
    entry = next((entry for entry in ports if entry.get("port") == port), None)
    if entry is None:
        known = manifests.names("Service", route.namespace)
        shown = f" (it has {', '.join(str(entry.get('port')) for entry in ports)})" if service else ""
        yield finding("route-backend", route, "spec.rules.backendRefs", f"{name!r}, port {port}{shown}", known=known)
        return
    for server in [server for pod in manifests.behind(service) for server in servers(pod)]:
        number = server.pod.target(entry)
        other = {"GRPCRoute": server.rest_port, "HTTPRoute": server.grpc_port}.get(route.kind)
        if number and number == other:
            received = f"port {port} of {name}, which leads to {number}"
            yield finding("route-protocol", route, "spec.rules.backendRefs.port", received)


def _weights(manifests: Manifests, route: Object, backends: list[dict[str, Any]]) -> Iterator[Finding]:
    weights = [backend.get("weight", 1) for backend in backends]
    if backends and (any((integer(w) or -1) < 0 for w in weights if w != 0) or not any(weights)):
        yield finding("route-weights", route, "spec.rules.backendRefs.weight", weights)
    seen: dict[tuple[str, ...], str] = {}
    for backend in backends:
        service = manifests.find("Service", text(backend, "name"), route.namespace)
        pods = tuple(sorted(str(pod.object) for pod in manifests.behind(service)))
        if pods and pods in seen:
            received = f"{seen[pods]!r} and {backend.get('name')!r}, both {', '.join(pods)}"
            yield finding("route-same-pods", route, "spec.rules.backendRefs", received)
        seen[pods] = text(backend, "name")


def _methods(route: Object, rule: dict[str, Any]) -> Iterator[Finding]:
    """What a rule lets through: known calls, and not the config reload, which needs no authentication."""
    for method in [mapping(match, "method") for match in items(rule, "matches")] or [{}]:
        service, name = text(method, "service"), text(method, "method")
        if method.get("type") not in (None, "Exact"):
            continue
        if service in ("", _RELOAD[0]) and name in ("", _RELOAD[1]):
            yield finding("route-reload", route, "spec.rules.matches", method or "no matches, so all calls")
        known = _SERVICES.get(service, _SERVICES.keys())
        wrong = name if service in _SERVICES else service
        if wrong and wrong not in known and (service in _SERVICES or "tensorflow" in service):
            near = difflib.get_close_matches(wrong, known, 1)
            fix = f"Write {near[0]}." if near else "Correct the name."
            yield finding("route-method", route, "spec.rules.matches.method", f"{service}/{name or '*'}", fix=fix)
