"""Prometheus: what is scraped is there, at the path and the port that a monitor names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from serving.check._data import items, mapping, matches, strings, text
from serving.check._manifests import Finding, Manifests, Object, Pod
from serving.check._server import Server, servers
from serving.check.network import covers, rules
from serving.check.selectors import nothing, port_of
from serving.models_config import textproto

__all__ = ["check"]

_DEFAULT_PATH = "/monitoring/prometheus/metrics"
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SILENT = "Nothing is scraped: alerts stay silent."


def check(manifests: Manifests) -> Iterator[Finding]:
    for monitor in manifests.of("PodMonitor", "ServiceMonitor"):
        yield from _monitor(manifests, monitor)
    paths = {}
    for server in servers(manifests):
        path, findings = _page(server)
        yield from findings
        if path:
            paths[str(server.container.pod.owner), server.container.pod.owner.namespace] = path
    for monitor in manifests.of("PodMonitor", "ServiceMonitor"):
        for endpoint, pods in _endpoints(manifests, monitor):
            for pod in pods:
                own = "/metrics" if _exporter(pod) else paths.get((str(pod.owner), pod.owner.namespace))
                scraped = text(endpoint.get("path")) or "/metrics"
                if own is not None and scraped != own:
                    yield Finding(
                        "monitoring-path",
                        str(monitor),
                        "spec.endpoints.path" if monitor.kind == "ServiceMonitor" else "spec.podMetricsEndpoints.path",
                        f"{own!r}, the metrics page of {pod.owner}",
                        repr(scraped),
                        "Every scrape is 404: alerts stay silent.",
                        "Make both the same.",
                    )


def _exporter(pod: Pod) -> bool:
    return any("serving.exporter" in container.arguments for container in pod.containers(init=False))


def _namespaces(manifests: Manifests, monitor: Object) -> set[str]:
    """Where a monitor looks."""
    chosen = mapping(monitor.spec.get("namespaceSelector"))
    if chosen.get("any") is True:
        return {found.namespace for found in manifests.objects}
    return set(strings(chosen.get("matchNames"))) or {monitor.namespace}


def _endpoints(manifests: Manifests, monitor: Object) -> Iterator[tuple[dict[str, Any], list[Pod]]]:
    """Each endpoint of a monitor with the pods behind it."""
    selector, namespaces = monitor.spec.get("selector"), _namespaces(manifests, monitor)
    if monitor.kind == "PodMonitor":
        pods = [pod for namespace in sorted(namespaces) for pod in manifests.selected(namespace, selector)]
        for endpoint in items(monitor.spec.get("podMetricsEndpoints")):
            yield endpoint, pods
        return
    for service in _services(manifests, monitor):
        for endpoint in items(monitor.spec.get("endpoints")):
            if any(entry.get("name") == endpoint.get("port") for entry in items(service.spec.get("ports"))):
                yield endpoint, manifests.behind(service)


def _services(manifests: Manifests, monitor: Object) -> list[Object]:
    selector, namespaces = monitor.spec.get("selector"), _namespaces(manifests, monitor)
    services = [service for namespace in sorted(namespaces) for service in manifests.of_namespace("Service", namespace)]
    return [service for service in services if matches(selector, service.labels)]


def _monitor(manifests: Manifests, monitor: Object) -> Iterator[Finding]:
    selector = monitor.spec.get("selector")
    by_service = monitor.kind == "ServiceMonitor"
    field = "spec.endpoints" if by_service else "spec.podMetricsEndpoints"
    endpoints = items(monitor.spec.get(field.partition(".")[2]))
    services = _services(manifests, monitor) if by_service else []
    pods = [pod for service in services for pod in manifests.behind(service)]
    if not by_service:
        namespaces = sorted(_namespaces(manifests, monitor))
        pods = [pod for namespace in namespaces for pod in manifests.selected(namespace, selector)]
    if not pods or not mapping(selector):
        yield nothing(manifests, monitor, "spec.selector", selector, _SILENT)
    if not endpoints:
        yield Finding("monitor-empty", str(monitor), field, "an endpoint", "none", _SILENT, "Name a port and a path.")
    for endpoint in endpoints:
        port = endpoint.get("port")
        ports = [text(entry.get("name")) for service in services for entry in items(service.spec.get("ports"))]
        if services and port not in ports:
            yield Finding(
                "missing-port",
                str(monitor),
                f"{field}.port",
                f"the name of a port of the Service ({', '.join(sorted(set(ports)))})",
                repr(port),
                _SILENT,
                "Name the port.",
            )
        if not by_service:
            for pod in pods:
                yield from port_of(monitor, f"{field}.port", port, pod)
                yield from _reached(manifests, monitor, pod, port)
        every, limit = _seconds(endpoint.get("interval")), _seconds(endpoint.get("scrapeTimeout"))
        if every is not None and limit is not None and limit > every:
            yield Finding(
                "monitor-timeout",
                str(monitor),
                f"{field}.scrapeTimeout",
                f"at most the interval, {endpoint['interval']}",
                str(endpoint["scrapeTimeout"]),
                "The operator leaves the whole monitor out: " + _SILENT.lower(),
                "Lower it.",
            )


def _reached(manifests: Manifests, monitor: Object, pod: Pod, port: Any) -> Iterator[Finding]:
    number = pod.port_numbers().get(text(port))
    let = rules(manifests, pod, "ingress")
    if number and let is not None and not any(covers(rule, pod, number) for rule in let):
        yield Finding(
            "port-closed",
            str(pod.owner),
            "NetworkPolicy spec.ingress",
            f"a rule that lets Prometheus reach port {number} over TCP, since {monitor} names it",
            "none of the policies that select its pods has one",
            "Every scrape is dropped: alerts stay silent.",
            "Add the port to a rule for Prometheus.",
        )


def _seconds(value: Any) -> float | None:
    """A duration of Prometheus, as 15s or 1m30s."""
    parts = re.findall(r"(\d+)(ms|[smhd])", text(value))
    return sum(int(number) * _UNITS[unit] for number, unit in parts) if parts else None


def _page(server: Server) -> tuple[str, list[Finding]]:
    """The path of a server's metrics page, "" without one, and what is wrong with its config."""
    file = server.file("monitoring_config_file")
    if file is None or file.text is None:
        return "", []
    try:
        found = textproto.parse(file.text).message("prometheus_config")
        path = (found[1].text("path") if found else "") or _DEFAULT_PATH
        enabled = found is not None and any(
            isinstance(entry.value, textproto.Scalar) and entry.value.value in ("true", "True", "t", 1)
            for entry in found[1].all("enable")
        )
        shown = "off"
    except textproto.TextProtoError as error:
        path, enabled, shown = "", False, str(error)
    if enabled:
        return path, []
    why = "There is no metrics page: alerts stay silent."
    expected = "prometheus_config { enable: true }"
    return "", [Finding("monitoring", file.where, file.field, expected, shown, why, "Switch it on.")]
