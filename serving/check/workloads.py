"""Deployments and jobs: how they roll, restart, spread and start."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Iterator
from typing import Any

from serving.check._data import dig, integer, items, mapping, text
from serving.check._manifests import Finding, Manifests, Object, Pod
from serving.check._server import Server, servers

__all__ = ["check", "startup_seconds"]

_FOR_EVER = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")
_NODE_LABELS = {
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
}
_FIELDS = ((0, 59, ""), (0, 23, ""), (1, 31, ""), (1, 12, "jan feb mar apr may jun jul aug sep oct nov dec"),
           (0, 7, "sun mon tue wed thu fri sat"))  # fmt: skip


def check(manifests: Manifests) -> Iterator[Finding]:
    for pod in manifests.pods:
        yield from _restarts(pod)
        yield from _nodes(pod)
        yield from _deadline(pod)
    for server in servers(manifests):
        yield from _arch(server.container.pod)
        yield from _device(server)
        owner = server.container.pod.owner
        if owner.kind == "Deployment":
            yield from _strategy(owner)
            yield from _progress(owner, mapping(server.container.data.get("startupProbe")))
        if owner.kind in ("Deployment", "StatefulSet"):
            yield from _spread(server.container.pod)
    for job in manifests.of("CronJob"):
        yield from _schedule(job)


def _restarts(pod: Pod) -> Iterator[Finding]:
    policy = text(pod.spec.get("restartPolicy")) or "Always"
    job = pod.owner.kind in ("Job", "CronJob")
    if (job and policy not in ("Never", "OnFailure")) or (pod.owner.kind in _FOR_EVER and policy != "Always"):
        yield Finding(
            "restart-policy",
            str(pod.owner),
            f"{pod.path}.restartPolicy",
            "Never or OnFailure, for a job" if job else "Always, for what runs for ever",
            policy + ("" if pod.spec.get("restartPolicy") else " (the default)"),
            "The API server refuses it.",
            "Write Never." if job else "Remove it.",
        )


def _deadline(pod: Pod) -> Iterator[Finding]:
    seconds = pod.spec.get("activeDeadlineSeconds")
    if pod.owner.kind in _FOR_EVER and seconds is not None:
        yield Finding(
            "deadline",
            str(pod.owner),
            f"{pod.path}.activeDeadlineSeconds",
            "none, for what runs for ever",
            str(seconds),
            "The API server refuses it, or every pod ends after that time.",
            "Remove it: it belongs into a Job.",
        )


def _nodes(pod: Pod) -> Iterator[Finding]:
    """Labels of nodes that no node has."""
    keys = [(f"topologySpreadConstraints[{index}].topologyKey", text(entry.get("topologyKey")))
            for index, entry in enumerate(items(pod.spec.get("topologySpreadConstraints")))]  # fmt: skip
    keys += [("nodeSelector", key) for key in mapping(pod.spec.get("nodeSelector"))]
    for field, key in keys:
        if re.match(r"([a-z]+\.)?kubernetes\.io/", key) and key not in _NODE_LABELS and not key.startswith("node-"):
            yield Finding(
                "node-label",
                str(pod.owner),
                f"{pod.path}.{field}",
                f"a label that nodes have ({', '.join(sorted(_NODE_LABELS))})",
                repr(key),
                "No node has it: pods stay Pending, or are not spread at all.",
                "Correct the label.",
            )


def _arch(pod: Pod) -> Iterator[Finding]:
    arch = mapping(pod.spec.get("nodeSelector")).get("kubernetes.io/arch", "amd64")
    if arch != "amd64":
        yield Finding(
            "node-arch",
            str(pod.owner),
            f"{pod.path}.nodeSelector",
            "kubernetes.io/arch: amd64",
            str(arch),
            "The stock server's image is for amd64 only: exec format error.",
            "Select amd64 nodes.",
        )


def _device(server: Server) -> Iterator[Finding]:
    pod, limits = server.container.pod, mapping(dig(server.container.data, "resources", "limits"))
    keys = [text(entry.get("key")) for entry in items(pod.spec.get("tolerations"))]
    for key in keys:
        if key.partition("/")[2] == "gpu" and key not in limits:
            yield Finding(
                "device",
                server.object,
                f"{server.container.path}.resources.limits[{key}]",
                "1, since the pod may run on nodes with GPUs",
                "none",
                "It takes a node with a GPU and computes on its CPUs.",
                "Set the limit, or remove the toleration.",
            )


def _strategy(owner: Object) -> Iterator[Finding]:
    strategy = mapping(owner.spec.get("strategy"))
    if strategy.get("type") not in (None, "RollingUpdate"):
        yield Finding(
            "strategy-recreate",
            str(owner),
            "spec.strategy.type",
            "RollingUpdate",
            str(strategy["type"]),
            "Every change stops all servers before a new one starts, or the API server refuses it.",
            "Use RollingUpdate, maxUnavailable 0.",
        )
        return
    rolling = mapping(strategy.get("rollingUpdate"))
    unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
    if unavailable not in (0, "0", "0%"):
        yield Finding(
            "strategy-unavailable",
            str(owner),
            "spec.strategy.rollingUpdate.maxUnavailable",
            "0",
            "25% (the default)" if unavailable is None else repr(unavailable),
            "A roll takes servers away before their successors serve.",
            "Set maxUnavailable: 0 and maxSurge: 1.",
        )
    if surge in (0, "0", "0%"):
        yield Finding(
            "strategy-surge",
            str(owner),
            "spec.strategy.rollingUpdate.maxSurge",
            "at least 1",
            "0",
            "With maxUnavailable 0 a roll can't begin.",
            "Set maxSurge: 1.",
        )
    if owner.spec.get("paused") is True:
        yield Finding(
            "paused",
            str(owner),
            "spec.paused",
            "false",
            "true",
            "No change of the template reaches a pod, and `kubectl rollout status` waits for ever.",
            "Remove it.",
        )
    if owner.spec.get("revisionHistoryLimit") == 0:
        yield Finding(
            "no-history",
            str(owner),
            "spec.revisionHistoryLimit",
            "at least 1",
            "0",
            "There is nothing that `kubectl rollout undo` could go back to.",
            "Set 5.",
        )


def startup_seconds(probe: dict[str, Any]) -> int:
    """How long a startup probe lets a container take."""
    period, tries = integer(probe.get("periodSeconds")) or 10, integer(probe.get("failureThreshold")) or 3
    return period * tries + (integer(probe.get("initialDelaySeconds")) or 0)


def _progress(owner: Object, startup: dict[str, Any]) -> Iterator[Finding]:
    deadline = integer(owner.spec.get("progressDeadlineSeconds"))
    deadline = 600 if deadline is None else deadline
    ready = integer(owner.spec.get("minReadySeconds")) or 0
    allowed = startup_seconds(startup) if startup else 0
    if deadline <= max(ready, allowed - 1):
        yield Finding(
            "progress-short",
            str(owner),
            "spec.progressDeadlineSeconds",
            f"more than a pod may take to start ({allowed} s by its startup probe, minReadySeconds {ready})",
            str(deadline),
            "A roll is called failed while its first pod still loads.",
            f"Set {max(ready, allowed) + 300}.",
        )


def _spread(pod: Pod) -> Iterator[Finding]:
    if not items(pod.spec.get("topologySpreadConstraints")) and not dig(pod.spec, "affinity", "podAntiAffinity"):
        yield Finding(
            "no-spread",
            str(pod.owner),
            f"{pod.path}.topologySpreadConstraints",
            "a spread over nodes (kubernetes.io/hostname) and zones",
            "none",
            "All replicas may land on one node, and go down with it.",
            "Add it, as the base does.",
        )


def _schedule(job: Object) -> Iterator[Finding]:
    schedule, zone = text(job.spec.get("schedule")), text(job.spec.get("timeZone"))
    if not re.fullmatch(r"@(hourly|daily|midnight|weekly|monthly|yearly|annually)", schedule) and not _cron(schedule):
        yield Finding(
            "schedule",
            str(job),
            "spec.schedule",
            "five fields of cron (minute hour day month weekday), or @weekly and the like",
            repr(schedule),
            "The API server refuses it.",
            "Correct the schedule.",
        )
    if zone and not _zone(zone) and _zone("Europe/Paris"):  # where this machine knows zones at all
        yield Finding(
            "schedule-zone",
            str(job),
            "spec.timeZone",
            "a time zone, such as Etc/UTC",
            repr(zone),
            "The API server refuses it, or the job never runs.",
            "Correct the name.",
        )


def _zone(name: str) -> bool:
    try:
        zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        return False
    return True


def _cron(schedule: str) -> bool:
    """Whether it is five fields of cron, each within its range."""
    fields = schedule.lower().split()
    if len(fields) != len(_FIELDS):
        return False
    for field, (least, most, names) in zip(fields, _FIELDS, strict=True):
        for part in field.split(","):
            span, slash, step = part.partition("/")
            ends = [] if span in ("*", "?") else span.split("-")
            numbers = [names.split().index(end) + least if end in names.split() else end for end in ends]
            if slash and not (step.isdecimal() and int(step) > 0):
                return False
            if len(ends) > 2 or any(not str(n).isdecimal() or not least <= int(n) <= most for n in numbers):
                return False
    return True
