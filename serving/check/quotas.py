"""ResourceQuota and LimitRange of the set: the pods and claims of the set have to fit."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from serving.check._data import dig, integer, items, mapping, quantity, text
from serving.check._manifests import Finding, Manifests, Object, Pod
from serving.check.scaling import fewest

__all__ = ["check"]


def check(manifests: Manifests) -> Iterator[Finding]:
    for quota in manifests.of("ResourceQuota"):
        # A scope takes in some pods only; which ones is the API server's to say.
        if not (quota.spec.get("scopes") or quota.spec.get("scopeSelector")):
            yield from _quota(manifests, quota)
    for limits in manifests.of("LimitRange"):
        for index, entry in enumerate(items(limits.spec.get("limits"))):
            yield from _limits(manifests, limits, f"spec.limits[{index}]", entry)


def _amount(container: dict[str, Any], group: str, resource: str) -> float:
    """A request or a limit; a request that is not written is the limit."""
    written = dig(container, "resources", group, resource)
    if written is None and group == "requests":
        written = dig(container, "resources", "limits", resource)
    return quantity(written) or 0.0


def _of_pod(pod: Pod, group: str, resource: str) -> float:
    """What the scheduler counts for a pod: all containers, or the largest that runs before them."""
    before = [_amount(data, group, resource) for data in items(pod.spec.get("initContainers"))]
    return max([sum(_amount(c.data, group, resource) for c in pod.containers(init=False)), *before])


def _pods(manifests: Manifests, pod: Pod) -> int:
    """The fewest pods of a workload that run at a time; a CronJob may be between two runs."""
    if pod.owner.kind == "CronJob":
        return 0
    if pod.owner.kind == "Job":
        return integer(pod.owner.spec.get("parallelism", 1)) or 0
    return fewest(manifests, pod.owner)


def _quota(manifests: Manifests, quota: Object) -> Iterator[Finding]:
    pods = [(pod, _pods(manifests, pod)) for pod in manifests.pods_of(quota.namespace)]
    claims = manifests.of_namespace("PersistentVolumeClaim", quota.namespace)
    for name, value in mapping(quota.spec.get("hard")).items():
        most = quantity(value)
        group, _, resource = str(name).rpartition(".")
        if name in ("pods", "count/pods"):
            needed = float(sum(count for _, count in pods))
        elif name == "persistentvolumeclaims":
            needed = float(len(claims))
        elif name == "requests.storage":
            needed = sum(quantity(dig(claim.spec, "resources", "requests", "storage")) or 0.0 for claim in claims)
        elif group in ("", "requests", "limits") and resource in ("cpu", "memory"):
            needed = sum(count * _of_pod(pod, group or "requests", resource) for pod, count in pods)
        else:
            continue
        if most is not None and needed > most:
            yield Finding(
                "quota-small",
                str(quota),
                f"spec.hard[{name}]",
                f"at least {_shown(needed)}, which the fewest replicas of this set take together",
                str(value),
                "The last pods or claims are refused (exceeded quota): too few servers, or no export.",
                "Raise it, with room for a pod more: a roll needs it.",
            )


def _shown(amount: float) -> str:
    return f"{amount / 2**20:g}Mi" if amount >= 2**20 else f"{amount:g}"


def _sized(manifests: Manifests, namespace: str, kind: str) -> Iterator[tuple[str, Callable[[str, str], float]]]:
    """What a LimitRange of a kind looks at: each with its amount by group and resource."""
    for pod in manifests.pods_of(namespace):
        if kind == "Pod":
            yield str(pod.owner), functools.partial(_of_pod, pod)
        for container in pod.containers() if kind == "Container" else ():
            yield f"{container.data.get('name')} of {pod.owner}", functools.partial(_amount, container.data)
    if kind == "PersistentVolumeClaim":
        for claim in manifests.of_namespace(kind, namespace):
            yield str(claim), functools.partial(_amount, claim.spec)


def _limits(manifests: Manifests, limits: Object, at: str, entry: dict[str, Any]) -> Iterator[Finding]:
    sized = list(_sized(manifests, limits.namespace, text(entry.get("type"))))
    for bound in ("max", "min"):
        for resource, value in mapping(entry.get(bound)).items():
            edge = quantity(value)
            for where, amount in sized:
                asked, capped = amount("requests", str(resource)), amount("limits", str(resource))
                amounts = max(asked, capped) if bound == "max" else asked
                if edge is not None and (amounts > edge if bound == "max" else 0 < amounts < edge):
                    yield Finding(
                        "limit-range",
                        str(limits),
                        f"{at}.{bound}.{resource}",
                        f"{'at least' if bound == 'max' else 'at most'} {_shown(amounts)}, which {where} has",
                        str(value),
                        "The API server refuses each such pod or claim: the workload stays without it.",
                        "Change the range, or the resources.",
                    )
