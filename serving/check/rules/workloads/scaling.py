"""How many replicas: autoscalers, workloads without a size, and how many pods a node drain may take."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

from serving.check.findings import Finding, finding
from serving.check.manifests.objects import Manifests, Object, Pod
from serving.check.manifests.servers import servers
from serving.check.manifests.values import integer, items, mapping, matches, text
from serving.check.rules.cluster.references import selects_nothing

__all__ = ["autoscaler", "check", "fewest", "most", "replica_range"]

_SCALERS = ("HorizontalPodAutoscaler", "ScaledObject")


def check(manifests: Manifests) -> Iterator[Finding]:
    serving = {(server.object.kind, server.object.name) for server in servers(manifests)}
    for scaler in manifests.of(*_SCALERS):
        yield from _target(manifests, scaler)
        for metric in items(scaler.spec, "metrics"):
            kind = text(metric, "type")
            source = mapping(metric, kind[:1].lower() + kind[1:])
            if source.get("name") == "memory" and _target_of(scaler) in serving:
                yield finding("scaler-memory", scaler, "spec.metrics", "memory")
            used = integer(source, "target.averageUtilization")
            if used is not None and not 10 <= used <= 90:
                yield finding("scaler-utilization", scaler, "spec.metrics.target.averageUtilization", used)
    for scaler in manifests.of(*_SCALERS, "InferenceService"):
        least, most = replica_range(scaler)
        low, high = integer(least), integer(most)
        if low is None or high is None or low < 1 or low > high:
            yield finding("scaler-range", scaler, "spec", f"{least} to {most}")
    yield from _twice(manifests)
    for server in servers(manifests):
        found = server.object
        replicas = found.spec.get("replicas")
        unsized = replicas is None and autoscaler(manifests, found) is None
        if found.kind in ("Deployment", "StatefulSet") and (replicas == 0 or unsized):
            yield finding(
                "replicas-none", found, "spec.replicas", "0" if replicas == 0 else "neither, which is one replica"
            )
    yield from _budgets(manifests)


def replica_range(scaler: Object) -> tuple[Any, Any]:
    """Fewest and most replicas of an autoscaler, as written."""
    spec = scaler.spec
    if scaler.kind == "InferenceService":
        spec = mapping(spec, "predictor")
    if scaler.kind == "ScaledObject":
        return spec.get("minReplicaCount", 0), spec.get("maxReplicaCount", 100)
    return spec.get("minReplicas", 1), spec.get("maxReplicas", 1 if scaler.kind == "InferenceService" else None)


def autoscaler(manifests: Manifests, workload: Object) -> Object | None:
    """The autoscaler of a workload."""
    for scaler in manifests.of(*_SCALERS, namespace=workload.namespace):
        if _target_of(scaler) == (workload.kind, workload.name):
            return scaler
    return workload if workload.kind == "InferenceService" else None


def fewest(manifests: Manifests, workload: Object) -> int:
    """The replicas that a workload has at least."""
    scaler = autoscaler(manifests, workload)
    return integer(replica_range(scaler)[0] if scaler else workload.spec.get("replicas", 1)) or 0


def most(manifests: Manifests, workload: Object) -> int | None:
    """The replicas that a workload has at most; None when they can't be known."""
    scaler = autoscaler(manifests, workload)
    return integer(replica_range(scaler)[1] if scaler else workload.spec.get("replicas", 1))


def _target_of(scaler: Object) -> tuple[str, str]:
    target = mapping(scaler.spec, "scaleTargetRef")
    return text(target, "kind") or "Deployment", text(target, "name")


