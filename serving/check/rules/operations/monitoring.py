"""Prometheus: the scraped pages exist, at the path and the port of the monitor."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from serving.check.findings import Finding, finding
from serving.check.manifests.objects import Manifests, Object, Pod
from serving.check.manifests.policies import lets_through, rules_for
from serving.check.manifests.servers import Server, servers
from serving.check.manifests.values import items, mapping, matches, strings, text
from serving.check.rules.cluster.selectors import selects_nothing
from serving.check.rules.cluster.services import missing_port
from serving.models_config import textproto

__all__ = ["check"]


_DEFAULT_PATH = "/monitoring/prometheus/metrics"
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def check(manifests: Manifests) -> Iterator[Finding]:
    pages: dict[Pod, str] = {}
    for server in servers(manifests):
        path, findings = _page(server)
        yield from findings
        if path:
            pages[server.pod] = path
    for monitor in manifests.of("PodMonitor", "ServiceMonitor"):
        yield from _monitor(manifests, monitor, pages)


def _page(server: Server) -> tuple[str, list[Finding]]:
    """The path of a server's metrics page, "" without one, and what is wrong with its config."""
    file = server.file("monitoring_config_file")
    if file is None or file.text is None:
        return "", []
    try:
        found = textproto.parse(file.text).message("prometheus_config")
    except textproto.TextProtoError as error:
        return "", [finding("monitoring", file, "", error)]
    values = [entry.value for entry in found[1].all("enable")] if found else []
    if found and any(isinstance(v, textproto.Scalar) and v.value in ("true", "True", "t", 1) for v in values):
        return found[1].text("path") or _DEFAULT_PATH, []
    return "", [finding("monitoring", file, "", "off")]


def _monitor(manifests: Manifests, monitor: Object, pages: dict[Pod, str]) -> Iterator[Finding]:
    by_service = monitor.kind == "ServiceMonitor"
    name = "endpoints" if by_service else "podMetricsEndpoints"
    field, selector = f"spec.{name}", monitor.spec.get("selector")
    namespaces = _namespaces(manifests, monitor)
    services = [
        s for where in namespaces for s in manifests.of("Service", namespace=where) if matches(selector, s.labels)
    ]
    pods = [pod for where in namespaces for pod in manifests.selected(where, selector)]
    if by_service:
        pods = [pod for service in services for pod in manifests.behind(service)]
    if not pods or not mapping(selector):
        yield selects_nothing(manifests, monitor, "spec.selector", selector)
    if not items(monitor.spec, name):
        yield finding("monitor-empty", monitor, field, "none")
    for endpoint in items(monitor.spec, name):
        port = endpoint.get("port")
        ports = {text(entry, "name") for service in services for entry in items(service.spec, "ports")}
        if by_service and services and port not in ports:
            yield finding(
                "missing-port",
                monitor,
                f"{field}.port",
                repr(port),
                object={str(service) for service in services},
                known=ports,
            )
        for pod in pods:
            if not by_service:
                yield from missing_port(monitor, f"{field}.port", port, pod)
                yield from _closed(monitor, pod, port)
            path = "/metrics" if _is_exporter(pod) else pages.get(pod)
            scraped = text(endpoint, "path") or "/metrics"
            if path is not None and scraped != path and (not by_service or port in ports):
                yield finding("monitoring-path", monitor, f"{field}.path", repr(scraped), path=path, object=pod.object)
        every, limit = _seconds(endpoint.get("interval")), _seconds(endpoint.get("scrapeTimeout"))
        if every is not None and limit is not None and limit > every:
            values = {"interval": endpoint["interval"]}
            yield finding("monitor-timeout", monitor, f"{field}.scrapeTimeout", endpoint["scrapeTimeout"], **values)


def _is_exporter(pod: Pod) -> bool:
    return any("serving.exporter" in container.arguments for container in pod.containers(init=False))


def _namespaces(manifests: Manifests, monitor: Object) -> list[str]:
    """The namespaces of a monitor's pods or Services."""
    chosen = mapping(monitor.spec, "namespaceSelector")
    if chosen.get("any") is True:
        return sorted({found.namespace for found in manifests.objects})
    return sorted(set(strings(chosen, "matchNames")) or {monitor.namespace})


def _closed(monitor: Object, pod: Pod, port: Any) -> Iterator[Finding]:
    number, let = pod.port_number(port), rules_for(pod, "ingress")
    if number and let is not None and not any(lets_through(rule, pod, number) for rule in let):
        received = f"none, though {monitor} names it"
        yield finding("port-closed", pod.object, "NetworkPolicy spec.ingress", received, port=number, object=pod.object)


def _seconds(value: Any) -> float | None:
    parts = re.findall(r"(\d+)(ms|[smhd])", text(value))
    return sum(int(number) * _UNITS[unit] for number, unit in parts) if parts else None
