"""Quantities, limits, and sizes that have to match."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from serving.check.findings import Finding, Place, finding
from serving.check.manifests.objects import Container, Manifests, Pod
from serving.check.manifests.servers import Server, servers
from serving.check.manifests.values import dig, integer, mapping, quantity

__all__ = ["check"]


_MIB = 2.0**20
_SMALLEST = {"cpu": 0.1, "memory": 400 * _MIB}
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


def _quantity(place: Place, field: str, value: Any, *, least: float = 0.0) -> Iterator[Finding]:
    amount, expected = quantity(value), ""
    if amount is None or amount <= 0:
        expected = "a quantity as 500m or 2 (CPU), 512Mi or 2Gi (memory)"
    elif amount < least:
        expected = "a quantity as 512Mi or 2Gi (m is a thousandth: 512m of memory is half a byte)"
    elif field.endswith(".cpu") and amount > 1000:
        expected = "at most 1000 CPUs (m is a thousandth)"
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
        if "/" in str(name) and value != limits.get(name):
            yield finding(
                "device-limit", container, f"resources.limits.{name}", limits.get(name, "none"), request=value
            )
        elif asked is not None and most is not None and asked > most:
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
    for resource, least in _SMALLEST.items():
        written, limit = mapping(server.data, "resources.limits").get(resource), server.limit(resource)
        if written is None and resource == "cpu":
            yield finding("no-cpu-limit", server, "resources.limits.cpu", "none")
        elif limit is not None and (_MIB if resource == "memory" else 0) <= limit < least:
            yield finding("limit-small", server, f"resources.limits.{resource}", written)
