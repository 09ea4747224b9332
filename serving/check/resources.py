"""Quantities, limits, and sizes that have to fit each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from serving.check._data import dig, integer, items, mapping, quantity
from serving.check._manifests import Container, Finding, Manifests, Pod
from serving.check._server import Server, servers

__all__ = ["check"]

_MIB = 2.0**20
_SMALLEST = {"cpu": 0.1, "memory": 400 * _MIB}


def check(manifests: Manifests) -> Iterator[Finding]:
    for pod in manifests.pods:
        for container in pod.containers():
            yield from _container(container)
        yield from _volumes(pod)
    for claim in manifests.of("PersistentVolumeClaim"):
        field = "spec.resources.requests.storage"
        yield from _quantity(str(claim), field, dig(claim.spec, "resources", "requests", "storage"), least=_MIB)
    for server in servers(manifests):
        yield from _server(server)


def _volumes(pod: Pod) -> Iterator[Finding]:
    for volume in items(pod.spec.get("volumes")):
        at = f"{pod.path}.volumes[{volume.get('name')}]"
        size, memory = dig(volume, "emptyDir", "sizeLimit"), dig(volume, "emptyDir", "medium") == "Memory"
        if size is not None:
            yield from _quantity(str(pod.owner), f"{at}.emptyDir.sizeLimit", size, least=_MIB)
        mounting = [c for c in pod.containers() if volume.get("name") in [mount.get("name") for mount in c.mounts]]
        limits = [limit for container in mounting if (limit := container.limit("memory"))]
        if memory and (size is None or (quantity(size) or 0) >= min(limits, default=float("inf"))):
            yield Finding(
                "memory-volume",
                str(pod.owner),
                f"{at}.emptyDir.sizeLimit",
                "a sizeLimit far below the container's memory, since it is memory",
                str(size or "none"),
                "It may fill the container's memory: the server is killed.",
                "Set 64Mi.",
            )
        for kind in ("configMap", "secret", "projected"):
            mode = integer(dig(volume, kind, "defaultMode"))
            if mode is not None and (not mode & 0o044 or mode > 0o777):
                yield Finding(
                    "volume-mode",
                    str(pod.owner),
                    f"{at}.{kind}.defaultMode",
                    "a mode that group or all may read, such as 0440 (288 in JSON)",
                    f"{mode:#o}",
                    "The files belong to root, and the container is not root: it can't read them.",
                    "Correct the mode.",
                )


def _server(server: Server) -> Iterator[Finding]:
    container = server.container
    for resource, least in _SMALLEST.items():
        written, limit = dig(container.data, "resources", "limits", resource), container.limit(resource)
        if written is None and resource == "cpu":
            yield Finding(
                "no-limit",
                server.object,
                f"{container.path}.resources.limits.cpu",
                "a limit",
                "none",
                "Thread counts come from the CPU limit: without one the server takes the node's cores.",
                "Set it (`python -m serving.capacity`).",
            )
        elif limit is not None and (_MIB if resource == "memory" else 0) <= limit < least:
            yield Finding(
                "limit-small",
                server.object,
                f"{container.path}.resources.limits.{resource}",
                "at least 100m CPU and 400Mi of memory, which the server takes without a model",
                str(written),
                "It is killed, or too slow for its own probes, before it serves.",
                "Plan with `python -m serving.capacity`.",
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
            if "/" in name and not str(value).isdecimal():
                yield Finding(
                    "quantity",
                    container.object,
                    f"{at}.{group}.{name}",
                    "a whole number, for a device",
                    repr(value),
                    "The API server refuses it.",
                    "Devices are not shared by fractions.",
                )
    for name in sorted(name for name in requests if "/" in name and requests[name] != limits.get(name)):
        expected, received = f"a limit equal to the request, {requests[name]}", str(limits.get(name, "none"))
        yield Finding(
            "device-limit", container.object, f"{at}.limits.{name}", expected, received,
            "The API server refuses a device that is requested and not limited alike.", "Set both, or the limit alone.",
        )  # fmt: skip
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
    if "memory" not in limits:
        yield Finding(
            "no-limit",
            container.object,
            f"{at}.limits.memory",
            "a limit",
            "none",
            "One container may take the node's memory, and its neighbours are killed.",
            "Set it (`python -m serving.capacity` for the server).",
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
