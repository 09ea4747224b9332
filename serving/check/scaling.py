"""How many replicas: autoscalers, disruption budgets, and workloads that nothing sizes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

from serving.check._data import dig, integer, items, mapping, matches, text
from serving.check._manifests import Finding, Manifests, Object, Pod
from serving.check._server import servers
from serving.check.selectors import nothing

__all__ = ["check", "fewest"]

_SCALERS = ("HorizontalPodAutoscaler", "ScaledObject")


def check(manifests: Manifests) -> Iterator[Finding]:
    for scaler in manifests.of(*_SCALERS):
        yield from _target(manifests, scaler)
        yield from _metrics(manifests, scaler)
    for scaler in manifests.of(*_SCALERS, "InferenceService"):
        yield from _range(scaler)
    yield from _twice(manifests)
    for budget in manifests.of("PodDisruptionBudget"):
        yield from _budget(manifests, budget)
    for server in servers(manifests):
        yield from _sized(manifests, server.container.pod)
        yield from _protected(manifests, server.container.pod)


def _bounds(scaler: Object) -> tuple[Any, Any]:
    """Fewest and most replicas, as written."""
    spec = scaler.spec
    if scaler.kind == "InferenceService":
        spec = mapping(spec.get("predictor"))
    if scaler.kind == "ScaledObject":
        return spec.get("minReplicaCount", 0), spec.get("maxReplicaCount", 100)
    return spec.get("minReplicas", 1), spec.get("maxReplicas", 1 if scaler.kind == "InferenceService" else None)


def _aim(scaler: Object) -> tuple[str, str]:
    target = mapping(scaler.spec.get("scaleTargetRef"))
    return text(target.get("kind")) or "Deployment", text(target.get("name"))


def _scaled(manifests: Manifests, owner: Object) -> Object | None:
    """The autoscaler of a workload."""
    for scaler in [scaler for kind in _SCALERS for scaler in manifests.of_namespace(kind, owner.namespace)]:
        if _aim(scaler) == (owner.kind, owner.name):
            return scaler
    return owner if owner.kind == "InferenceService" else None


def _target(manifests: Manifests, scaler: Object) -> Iterator[Finding]:
    kind, name = _aim(scaler)
    found = manifests.find(kind, name, scaler.namespace)
    version = text(dig(scaler.spec, "scaleTargetRef", "apiVersion"))
    if found is None or (version and version != found.data.get("apiVersion")):
        known = [f"{o.data.get('apiVersion')} {o}" for o in manifests.of(kind) if o.namespace == scaler.namespace]
        yield Finding(
            "scaler-target",
            str(scaler),
            "spec.scaleTargetRef",
            f"a {kind} of this namespace ({', '.join(sorted(known)) or 'none'})",
            f"{version} {kind}/{name}".strip(),
            "It scales nothing: load grows and the replicas stay.",
            "Name the workload that serves.",
        )
        return
    if "replicas" in found.spec:
        yield Finding(
            "replicas-and-scaler",
            str(found),
            "spec.replicas",
            f"no replicas, since {scaler} owns them",
            str(found.spec["replicas"]),
            "Every apply resets the size and cuts capacity under load.",
            "Remove spec.replicas.",
        )
    containers = {
        text(c.data.get("name"))
        for pod in manifests.pods_of(found.namespace)
        if pod.owner is found
        for c in pod.containers()
    }
    for metric in items(scaler.spec.get("metrics")):
        wanted = text(dig(metric, "containerResource", "container"))
        if wanted and wanted not in containers:
            yield Finding(
                "scaler-container",
                str(scaler),
                "spec.metrics.containerResource.container",
                f"a container of {found} ({', '.join(sorted(containers))})",
                repr(wanted),
                "The metric is never there, so nothing is scaled.",
                "Correct the container's name.",
            )


def _metrics(manifests: Manifests, scaler: Object) -> Iterator[Finding]:
    serving = {(server.container.pod.owner.kind, server.container.pod.owner.name) for server in servers(manifests)}
    for metric in items(scaler.spec.get("metrics")):
        kind = text(metric.get("type"))
        source = mapping(metric.get(kind[:1].lower() + kind[1:]))
        if not source:
            yield Finding(
                "scaler-metric",
                str(scaler),
                "spec.metrics",
                f"a metric in the field of its type, {metric.get('type')}",
                str(sorted(metric.keys() - {"type"})),
                "The API server refuses it.",
                "Correct the field.",
            )
        if source.get("name") == "memory" and _aim(scaler) in serving:
            yield Finding(
                "scaler-memory",
                str(scaler),
                "spec.metrics",
                "CPU, or the time that calls wait",
                "memory",
                "The server keeps what it once took: replicas are added for a rollout and never removed.",
                "Scale by CPU.",
            )
        yield from _value(scaler, mapping(source.get("target")))
        used = integer(dig(source, "target", "averageUtilization"))
        if used is not None and not 10 <= used <= 90:
            yield Finding(
                "scaler-utilization",
                str(scaler),
                "spec.metrics.target.averageUtilization",
                "10 to 90 percent",
                str(used),
                "Above 90 calls queue before a pod is added; over 100 it may never be.",
                "Take 60.",
            )


def _value(scaler: Object, target: dict[str, Any]) -> Iterator[Finding]:
    """A target's value, in the field that its type names."""
    fields = {"Utilization": "averageUtilization", "AverageValue": "averageValue", "Value": "value"}
    wanted, given = fields.get(text(target.get("type"))), [field for field in fields.values() if field in target]
    if target and given != [wanted]:
        yield Finding(
            "scaler-value",
            str(scaler),
            "spec.metrics.target",
            f"{wanted}, since its type is {target.get('type')}" if wanted else f"a type of {', '.join(fields)}",
            f"{', '.join(given) or 'no value'}" if wanted else repr(target.get("type")),
            "The API server refuses it, or it scales by another number than you wrote.",
            "Make type and field the same.",
        )


