"""Calls that a command line names: they have to leave the caller, and to be let in at the other end."""

from __future__ import annotations

import re
from collections.abc import Iterator

from serving.check.findings import Finding, finding
from serving.check.manifests.objects import Manifests, Pod
from serving.check.manifests.policies import Way, lets_through, rules_for, takes_peer
from serving.check.manifests.values import items

__all__ = ["check", "pods_source"]


_CALL = re.compile(r"(?:^|[=/:])([a-z0-9][a-z0-9-]*)(?:\.[\w.-]+)?:(\d+)(?:$|/)")
_NONE = "none of the policies that select its pods has one"


def check(manifests: Manifests) -> Iterator[Finding]:
    for pod in manifests.pods:
        for argument in [argument for container in pod.containers() for argument in container.arguments]:
            source = pods_source(manifests, argument)
            if source is not None:
                yield from _call(pod, *source)
            for match in _CALL.finditer(argument):
                service = manifests.find("Service", match[1], pod.namespace)
                for port in items(service.spec, "ports") if service else ():
                    if port.get("port") == int(match[2]):
                        yield from _names(pod)
                        for called in manifests.behind(service):
                            number = called.target(port)
                            yield from _call(pod, [called], number) if number else ()


def pods_source(manifests: Manifests, argument: str) -> tuple[list[Pod], int] | None:
    """The pods and the port of an argument pods:NAMESPACE/LABELS:PORT, as the rollout takes it."""
    match = re.fullmatch(r"(?:--[\w-]+=)?pods:([^/]*)/(.*):(\d+)", argument)
    if match is None:
        return None
    labels: dict[str, str] = dict(part.partition("=")[::2] for part in match[2].split(","))
    return manifests.selected(match[1], {"matchLabels": labels}), int(match[3])


def _names(pod: Pod) -> Iterator[Finding]:
    out = rules_for(pod, "egress")
    if out is not None and not any(lets_through(rule, pod, 53, "UDP") for rule in out):
        values = {"caller": pod.object, "target": "UDP port 53 (DNS)"}
        yield finding("blocked-names", pod.object, "NetworkPolicy spec.egress", _NONE, **values)


def _call(caller: Pod, called: list[Pod], number: int) -> Iterator[Finding]:
    for other in called:
        values = {"caller": caller.object, "target": f"port {number} of {other.object}"}
        if not _passes("egress", caller, other, other, number):
            yield finding("blocked-egress", caller.object, "NetworkPolicy spec.egress", _NONE, **values)
        if not _passes("ingress", other, caller, other, number):
            yield finding("blocked-ingress", other.object, "NetworkPolicy spec.ingress", _NONE, **values)


def _passes(way: Way, guarded: Pod, peer: Pod, called: Pod, number: int) -> bool:
    """Whether the policies of one end let the other end through."""
    let = rules_for(guarded, way)
    return let is None or any(
        lets_through(rule, called, number) and takes_peer(rule, way, guarded.namespace, peer) for rule in let
    )
