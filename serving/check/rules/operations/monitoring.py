"""Prometheus: scraped pages exist, and alerts ask for metrics, models and labels that exist."""

import functools
import re
from collections.abc import Iterator
from typing import Any

from serving.check.findings import Finding, finding
from serving.check.manifests.objects import Manifests, Object, Pod
from serving.check.manifests.servers import labels_by_model, servers
from serving.check.manifests.values import items, mapping, matches, strings, text
from serving.check.rules.cluster.network import lets_through, rules_for
from serving.check.rules.cluster.references import selects_nothing
from serving.check.rules.cluster.services import missing_port
from serving.local.metrics import Metrics
from serving.models_config import textproto

_DEFAULT_PATH = "/monitoring/prometheus/metrics"
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SELECTED = re.compile(r"(duoserve[:_][\w:]*|:?tensorflow[:_][\w:]*)\s*\{((?:[^}\"']|\"[^\"]*\"|'[^']*')*)\}")
_MATCHER = re.compile(r"(model|model_name|label)\s*(=~?)\s*(?:\"([^\"]*)\"|'([^']*)')")
_TOKENS = re.compile(r"#[^\n]*|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|`[^`]*`", re.DOTALL)
_PAIRS = {")": "(", "]": "[", "}": "{"}


def check(manifests: Manifests) -> Iterator[Finding]:
    pages: dict[Pod, str] = {}
    for server in servers(manifests):
        file = server.file("monitoring_config_file")
        if file is not None and file.text is not None:
            try:
                pages[server.pod] = _page(file.text)
            except textproto.TextProtoError as error:
                yield finding("monitoring", file, "", error)
    for monitor in manifests.of("PodMonitor", "ServiceMonitor"):
        yield from _monitor(manifests, monitor, pages)
    yield from _alerts(manifests)


def _page(content: str) -> str:
    """The path of the metrics page that a monitoring.config switches on; TextProtoError without one."""
    found = textproto.parse(content).message("prometheus_config")
    values = [entry.value for entry in found[1].all("enable")] if found else []
    if found and any(isinstance(v, textproto.Scalar) and v.value in ("true", "True", "t", 1) for v in values):
        return found[1].text("path") or _DEFAULT_PATH
    raise textproto.TextProtoError("off")


def _monitor(manifests: Manifests, monitor: Object, pages: dict[Pod, str]) -> Iterator[Finding]:
    by_service = monitor.kind == "ServiceMonitor"
    name = "endpoints" if by_service else "podMetricsEndpoints"
    field, selector = f"spec.{name}", monitor.spec.get("selector")
    namespaces = _namespaces(manifests, monitor)
    services = [s for where in namespaces for s in manifests.of("Service", namespace=where)]
    services = [service for service in services if matches(selector, service.labels)]
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
            shown = {str(service) for service in services}
            yield finding("missing-port", monitor, f"{field}.port", repr(port), object=shown, known=ports)
        for pod in pods:
            if not by_service:
                yield from missing_port(monitor, f"{field}.port", port, pod)
                yield from _closed(monitor, pod, port)
            path = "/metrics" if _is_exporter(pod) else pages.get(pod)
            scraped = text(endpoint, "path") or "/metrics"
            if path is not None and scraped != path and (not by_service or port in ports):
                yield finding("monitoring-path", monitor, f"{field}.path", repr(scraped), path=path, object=pod.object)
        every, limit = _seconds(endpoint.get("interval")), _seconds(endpoint.get("scrapeTimeout"))
        if every and limit > every:
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


def _seconds(value: Any) -> float:
    """A duration such as "1m30s"; 0 when it is absent or invalid."""
    return sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+)(ms|[smhd])", text(value)))


def _alerts(manifests: Manifests) -> Iterator[Finding]:
    files = manifests.of("PrometheusRule")
    rules = [(found, rule) for found in files for rule in items(found.spec, "groups", "rules")]
    recorded = {text(rule, "record") for _, rule in rules}
    served = labels_by_model(manifests)
    for found, rule in rules:
        at, expression = f"spec.groups.rules[{rule.get('alert') or rule.get('record')}].expr", str(rule.get("expr"))
        wrong = _unbalanced(expression)
        if wrong:
            yield finding("rule-syntax", found, at, wrong)
        else:
            yield from _metrics(found, at, expression, recorded)
            yield from _values(found, at, expression, served)


def _unbalanced(expression: str) -> str:
    """The bracket or quote without its other half; "" when there is none."""
    open_: list[str] = []
    for sign in _TOKENS.sub("", expression):
        if sign in "\"'`":
            return f"a {sign!r} that is not closed"
        if sign in _PAIRS.values():
            open_.append(sign)
        elif sign in _PAIRS and (not open_ or open_.pop() != _PAIRS[sign]):
            return f"a {sign!r} that closes nothing"
    return f"a {open_[-1]!r} that is not closed" if open_ else ""


def _metrics(found: Object, at: str, expression: str, recorded: set[str]) -> Iterator[Finding]:
    """Metrics that no server, exporter or rule has."""
    bare = re.sub(r"\{[^}]*\}", "", _TOKENS.sub("", expression))
    exported = _exported()
    for name in sorted(set(re.findall(r"[\w:]+", bare)) - recorded):
        if re.match("duoserve[:_]", name) and exported and name not in exported:
            known = f"a metric of the exporter ({', '.join(sorted(exported))}) or one that a rule records"
            yield finding("rule-metric", found, at, name, known=known)
        if re.match(":?tensorflow[:_]", name) and not _is_served(name):
            known = "a metric of the server, such as :tensorflow:serving:request_count"
            yield finding("rule-metric", found, at, name, known=known)


def _values(found: Object, at: str, expression: str, served: dict[str, set[str]]) -> Iterator[Finding]:
    """Models and labels that the servers do not have."""
    for selected in _SELECTED.finditer(expression):
        for matcher in _MATCHER.finditer(selected[2]):
            what = "label" if matcher[1] == "label" else "model"
            known = set().union(*served.values()) if what == "label" else set(served)
            pattern = matcher[3] or matcher[4] or ""
            if known and pattern and not any(_takes(matcher[2], pattern, name) for name in known):
                yield finding("rule-value", found, at, matcher[0], what=what, known=known)


def _takes(operator: str, pattern: str, name: str) -> bool:
    try:
        return re.fullmatch(pattern, name) is not None if operator == "=~" else pattern == name
    except re.error:  # a word that only RE2 has
        return True


def _is_served(name: str) -> bool:
    """Whether the model server has a metric; one under another prefix than `serving` may be of TensorFlow."""
    if name.startswith(":tensorflow:") and not name.startswith(":tensorflow:serving:"):
        return True
    return bool({name, re.sub("_(bucket|sum|count)$", "", name)} & _stock_metrics())


@functools.cache
def _stock_metrics() -> frozenset[str]:
    """The metrics of the embedded server, which has those of the stock server."""
    return frozenset(metric.name for metric in Metrics().all())


@functools.cache
def _exported() -> frozenset[str]:
    """The exporter's metrics; none where its package is missing."""
    try:
        from serving.exporter import VersionCollector
    except ImportError:
        return frozenset()
    return frozenset(family.name for family in VersionCollector([], "", []).describe())