def _range(scaler: Object) -> Iterator[Finding]:
    least, most = _bounds(scaler)
    low, high = integer(least), integer(most)
    if low is None or high is None or low < 1 or low > high:
        yield Finding(
            "scaler-range",
            str(scaler),
            "spec",
            "1 <= minimum <= maximum replicas",
            f"{least} to {most}",
            "It is refused, or scales the servers away.",
            "Correct the range.",
        )


def _twice(manifests: Manifests) -> Iterator[Finding]:
    aims = [(scaler.namespace, *_aim(scaler)) for scaler in manifests.of(*_SCALERS)]
    for (namespace, kind, name), count in Counter(aims).items():
        if count > 1:
            both = [str(s) for s in manifests.of(*_SCALERS) if (s.namespace, *_aim(s)) == (namespace, kind, name)]
            yield Finding(
                "scaler-twice",
                f"{kind}/{name}",
                "spec.replicas",
                "one autoscaler (a ScaledObject makes its own)",
                ", ".join(both),
                "They work against each other: replicas jump up and down.",
                "Remove one.",
            )


def _sized(manifests: Manifests, pod: Pod) -> Iterator[Finding]:
    owner = pod.owner
    if owner.kind not in ("Deployment", "StatefulSet"):
        return
    replicas = owner.spec.get("replicas")
    if replicas == 0 or (replicas is None and _scaled(manifests, owner) is None):
        yield Finding(
            "replicas-none",
            str(owner),
            "spec.replicas",
            "a number above 0, or an autoscaler",
            "0" if replicas == 0 else "neither, which is one replica",
            "Nobody serves." if replicas == 0 else "One pod, and no size that follows the load.",
            "Add a HorizontalPodAutoscaler, or write the number.",
        )


def _protected(manifests: Manifests, pod: Pod) -> Iterator[Finding]:
    covered = any(
        matches(budget.spec.get("selector"), pod.labels)
        for budget in manifests.of_namespace("PodDisruptionBudget", pod.owner.namespace)
    )
    if pod.runs_for_ever and pod.owner.kind != "Pod" and not covered:
        yield Finding(
            "no-budget",
            str(pod.owner),
            "metadata.labels",
            "a PodDisruptionBudget that selects its pods",
            "none",
            "A node drain may take every replica at once.",
            "Add one with maxUnavailable: 1.",
        )


def _budget(manifests: Manifests, budget: Object) -> Iterator[Finding]:
    selector = budget.spec.get("selector")
    most, least = budget.spec.get("maxUnavailable"), budget.spec.get("minAvailable")
    pods = manifests.selected(budget.namespace, selector)
    if not mapping(selector):
        yield Finding(
            "selects-all",
            str(budget),
            "spec.selector",
            "labels of the server's pods",
            str(selector),
            "An empty selector takes in every pod of the namespace, jobs too.",
            "Copy the labels of the template.",
        )
    elif not pods:
        why = "It protects nothing: a node drain may take every replica."
        yield nothing(manifests, budget, "spec.selector", selector, why)
    elif len({str(pod.owner) for pod in pods}) > 1:
        yield Finding(
            "budget-mixes",
            str(budget),
            "spec.selector",
            "the pods of one workload",
            ", ".join(sorted({str(pod.owner) for pod in pods})),
            "They are counted together: the last server may go while others make up the number, and with a Job "
            "among them no pod may.",
            "Add the label that tells them apart.",
        )
    if most is not None and least is not None:
        yield Finding(
            "budget-both",
            str(budget),
            "spec",
            "maxUnavailable or minAvailable",
            "both",
            "The API server refuses it.",
            "Keep maxUnavailable: 1.",
        )
        return
    low, high = _sizes(manifests, pods)
    for replicas in {low, high} - {None}:
        blocks = _allowed(most, least, replicas) < 1
        if blocks or (replicas > 1 and _allowed(most, least, replicas) >= replicas):
            yield Finding(
                "budget-blocks" if blocks else "budget-open",
                str(budget),
                "spec",
                "maxUnavailable: 1",
                f"{'maxUnavailable' if most is not None else 'minAvailable'} {most if most is not None else least} "
                f"of {replicas} replicas",
                "No pod may be evicted: node upgrades hang."
                if blocks
                else "All pods may be evicted at once: it protects nothing.",
                "Set maxUnavailable: 1.",
            )
            return


def fewest(manifests: Manifests, owner: Object) -> int:
    """The replicas that a workload has at least."""
    scaler = _scaled(manifests, owner)
    return integer(_bounds(scaler)[0] if scaler else owner.spec.get("replicas", 1)) or 0


def _sizes(manifests: Manifests, pods: list[Pod]) -> tuple[int, int]:
    """Fewest and most replicas of the pods' workload; two where it can't be told."""
    owner = pods[0].owner if pods else None
    scaler = _scaled(manifests, owner) if owner else None
    low, high = _bounds(scaler) if scaler else (owner.spec.get("replicas", 1), None) if owner else (2, 2)
    least = integer(low) or 2
    return least, integer(high) or least


def _allowed(most: Any, least: Any, replicas: int) -> int:
    """Pods that may be away; percentages round up, as the API server does."""

    def number(value: Any) -> int:
        share = str(value)
        if share.endswith("%") and share[:-1].isdecimal():
            return math.ceil(int(share[:-1]) * replicas / 100)
        return int(share) if share.isdecimal() else 1

    if most is not None:
        return number(most)
    return replicas - number(least) if least is not None else 1
