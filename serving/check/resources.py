"""Quantities, limits, and sizes that have to fit each other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from serving.check._data import dig, integer, items, mapping, matches, quantity, strings, text
from serving.check._manifests import Container, Finding, Manifests, Object
from serving.check._server import servers

__all__ = ["check"]


def check(manifests: Manifests) -> Iterator[Finding]:
    for pod in manifests.pods:
        for container in pod.containers():
            yield from _container(container)
        for volume in items(pod.spec.get("volumes")):
            size = dig(volume, "emptyDir", "sizeLimit")
            field = f"{pod.path}.volumes[{volume.get('name')}].emptyDir.sizeLimit"
            if size is not None:
                yield from _quantity(str(pod.owner), field, size, least=2**20)
            elif dig(volume, "emptyDir", "medium") == "Memory":
                yield Finding(
                    "memory-volume",
                    str(pod.owner),
                    field,
                    "a sizeLimit, since it is memory",
                    "none",
                    "It may fill the container's memory: the server is killed.",
                    "Set 64Mi.",
                )
    for claim in manifests.of("PersistentVolumeClaim"):
        field = "spec.resources.requests.storage"
        yield from _quantity(str(claim), field, dig(claim.spec, "resources", "requests", "storage"), least=2**20)
        yield from _access(manifests, claim)
    for job in manifests.of("CronJob"):
        schedule = text(job.spec.get("schedule"))
        if not re.fullmatch(
            r"@(hourly|daily|midnight|weekly|monthly|yearly|annually)|(?:[\w*/,?-]+\s+){4}[\w*/,?-]+", schedule
        ):
            yield Finding(
                "schedule",
                str(job),
                "spec.schedule",
                "five fields of cron, or @weekly and the like",
                repr(schedule),
                "The API server refuses it.",
                "Correct the schedule.",
            )
    for scaler in manifests.of("InferenceService"):
        predictor = mapping(scaler.spec.get("predictor"))
        yield from _scaler(manifests, scaler, predictor.get("minReplicas", 1), predictor.get("maxReplicas", 1))
    for scaler in manifests.of("HorizontalPodAutoscaler"):
        yield from _scaler(manifests, scaler, scaler.spec.get("minReplicas", 1), scaler.spec.get("maxReplicas"))
    for scaler in manifests.of("ScaledObject"):
        yield from _scaler(
            manifests, scaler, scaler.spec.get("minReplicaCount", 0), scaler.spec.get("maxReplicaCount", 100)
        )
    yield from _budgets(manifests)
    for server in servers(manifests):
        for resource in ("cpu", "memory"):
            if dig(server.container.data, "resources", "limits", resource) is None:
                yield Finding(
                    "no-limit",
                    server.object,
                    f"{server.container.path}.resources.limits.{resource}",
                    "a limit",
                    "none",
                    "Thread counts come from the CPU limit; without a memory limit one server takes the node.",
                    "Set it (`python -m serving.capacity`).",
                )


def _access(manifests: Manifests, claim: Object) -> Iterator[Finding]:
    """A disk of one node for pods on many."""
    if strings(claim.spec.get("accessModes")) not in (["ReadWriteOnce"], ["ReadWriteOncePod"]):
        return
    if dig(claim.data, "metadata", "annotations", "duoserve.dev/single-node") == "true":
        return
    for server in servers(manifests):
        pod = server.container.pod
        mounted = [dig(volume, "persistentVolumeClaim", "claimName") for volume in pod.volumes.values()]
        if claim.name in mounted and claim.namespace == pod.owner.namespace:
            yield Finding(
                "claim-access",
                str(claim),
                "spec.accessModes",
                "ReadWriteMany or ReadOnlyMany, since the servers are spread over nodes",
                str(claim.spec["accessModes"]),
                "Servers on a second node stay in ContainerCreating.",
                "Take a class that many nodes can mount, or image volumes; on a one-node cluster annotate the claim "
                'with duoserve.dev/single-node: "true".',
            )


def _quantity(owner: str, field: str, value: Any, *, least: float = 0.0) -> Iterator[Finding]:
    amount = quantity(value)
    if amount is None or amount <= 0 or amount < least:
        unit = " (m is a thousandth: 512m of memory is half a byte)" if str(value).endswith("m") and least else ""
        yield Finding(
            "quantity",
            owner,
            field,
            "a quantity as 500m or 2 (CPU), 512Mi or 2Gi (memory)",
            f"{value!r}{unit}",
            "The API server refuses it, or the pod can never start.",
            "Correct the number or its unit.",
        )


def _container(container: Container) -> Iterator[Finding]:
    resources = mapping(container.data.get("resources"))
    requests, limits = mapping(resources.get("requests")), mapping(resources.get("limits"))
    at = f"{container.path}.resources"
    for group, amounts in (("requests", requests), ("limits", limits)):
        for name, value in amounts.items():
            least = 2.0**20 if name in ("memory", "ephemeral-storage") else 0.0
            yield from _quantity(container.object, f"{at}.{group}.{name}", value, least=least)
            if name == "cpu" and (quantity(value) or 0) > 1000:
                yield Finding(
                    "quantity",
                    container.object,
                    f"{at}.{group}.cpu",
                    "at most 1000 CPUs",
                    repr(value),
                    "No node has so many: the pod stays Pending.",
                    "Did you mean m (a thousandth)?",
                )
    for name in requests.keys() & limits.keys():
        asked, most = quantity(requests[name]), quantity(limits[name])
        if asked is not None and most is not None and asked > most:
            yield Finding(
                "request-over-limit",
                container.object,
                f"{at}.requests.{name}",
                f"at most the limit, {limits[name]}",
                str(requests[name]),
                "The API server refuses the workload.",
                "Lower the request.",
            )
    for name in ("cpu", "memory"):
        if name not in requests and name not in limits:
            yield Finding(
                "no-request",
                container.object,
                f"{at}.requests.{name}",
                "a request",
                "none",
                "The scheduler packs it onto a full node, and autoscaling by CPU has no base.",
                "Set it.",
            )


def _scaler(manifests: Manifests, scaler: Object, least: Any, most: Any) -> Iterator[Finding]:
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
    for metric in items(scaler.spec.get("metrics")):
        source = mapping(metric.get(_camel(text(metric.get("type")))))
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


def _camel(kind: str) -> str:
    return kind[:1].lower() + kind[1:]


def _budgets(manifests: Manifests) -> Iterator[Finding]:
    for budget in manifests.of("PodDisruptionBudget"):
        most, least = budget.spec.get("maxUnavailable"), budget.spec.get("minAvailable")
        if most in (0, "0", "0%") or least == "100%":
            yield Finding(
                "budget-blocks",
                str(budget),
                "spec",
                "maxUnavailable: 1",
                f"maxUnavailable {most}, minAvailable {least}",
                "No pod may ever be evicted: node upgrades hang.",
                "Set maxUnavailable: 1.",
            )
        if integer(least) is None:
            continue
        owners = [
            pod.owner
            for pod in manifests.pods
            if pod.owner.namespace == budget.namespace and matches(budget.spec.get("selector"), pod.labels)
        ]
        for scaler in manifests.of("HorizontalPodAutoscaler", "ScaledObject"):
            floor = integer(scaler.spec.get("minReplicas", scaler.spec.get("minReplicaCount", 1)))
            scaled = any(dig(scaler.spec, "scaleTargetRef", "name") == owner.name for owner in owners)
            if scaled and floor is not None and floor <= (integer(least) or 0):
                yield Finding(
                    "budget-blocks",
                    str(budget),
                    "spec.minAvailable",
                    f"less than the fewest replicas ({floor})",
                    str(least),
                    "At the smallest size no pod may be evicted: node upgrades hang.",
                    "Set maxUnavailable: 1.",
                )