def _target(manifests: Manifests, scaler: Object) -> Iterator[Finding]:
    kind, name = _target_of(scaler)
    found = manifests.find(kind, name, scaler.namespace)
    version = text(scaler.spec, "scaleTargetRef.apiVersion")
    if found is None or (version and version != found.api_version):
        known = sorted(f"{other.api_version} {other}" for other in manifests.of(kind, namespace=scaler.namespace))
        received = f"{version} {kind}/{name}".strip()
        yield finding(
            "scaler-target", scaler, "spec.scaleTargetRef", received, kind=kind, known=", ".join(known) or "none"
        )
        return
    if "replicas" in found.spec:
        yield finding("replicas-and-scaler", found, "spec.replicas", found.spec["replicas"], scaler=scaler)
    pods = [pod for pod in manifests.pods_of(found.namespace) if pod.object is found]
    containers = sorted({text(container.data, "name") for pod in pods for container in pod.containers()})
    for metric in items(scaler.spec, "metrics"):
        wanted = text(metric, "containerResource.container")
        if wanted and wanted not in containers:
            field = "spec.metrics.containerResource.container"
            yield finding("scaler-container", scaler, field, repr(wanted), object=found, known=", ".join(containers))


def _twice(manifests: Manifests) -> Iterator[Finding]:
    scalers = manifests.of(*_SCALERS)
    targets = Counter((scaler.namespace, *_target_of(scaler)) for scaler in scalers)
    for scaler in scalers:
        target = (scaler.namespace, *_target_of(scaler))
        if targets[target] > 1:
            every = ", ".join(str(other) for other in scalers if (other.namespace, *_target_of(other)) == target)
            yield finding("scaler-twice", scaler, "spec.scaleTargetRef", every, target="/".join(target[1:]))


def _budgets(manifests: Manifests) -> Iterator[Finding]:
    for budget in manifests.of("PodDisruptionBudget"):
        yield from _budget(manifests, budget)
    for pod in [server.pod for server in servers(manifests)]:
        budgets = manifests.of("PodDisruptionBudget", namespace=pod.namespace)
        covered = any(matches(budget.spec.get("selector"), pod.labels) for budget in budgets)
        if pod.is_service and pod.object.kind != "Pod" and not covered and most(manifests, pod.object) != 1:
            yield finding("no-budget", pod.object, "metadata.labels", "none")


def _budget(manifests: Manifests, budget: Object) -> Iterator[Finding]:
    selector = budget.spec.get("selector")
    pods = manifests.selected(budget.namespace, selector)
    owners = sorted({str(pod.object) for pod in pods})
    if not mapping(selector):
        yield finding("selects-all", budget, "spec.selector", selector)
    elif not pods:
        yield selects_nothing(manifests, budget, "spec.selector", selector)
    elif len(owners) > 1:
        yield finding("budget-mixes", budget, "spec.selector", ", ".join(owners))
    away, least = budget.spec.get("maxUnavailable"), budget.spec.get("minAvailable")
    for replicas in sorted(set(_sizes(manifests, pods))):
        allowed = _allowed(away, least, replicas)
        shown = f"minAvailable {least}" if away is None else f"maxUnavailable {away}"
        if allowed < 1 or (replicas > 1 and allowed >= replicas):
            rule = "budget-blocks" if allowed < 1 else "budget-open"
            yield finding(rule, budget, "spec", f"{shown} of {replicas} replicas")
            return


def _sizes(manifests: Manifests, pods: list[Pod]) -> tuple[int, int]:
    """Fewest and most replicas of the pods' workload; two if they can't be known."""
    workload = pods[0].object if pods else None
    scaler = autoscaler(manifests, workload) if workload else None
    low, high = replica_range(scaler) if scaler else (workload.spec.get("replicas", 1), None) if workload else (2, 2)
    least = integer(low) or 2
    return least, integer(high) or least


def _allowed(away: Any, least: Any, replicas: int) -> int:
    """Pods that may be away; percentages round up, as the API server does."""

    def number(value: Any) -> int:
        share = str(value)
        if share.endswith("%") and share[:-1].isdecimal():
            return math.ceil(int(share[:-1]) * replicas / 100)
        return int(share) if share.isdecimal() else 1

    if away is not None:
        return number(away)
    return replicas - number(least) if least is not None else 1
