"""Quantities, limits, sizes that have to match, and the quotas of the set."""

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

from serving.check.findings import Finding, Place, broken, finding
from serving.check.manifests.objects import Container, Manifests, Pod
from serving.check.manifests.servers import Server, servers
from serving.check.manifests.values import dig, integer, items, mapping, quantity, text
from serving.check.rules.workloads.scaling import replicas

_MIB = 2.0**20
_RESOURCE = re.compile(r"cpu|memory|ephemeral-storage|hugepages-\w+|[\w.-]+/[\w.-]+")


def check(manifests: Manifests) -> Iterator[Finding]:
    for pod in manifests.pods:
        for container in pod.containers():
            yield from _container(container)
        yield from _volumes(pod)
    for claim in manifests.of("PersistentVolumeClaim"):
        amount = dig(claim.spec, "resources.requests.storage")
        yield from _quantity(claim, "spec.resources.requests.storage", amount, least=_MIB)
    for server in servers(manifests):
        yield from _server(server)
    yield from _quotas(manifests)


def _quantity(place: Place, field: str, value: Any, *, least: float = 0.0) -> Iterator[Finding]:
    amount, expected = quantity(value), ""
    if amount is None or amount <= 0:
        expected = "a quantity as 500m or 2 (CPU), 512Mi or 2Gi (memory)"
    elif amount < least:
        expected = "a quantity as 512Mi or 2Gi (m is a thousandth: 512m of memory is half a byte)"
    elif "/" in field and not str(value).isdecimal():
        expected = "a whole number, for a device"
    if expected:
        yield finding("quantity", place, field, repr(value), expected=expected)


def _container(container: Container) -> Iterator[Finding]:
    resources = mapping(container.data, "resources")
    requests, limits = mapping(resources, "requests"), mapping(resources, "limits")
    for group, amounts in (("requests", requests), ("limits", limits)):
        for name, value in amounts.items():
            field = f"resources.{group}.{name}"
            if not _RESOURCE.fullmatch(str(name)):
                yield finding("resource-name", container, field, repr(name))
            yield from _quantity(container, field, value, least=_MIB if name in ("memory", "ephemeral-storage") else 0)
    for name, value in requests.items():
        asked, most = quantity(value), quantity(limits.get(name))
        if asked is not None and most is not None and asked > most:
            yield finding("request-over-limit", container, f"resources.requests.{name}", value, limit=limits[name])
    if "memory" not in limits:
        yield finding("no-limit", container, "resources.limits.memory", "none")
    for name in ("cpu", "memory"):
        if name not in requests and name not in limits:
            yield finding("no-request", container, f"resources.requests.{name}", "none")


def _volumes(pod: Pod) -> Iterator[Finding]:
    for name, volume in pod.volumes.items():
        size, medium = dig(volume, "emptyDir.sizeLimit"), dig(volume, "emptyDir.medium")
        if size is not None:
            yield from _quantity(pod, f"volumes[{name}].emptyDir.sizeLimit", size, least=_MIB)
        mounting = [c for c in pod.containers() if name in [mount.get("name") for mount in c.mounts]]
        limits = [limit for container in mounting if (limit := container.limit("memory"))]
        if medium == "Memory" and (size is None or (quantity(size) or 0) >= min(limits, default=float("inf"))):
            yield finding("memory-volume", pod, f"volumes[{name}].emptyDir.sizeLimit", size or "none")
        for kind in ("configMap", "secret", "projected"):
            mode = integer(volume, f"{kind}.defaultMode")
            if mode is not None and not mode & 0o044:
                yield finding("volume-mode", pod, f"volumes[{name}].{kind}.defaultMode", f"{mode:#o}")


def _server(server: Server) -> Iterator[Finding]:
    limits = mapping(server.data, "resources.limits")
    yield from broken(server, "resources.limits.cpu", [("no-cpu-limit", limits.get("cpu") is None, None)])
    for resource, least in (("cpu", 0.1), ("memory", 400 * _MIB)):
        if (_MIB if resource == "memory" else 0) <= (server.limit(resource) or least) < least:
            yield finding("limit-small", server, f"resources.limits.{resource}", limits[resource])


def _quotas(manifests: Manifests) -> Iterator[Finding]:
    for quota in manifests.of("ResourceQuota"):
        # A scope selects some pods only; which ones only the API server knows.
        scoped = quota.spec.get("scopes") or quota.spec.get("scopeSelector")
        for name, value in () if scoped else mapping(quota.spec, "hard").items():
            needed, most = _needed(manifests, quota.namespace, str(name)), quantity(value)
            if most is not None and needed > most:
                yield finding("quota-small", quota, f"spec.hard[{name}]", value, needed=_shown(needed))
    for limits in manifests.of("LimitRange"):
        for index, entry in enumerate(items(limits.spec, "limits")):
            for name, amount in _limited(manifests, limits.namespace, text(entry, "type")):
                for resource, value in mapping(entry, "max").items():
                    edge, most = quantity(value), max(amount("requests", resource), amount("limits", resource))
                    if edge is not None and most > edge:
                        values = {"side": "at least", "amount": _shown(most), "object": name}
                        yield finding("limit-range", limits, f"spec.limits[{index}].max.{resource}", value, **values)
                for resource, value in mapping(entry, "min").items():
                    least = amount("requests", resource)
                    if 0 < least < (quantity(value) or 0):
                        values = {"side": "at most", "amount": _shown(least), "object": name}
                        yield finding("limit-range", limits, f"spec.limits[{index}].min.{resource}", value, **values)


def _amount(data: dict[str, Any], group: str, resource: str) -> float:
    """A request or a limit of a container or claim; a request that is not written is the limit."""
    limit = mapping(data, "resources.limits").get(resource)
    return quantity(mapping(data, f"resources.{group}").get(resource, limit)) or 0.0


def _amount_of_pod(pod: Pod, group: str, resource: str) -> float:
    """The amount that the scheduler counts for a pod: all containers, or the largest init container."""
    before = [_amount(data, group, resource) for data in items(pod.spec, "initContainers")]
    return max([sum(_amount(c.data, group, resource) for c in pod.containers(init=False)), *before])


def _count(manifests: Manifests, pod: Pod) -> int:
    """The fewest pods of a workload that run at a time; a CronJob may be between two runs."""
    if pod.object.kind in ("Job", "CronJob"):
        return 0 if pod.object.kind == "CronJob" else integer(pod.object.spec.get("parallelism", 1)) or 0
    return replicas(manifests, pod.object)[0]


def _needed(manifests: Manifests, namespace: str, name: str) -> float:
    """What the namespace's pods or claims take of a quota; 0 for a quota of something else."""
    pods = [(pod, _count(manifests, pod)) for pod in manifests.pods_of(namespace)]
    claims = manifests.of("PersistentVolumeClaim", namespace=namespace)
    group, _, resource = name.rpartition(".")
    if name in ("pods", "count/pods"):
        return sum(count for _, count in pods)
    if name == "persistentvolumeclaims":
        return len(claims)
    if name == "requests.storage":
        return sum(_amount(claim.spec, "requests", "storage") for claim in claims)
    if group in ("", "requests", "limits") and resource in ("cpu", "memory"):
        return sum(count * _amount_of_pod(pod, group or "requests", resource) for pod, count in pods)
    return 0


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
