"""Gateway API: routes that are attached, lead to the right port, and let no config reload through."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from serving.check._data import integer, items, mapping, text
from serving.check._manifests import Finding, Manifests, Object
from serving.check._server import servers

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
        rules = items(route.spec.get("rules"))
        if not any(items(rule.get("backendRefs")) for rule in rules):
            yield Finding(
                "route-empty",
                str(route),
                "spec.rules",
                "a rule with backendRefs",
                str(route.spec.get("rules")),
                "The gateway answers every call with an error.",
                "Name the Service.",
            )
        for rule in rules:
            backends = items(rule.get("backendRefs"))
            for backend in backends:
                yield from _backend(manifests, route, backend)
            yield from _weights(manifests, route, backends)
            if route.kind == "GRPCRoute" and _serves(manifests, route, backends):
                yield from _methods(route, rule)


def _parents(manifests: Manifests, route: Object) -> Iterator[Finding]:
    for parent in items(route.spec.get("parentRefs")):
        namespace = text(parent.get("namespace")) or route.namespace
        if text(parent.get("kind")) not in ("", "Gateway") or namespace != route.namespace:
            continue
        name, section = text(parent.get("name")), text(parent.get("sectionName"))
        gateway = manifests.find("Gateway", name, namespace)
        listeners = (
            {text(entry.get("name")): entry for entry in items(gateway.spec.get("listeners"))} if gateway else {}
        )
        if (gateway is None and not manifests.external("Gateway", name)) or (
            gateway and section and section not in listeners
        ):
            yield Finding(
                "route-parent",
                str(route),
                "spec.parentRefs",
                "a Gateway of this namespace, and a listener of it",
                f"{name!r}, listener {section or 'any'!r}",
                "The route is attached to nothing.",
                "Correct the Gateway's name or sectionName.",
            )
        for listener in [entry for key, entry in listeners.items() if section in ("", key)]:
            protocol = text(listener.get("protocol"))
            if route.kind in ("GRPCRoute", "HTTPRoute") and protocol not in ("HTTP", "HTTPS"):
                yield Finding(
                    "route-listener",
                    str(gateway),
                    f"spec.listeners[{listener.get('name')}].protocol",
                    f"HTTP or HTTPS, for a {route.kind}",
                    repr(protocol),
                    "The listener takes no such route: it is attached to nothing.",
                    "Correct the protocol.",
                )


def _backend(manifests: Manifests, route: Object, backend: dict[str, Any]) -> Iterator[Finding]:
    name, port = text(backend.get("name")), backend.get("port")
    if text(backend.get("kind")) not in ("", "Service") or backend.get("namespace") not in (None, route.namespace):
        return
    service = manifests.find("Service", name, route.namespace)
    ports = [entry.get("port") for entry in items(service.spec.get("ports"))] if service else []
    if service is None or port not in ports:
        known = ", ".join(sorted(s.name for s in manifests.of("Service") if s.namespace == route.namespace)) or "none"
        yield Finding(
            "route-backend",
            str(route),
            "spec.rules.backendRefs",
            f"a Service of this namespace ({known}) and one of its ports",
            f"{name!r}, port {port}" + (f" (it has {', '.join(map(str, ports))})" if service else ""),
            "The gateway answers this share of the calls with an error.",
            "Correct the Service's name or port.",
        )
        return
    entry = next(entry for entry in items(service.spec.get("ports")) if entry.get("port") == port)
    target = entry.get("targetPort", port)
    for server in servers(manifests):
        pod = server.container.pod
        number = pod.port_numbers().get(target) if isinstance(target, str) else target
        other = {"GRPCRoute": "rest_api_port", "HTTPRoute": "port"}.get(route.kind)
        if other and pod in manifests.behind(service) and number == server.number(other):
            yield Finding(
                "route-protocol",
                str(route),
                "spec.rules.backendRefs.port",
                "the REST port for an HTTPRoute, the gRPC port for a GRPCRoute",
                f"port {port} of {name}, which is --{other}",
                "The server does not speak that protocol there: every call fails.",
                "Name the other port.",
            )


def _weights(manifests: Manifests, route: Object, backends: list[dict[str, Any]]) -> Iterator[Finding]:
    weights = [integer(backend.get("weight", 1)) for backend in backends]
    if backends and (
        not sum(weight or 0 for weight in weights) or any(weight is None or weight < 0 for weight in weights)
    ):
        yield Finding(
            "route-weights",
            str(route),
            "spec.rules.backendRefs.weight",
            "numbers of at least 0 with a sum above 0",
            str([backend.get("weight", 1) for backend in backends]),
            "The gateway answers every call with an error, or the API server refuses the route.",
            "Give the stable Service its weight.",
        )
    seen: dict[tuple[str, ...], str] = {}
    for backend in backends:
        service = manifests.find("Service", text(backend.get("name")), route.namespace)
        pods = tuple(sorted(str(pod.owner) for pod in manifests.behind(service))) if service else ()
        if pods and pods in seen:
            yield Finding(
                "route-same-pods",
                str(route),
                "spec.rules.backendRefs",
                "Services of different pods",
                f"{seen[pods]!r} and {backend.get('name')!r}, both {', '.join(pods)}",
                "The weights split nothing: all calls go to the same pods.",
                "Correct the Service's name, or its selector (duoserve.dev/track).",
            )
        seen[pods] = text(backend.get("name"))


def _serves(manifests: Manifests, route: Object, backends: list[dict[str, Any]]) -> bool:
    """Whether a backend is the model server."""
    pods = [server.container.pod for server in servers(manifests)]
    found = [manifests.find("Service", text(backend.get("name")), route.namespace) for backend in backends]
    return any(pod in pods for service in found if service for pod in manifests.behind(service))


def _methods(route: Object, rule: dict[str, Any]) -> Iterator[Finding]:
    """What a rule lets through: known calls, and not the config reload, which asks for no password."""
    methods = [mapping(match.get("method")) for match in items(rule.get("matches"))] or [{}]
    for method in methods:
        service, name = text(method.get("service")), text(method.get("method"))
        exact = method.get("type") in (None, "Exact")
        if exact and service in ("", _RELOAD[0]) and name in ("", _RELOAD[1]):
            yield Finding(
                "route-reload",
                str(route),
                "spec.rules.matches",
                "the calls of clients: PredictionService, and GetModelStatus of ModelService",
                str(method or "no matches, so all calls"),
                "HandleReloadConfigRequest passes: any caller of the gateway can replace or unload the models.",
                "Match services and methods by name.",
            )
        known = _SERVICES.keys() if service not in _SERVICES else _SERVICES[service]
        wrong = service if service not in _SERVICES else name
        if exact and service and wrong and wrong not in known and (service in _SERVICES or "tensorflow" in service):
            near = difflib.get_close_matches(wrong, known, 1)
            yield Finding(
                "route-method",
                str(route),
                "spec.rules.matches.method",
                "a service and a method of the server",
                f"{service}/{name or '*'}",
                "No call matches: clients get UNIMPLEMENTED.",
                f"Write {near[0]}." if near else "Correct the name.",
            )
