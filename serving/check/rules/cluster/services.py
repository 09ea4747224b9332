"""Services and routes: they lead to the server's ports, and clients can balance over the replicas."""

import difflib
from collections.abc import Iterator
from typing import Any

from serving.check.findings import Finding, finding
from serving.check.manifests.objects import Manifests, Object, Pod
from serving.check.manifests.servers import Server, is_ours, servers
from serving.check.manifests.values import integer, items, mapping, text

_SERVICES = {
    "tensorflow.serving.PredictionService": {"Predict", "GetModelMetadata", "Classify", "Regress", "MultiInference"},
    "tensorflow.serving.ModelService": {"GetModelStatus", "HandleReloadConfigRequest"},
    "tensorflow.serving.SessionService": {"SessionRun"},
    "grpc.health.v1.Health": {"Check", "Watch"},
}
_RELOAD = ("tensorflow.serving.ModelService", "HandleReloadConfigRequest")


def check(manifests: Manifests) -> Iterator[Finding]:
    for service in manifests.of("Service"):
        for pod in manifests.behind(service):
            for port in items(service.spec, "ports"):
                yield from _port(service, port, pod)
        yield from _exposed(manifests, service)
    for policy in manifests.of("NetworkPolicy"):
        selector = mapping(policy.spec, "podSelector")
        for port in items(policy.spec, "ingress", "ports") if selector else ():
            for pod in manifests.selected(policy.namespace, selector) if port.get("port") is not None else ():
                yield from missing_port(policy, "spec.ingress.ports", port["port"], pod)
    for server in servers(manifests):
        if server.pod.is_service:
            yield from _headless(manifests, server)
    yield from _routes(manifests)


def missing_port(found: Object, field: str, target: Any, pod: Pod) -> Iterator[Finding]:
    """A port, by name or number, that the pod does not have. A number need not be declared to be open."""
    listening = servers(pod)
    known_pod = listening or is_ours(pod)
    numbers = {number for port in pod.ports if (number := integer(port, "containerPort"))}
    numbers |= {number for server in listening for number in (server.grpc_port, server.rest_port) if number}
    quiet = [c for c in pod.containers(init=False) if not c.ports]
    unknown = not known_pod or any(c.path not in {server.path for server in listening} for c in quiet)
    number = pod.port_number(target)
    if number is None or (not isinstance(target, str) and number not in numbers and not unknown):
        named = {f"{port.get('name')}={port.get('containerPort')}" for port in pod.ports if port.get("name")}
        yield finding("missing-port", found, field, repr(target), object=pod.object, known=named or numbers)


def _port(service: Object, port: dict[str, Any], pod: Pod) -> Iterator[Finding]:
    yield from missing_port(service, "spec.ports.targetPort", port.get("targetPort", port.get("port")), pod)
    number = pod.target(port)
    at = f"spec.ports[{port.get('name') or port.get('port')}]"
    for server in servers(pod):
        if port.get("protocol") not in (None, "TCP"):
            yield finding("port-protocol", service, f"{at}.protocol", repr(port["protocol"]))
        yield from _protocol(service, at, port, server, number)
        yield from _swapped(service, at, port, server, number)


def _protocol(service: Object, at: str, port: dict[str, Any], server: Server, number: int | None) -> Iterator[Finding]:
    """A gateway that speaks HTTP/1 to the gRPC port fails every call, and the other way round."""
    hint, h2c, wanted = text(port, "appProtocol"), "kubernetes.io/h2c", ""
    if number == server.grpc_port and server.tls and hint == h2c:
        wanted = f"no {h2c} on a TLS port"
    elif number == server.grpc_port and not server.tls and hint not in (h2c, "grpc"):
        wanted = f"{h2c} on the gRPC port"
    elif number == server.rest_port and hint == h2c:
        wanted = f"no {h2c} on the REST port"
    if wanted:
        yield finding("app-protocol", service, f"{at}.appProtocol", hint or "none", wanted=wanted)


def _swapped(service: Object, at: str, port: dict[str, Any], server: Server, number: int | None) -> Iterator[Finding]:
    """A port that callers know as one API's, by its number or its name, and that leads to the other's."""
    apis = {server.grpc_port or -1: "gRPC", server.rest_port or -2: "REST"}
    leads, named = apis.get(number or 0), server.pod.port_number(text(port, "name"))
    for field, api in (("port", apis.get(integer(port, "port") or 0)), ("name", apis.get(named or 0))):
        if leads and api and api != leads:
            values = {"api": api, "object": server.object, "port": port.get(field)}
            yield finding("port-swapped", service, f"{at}.{field}", f"the {leads} port, {number}", **values)


def _exposed(manifests: Manifests, service: Object) -> Iterator[Finding]:
    pods = manifests.behind(service)
    numbers, listening = _target_numbers(service, pods), [server for pod in pods for server in servers(pod)]
    grpc, rest = {server.grpc_port for server in listening}, {server.rest_port for server in listening}
    rule = "service-exposed" if numbers & grpc else "service-exposed-rest" if numbers & rest else ""
    for field in ("type", "externalIPs"):
        shown = service.spec.get(field)
        if rule and shown and shown != "ClusterIP":
            yield finding(rule, service, f"spec.{field}", shown)


def _target_numbers(service: Object, pods: list[Pod]) -> set[int | None]:
    """The ports of pods that a Service leads to."""
    return {pod.target(port) for pod in pods for port in items(service.spec, "ports")} - {None}


def _headless(manifests: Manifests, server: Server) -> Iterator[Finding]:
    """Clients balance over the addresses of a headless Service; behind another one they stay with one pod."""
    pod = server.pod
    leading = [s for s in manifests.of("Service", namespace=pod.namespace) if pod in manifests.behind(s)]
    headless = [service for service in leading if service.spec.get("clusterIP") == "None"]
    rest_only = leading and not any(server.grpc_port in _target_numbers(service, [pod]) for service in leading)
    if not headless and not rest_only:
        yield finding("no-headless", server.object, "metadata.labels", "none")
    for service in headless:
        if service.spec.get("publishNotReadyAddresses"):
            yield finding("not-ready-addresses", service, "spec.publishNotReadyAddresses", "true")


def _routes(manifests: Manifests) -> Iterator[Finding]:
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
