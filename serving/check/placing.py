"""Where pods may run: rules of nodes and neighbours that contradict each other, or leave no room for a roll."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from serving.check._data import dig, items, mapping, matches, strings, text
from serving.check._manifests import Finding, Manifests, Pod

__all__ = ["check"]

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_WIDE = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")


def check(manifests: Manifests) -> Iterator[Finding]:
    for pod in manifests.pods:
        if pod.runs_for_ever:
            yield from _apart(pod)
        yield from _nodes(pod)


def _apart(pod: Pod) -> Iterator[Finding]:
    """Pods that must not share a zone with their like: no more of them than zones."""
    for index, term in enumerate(items(dig(pod.spec, "affinity", "podAntiAffinity", _REQUIRED))):
        selector, key = term.get("labelSelector"), text(term.get("topologyKey"))
        if key in _WIDE and mapping(selector) and matches(selector, pod.labels):
            yield Finding(
                "anti-affinity-zone",
                str(pod.owner),
                f"{pod.path}.affinity.podAntiAffinity.{_REQUIRED}[{index}]",
                "a spread over zones (topologySpreadConstraints), or a preferred anti-affinity",
                f"{key}, required, for labels that these pods have",
                "There is one pod a zone at most: further replicas, and the pod that a roll adds, stay Pending.",
                "Make it preferred, as the base's spread with ScheduleAnyway.",
            )


def _nodes(pod: Pod) -> Iterator[Finding]:
    """A node affinity that no node of the selector can meet."""
    chosen = mapping(pod.spec.get("nodeSelector"))
    terms = items(dig(pod.spec, "affinity", "nodeAffinity", _REQUIRED, "nodeSelectorTerms"))
    against = [_against(term, chosen) for term in terms]
    if terms and all(against):
        yield Finding(
            "node-contradiction",
            str(pod.owner),
            f"{pod.path}.affinity.nodeAffinity.{_REQUIRED}",
            f"a term that nodes of the nodeSelector meet ({chosen})",
            "; ".join(against),
            "No node fits both: the pods stay Pending for ever.",
            "Make both the same, or remove one.",
        )


def _against(term: dict[str, Any], chosen: dict[str, Any]) -> str:
    """What in a term excludes the chosen labels; "" when nothing does."""
    for expression in items(term.get("matchExpressions")):
        key = text(expression.get("key"))
        if key in chosen and not matches({"matchExpressions": [expression]}, {key: chosen[key]}):
            return f"{key} {expression.get('operator')} {strings(expression.get('values'))}"
    return ""
