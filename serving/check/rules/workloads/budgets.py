"""Disruption budgets: a node drain evicts one server at a time, and is not blocked."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from serving.check.findings import Finding, finding
from serving.check.manifests.objects import Manifests, Object, Pod
from serving.check.manifests.servers import servers
from serving.check.manifests.values import integer, mapping, matches
from serving.check.rules.cluster.selectors import selects_nothing
from serving.check.rules.workloads.scaling import autoscaler, most, replica_range

__all__ = ["check"]


def check(manifests: Manifests) -> Iterator[Finding]:
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
