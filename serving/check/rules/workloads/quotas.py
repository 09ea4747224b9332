"""ResourceQuota and LimitRange of the set: its own pods and claims have to fit."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from serving.check.findings import Finding, finding
from serving.check.manifests.objects import Manifests, Object, Pod
from serving.check.manifests.values import integer, items, mapping, quantity, text
from serving.check.rules.workloads.scaling import fewest

__all__ = ["check"]


def check(manifests: Manifests) -> Iterator[Finding]:
    for quota in manifests.of("ResourceQuota"):
        # A scope selects some pods only; which ones only the API server knows.
        if not (quota.spec.get("scopes") or quota.spec.get("scopeSelector")):
            for name, value in mapping(quota.spec, "hard").items():
                needed, most = _needed(manifests, quota.namespace, str(name)), quantity(value)
                if needed is not None and most is not None and needed > most:
                    yield finding("quota-small", quota, f"spec.hard[{name}]", value, needed=_shown(needed))
    for limits in manifests.of("LimitRange"):
        for index, entry in enumerate(items(limits.spec, "limits")):
            yield from _limits(manifests, limits, f"spec.limits[{index}]", entry)


def _amount(container: dict[str, Any], group: str, resource: str) -> float:
    """A request or a limit; a request that is not written is the limit."""
    written = mapping(container, f"resources.{group}").get(resource)
    if written is None and group == "requests":
        written = mapping(container, "resources.limits").get(resource)
    return quantity(written) or 0.0


def _amount_of_pod(pod: Pod, group: str, resource: str) -> float:
    """The amount that the scheduler counts for a pod: all containers, or the largest init container."""
    before = [_amount(data, group, resource) for data in items(pod.spec, "initContainers")]
    return max([sum(_amount(c.data, group, resource) for c in pod.containers(init=False)), *before])


def _count(manifests: Manifests, pod: Pod) -> int:
    """The fewest pods of a workload that run at a time; a CronJob may be between two runs."""
    if pod.object.kind in ("Job", "CronJob"):
        return 0 if pod.object.kind == "CronJob" else integer(pod.object.spec.get("parallelism", 1)) or 0
    return fewest(manifests, pod.object)


def _needed(manifests: Manifests, namespace: str, name: str) -> float | None:
    """What the namespace's pods or claims take of a quota; None for a quota of something else."""
    pods = [(pod, _count(manifests, pod)) for pod in manifests.pods_of(namespace)]
    claims = manifests.of("PersistentVolumeClaim", namespace=namespace)
    group, _, resource = name.rpartition(".")
    if name in ("pods", "count/pods"):
        return float(sum(count for _, count in pods))
    if name == "persistentvolumeclaims":
        return float(len(claims))
    if name == "requests.storage":
        return sum(_amount(claim.spec, "requests", "storage") for claim in claims)
    if group in ("", "requests", "limits") and resource in ("cpu", "memory"):
        return sum(count * _amount_of_pod(pod, group or "requests", resource) for pod, count in pods)
    return None


def _shown(amount: float) -> str:
    return f"{amount / 2**20:g}Mi" if amount >= 2**20 else f"{amount:g}"


def _limited(manifests: Manifests, namespace: str, kind: str) -> Iterator[tuple[str, Callable[[str, str], float]]]:
    """What a LimitRange of a kind limits: each with its amount by group and resource."""
    for pod in manifests.pods_of(namespace):
        if kind == "Pod":
            yield str(pod.object), functools.partial(_amount_of_pod, pod)
        for container in pod.containers() if kind == "Container" else ():
            yield f"{container.data.get('name')} of {pod.object}", functools.partial(_amount, container.data)
    for claim in manifests.of(kind, namespace=namespace) if kind == "PersistentVolumeClaim" else ():
        yield str(claim), functools.partial(_amount, claim.spec)


def _limits(manifests: Manifests, limits: Object, at: str, entry: dict[str, Any]) -> Iterator[Finding]:
    for name, amount in _limited(manifests, limits.namespace, text(entry, "type")):
        for bound in ("max", "min"):
            for resource, value in mapping(entry, bound).items():
                edge, asked = quantity(value), amount("requests", str(resource))
                most = max(asked, amount("limits", str(resource)))
                if edge is not None and (most > edge if bound == "max" else 0 < asked < edge):
                    shown = _shown(most if bound == "max" else asked)
                    side = "at least" if bound == "max" else "at most"
                    yield finding(
                        "limit-range", limits, f"{at}.{bound}.{resource}", value, side=side, amount=shown, object=name
                    )
