"""Deployments and jobs: how they roll, spread and start, and on which nodes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from serving.check.findings import Finding, finding
from serving.check.manifests.objects import Manifests, Object, Pod
from serving.check.manifests.servers import Server, servers
from serving.check.manifests.values import dig, integer, items, mapping, matches, strings, text
from serving.check.rules.workloads.scaling import most

__all__ = ["check", "startup_seconds"]

_NODES = "https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/"

_NODE_LABELS = {
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
}
_WIDE = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")
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
            yield from _progress(pod.object, mapping(server.data, "startupProbe"))
        apart = items(pod.spec, "topologySpreadConstraints") or dig(pod.spec, "affinity.podAntiAffinity")
        if pod.object.kind in ("Deployment", "StatefulSet") and not apart and most(manifests, pod.object) != 1:
            yield finding("no-spread", pod, "topologySpreadConstraints", "none")


def _nodes(pod: Pod) -> Iterator[Finding]:
    """Labels that no node has, and rules that no node can meet."""
    chosen = mapping(pod.spec, "nodeSelector")
    keys = [(f"topologySpreadConstraints[{index}].topologyKey", text(entry, "topologyKey"))
            for index, entry in enumerate(items(pod.spec, "topologySpreadConstraints"))]  # fmt: skip
    for field, key in [*keys, *(("nodeSelector", str(key)) for key in chosen)]:
        if re.match(r"([a-z]+\.)?kubernetes\.io/", key) and key not in _NODE_LABELS and not key.startswith("node-"):
            yield finding("node-label", pod, field, repr(key), known=", ".join(sorted(_NODE_LABELS)))
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
    strategy = mapping(workload.spec, "strategy")
    rolling = mapping(strategy, "rollingUpdate")
    unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
    if strategy.get("type") not in (None, "RollingUpdate"):
        yield finding("strategy-recreate", workload, "spec.strategy.type", strategy["type"])
        return
    if _away(unavailable, most(manifests, workload)):
        shown = "25% (the default)" if unavailable is None else repr(unavailable)
        yield finding("strategy-unavailable", workload, "spec.strategy.rollingUpdate.maxUnavailable", shown)
    if surge in (0, "0", "0%"):
        yield finding("strategy-surge", workload, "spec.strategy.rollingUpdate.maxSurge", "0")
    if workload.spec.get("paused") is True:
        yield finding("paused", workload, "spec.paused", "true")
    if workload.spec.get("revisionHistoryLimit") == 0:
        yield finding("no-history", workload, "spec.revisionHistoryLimit", "0")


def _away(unavailable: Any, replicas: int | None) -> bool:
    """Whether a roll may take a pod away; a share is rounded down."""
    share = "25%" if unavailable is None else str(unavailable)
    if share.endswith("%") and share[:-1].isdecimal():
        return int(share[:-1]) * (100 if replicas is None else replicas) >= 100
    return share != "0"


def startup_seconds(probe: dict[str, Any]) -> int:
    """How long a startup probe lets a container take."""
    period, tries = integer(probe, "periodSeconds") or 10, integer(probe, "failureThreshold") or 3
    return period * tries + (integer(probe, "initialDelaySeconds") or 0)


def _progress(workload: Object, startup: dict[str, Any]) -> Iterator[Finding]:
    deadline = integer(workload.spec, "progressDeadlineSeconds")
    deadline = 600 if deadline is None else deadline
    ready = integer(workload.spec, "minReadySeconds") or 0
    allowed = startup_seconds(startup) if startup else 0
    if deadline <= max(ready, allowed - 1):
        values = {"allowed": allowed, "ready": ready, "enough": max(ready, allowed) + 300}
        yield finding("progress-short", workload, "spec.progressDeadlineSeconds", deadline, **values)
