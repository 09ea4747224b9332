"""Deployments and jobs: how they roll, spread and start, and on which nodes."""

import re
from collections.abc import Iterator
from typing import Any

from serving.check.findings import Finding, Row, finding, refused
from serving.check.manifests.objects import Manifests, Object, Pod, Probe
from serving.check.manifests.servers import Server, servers
from serving.check.manifests.values import dig, integer, items, mapping, matches, strings, text
from serving.check.rules.workloads.scaling import replicas, share

_WIDE = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")
_NODE_LABELS = {"kubernetes.io/hostname", "kubernetes.io/os", "kubernetes.io/arch", *_WIDE,
                "node.kubernetes.io/instance-type"}  # fmt: skip
_ROWS: tuple[Row, ...] = (
    ("strategy-recreate", "spec.strategy.type", (None, "RollingUpdate")),
    ("paused", "spec.paused", (None, False)),
)
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def check(manifests: Manifests) -> Iterator[Finding]:
    for pod in manifests.pods:
        yield from _nodes(pod)
    for server in servers(manifests):
        pod = server.pod
        arch = mapping(pod.spec, "nodeSelector").get("kubernetes.io/arch", "amd64")
        if arch != "amd64":
            yield finding("node-arch", pod, "nodeSelector", arch)
        yield from _device(server)
        if pod.object.kind == "Deployment":
            yield from _strategy(manifests, pod.object)
            yield from _progress(pod.object, server.probe("startupProbe"))
        apart = items(pod.spec, "topologySpreadConstraints") or dig(pod.spec, "affinity.podAntiAffinity")
        if pod.object.kind in ("Deployment", "StatefulSet") and not apart and replicas(manifests, pod.object)[1] != 1:
            yield finding("no-spread", pod, "topologySpreadConstraints", "none")


def _nodes(pod: Pod) -> Iterator[Finding]:
    """Labels that no node has, and rules that no node can meet."""
    chosen = mapping(pod.spec, "nodeSelector")
    keys = [(f"topologySpreadConstraints[{index}].topologyKey", text(entry, "topologyKey"))
            for index, entry in enumerate(items(pod.spec, "topologySpreadConstraints"))]  # fmt: skip
    for field, key in [*keys, *(("nodeSelector", str(key)) for key in chosen)]:
        if re.match(r"([a-z]+\.)?kubernetes\.io/", key) and key not in _NODE_LABELS and not key.startswith("node-"):
            yield finding("node-label", pod, field, repr(key), known=_NODE_LABELS)
    terms = items(pod.spec, f"affinity.nodeAffinity.{_REQUIRED}.nodeSelectorTerms")
    excluded = [_excludes(term, chosen) for term in terms]
    if terms and all(excluded):
        field = f"affinity.nodeAffinity.{_REQUIRED}"
        yield finding("node-contradiction", pod, field, "; ".join(excluded), chosen=chosen)
    for index, term in enumerate(items(pod.spec, f"affinity.podAntiAffinity.{_REQUIRED}")):
        selector, key = term.get("labelSelector"), text(term, "topologyKey")
        if pod.is_service and key in _WIDE and mapping(selector) and matches(selector, pod.labels):
            field = f"affinity.podAntiAffinity.{_REQUIRED}[{index}]"
            yield finding("anti-affinity-zone", pod, field, f"{key}, required, for labels that these pods have")


def _excludes(term: dict[str, Any], chosen: dict[str, Any]) -> str:
    """What in a term excludes the chosen labels; "" when nothing does."""
    for expression in items(term, "matchExpressions"):
        key = text(expression, "key")
        if key in chosen and not matches({"matchExpressions": [expression]}, {key: chosen[key]}):
            return f"{key} {expression.get('operator')} {strings(expression.get('values'))}"
    return ""


def _device(server: Server) -> Iterator[Finding]:
    limits = mapping(server.data, "resources.limits")
    for key in [text(entry, "key") for entry in items(server.pod.spec, "tolerations")]:
        if key.partition("/")[2] == "gpu" and key not in limits:
            yield finding("device", server, f"resources.limits[{key}]", "none", device=key)


def _strategy(manifests: Manifests, workload: Object) -> Iterator[Finding]:
    yield from refused(workload, workload.data, _ROWS)
    most = replicas(manifests, workload)[1]
    unavailable = dig(workload.spec, "strategy.rollingUpdate.maxUnavailable")
    away = share("25%" if unavailable is None else unavailable, 100 if most is None else most, up=False)
    if away and text(workload.spec, "strategy.type") in ("", "RollingUpdate"):
        shown = "25% (the default)" if unavailable is None else repr(unavailable)
        yield finding("strategy-unavailable", workload, "spec.strategy.rollingUpdate.maxUnavailable", shown)
    if workload.spec.get("revisionHistoryLimit") == 0:
        yield finding("no-history", workload, "spec.revisionHistoryLimit", "0")


def _progress(workload: Object, startup: Probe | None) -> Iterator[Finding]:
    deadline = integer(workload.spec, "progressDeadlineSeconds")
    deadline = 600 if deadline is None else deadline
    ready = integer(workload.spec, "minReadySeconds") or 0
    allowed = startup.first + startup.seconds if startup else 0
    if deadline <= max(ready, allowed - 1):
        values = {"allowed": allowed, "ready": ready, "enough": max(ready, allowed) + 300}
        yield finding("progress-short", workload, "spec.progressDeadlineSeconds", deadline, **values)
