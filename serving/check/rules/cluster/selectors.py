"""Selectors: each has to select the intended pods."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from serving.check.findings import Finding, finding
from serving.check.manifests.objects import Manifests, Object, Pod
from serving.check.manifests.servers import servers
from serving.check.manifests.values import items, mapping, matches

__all__ = ["check", "selects_nothing"]


def check(manifests: Manifests) -> Iterator[Finding]:
    for pod in manifests.pods:
        if pod.object.kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"):
            yield from _workload(manifests, pod)
    for service in manifests.of("Service"):
        yield from _service(manifests, service)
    for policy in manifests.of("NetworkPolicy"):
        selector = policy.spec.get("podSelector")
        # Pods outside this rendering can't be checked.
        if manifests.pods_of(policy.namespace) and not manifests.selected(policy.namespace, selector):
            yield selects_nothing(manifests, policy, "spec.podSelector", selector)
        for peer in items(policy.spec, "ingress", "from"):
            yield from _callers(policy, peer)


def selects_nothing(manifests: Manifests, found: Object, field: str, selector: Any) -> Finding:
    """A selector that selects no pod."""
    pods = itertools.islice(manifests.pods_of(found.namespace), 50)
    labels = sorted({", ".join(f"{key}={value}" for key, value in sorted(pod.labels.items())) for pod in pods})
    known = "; ".join([*labels[:5], *["…"] * (len(labels) > 5)]) or "no pods"
    return finding("selects-nothing", found, field, selector, known=known)


def _workload(manifests: Manifests, pod: Pod) -> Iterator[Finding]:
    selector = pod.object.spec.get("selector")
    if not mapping(selector):
        return  # the schema has it
    if not matches(selector, pod.labels):
        yield finding("selector-template", pod.object, "spec.selector", selector, labels=pod.labels)
        return
    for other in manifests.selected(pod.namespace, selector):
        if other.object is not pod.object:
            shown = f"{selector}, which also selects the pods of {other.object}"
            yield finding("selector-overlap", pod.object, "spec.selector", shown)
    for index, spread in enumerate(items(pod.spec, "topologySpreadConstraints")):
        chosen = spread.get("labelSelector")
        if not mapping(chosen) or not matches(chosen, pod.labels):
            field = f"topologySpreadConstraints[{index}].labelSelector"
            yield finding("spread-selector", pod, field, chosen, labels=pod.labels)


def _service(manifests: Manifests, service: Object) -> Iterator[Finding]:
    selector, pods = mapping(service.spec, "selector"), manifests.behind(service)
    owners = {str(pod.object) for pod in pods}
    if len(owners) > 1:
        yield finding("service-mixes", service, "spec.selector", owners)
    if not pods and (selector or _looks_like_ours(manifests, service)):
        yield selects_nothing(manifests, service, "spec.selector", selector or "none")


def _looks_like_ours(manifests: Manifests, service: Object) -> bool:
    """Whether a Service without a selector belongs to the servers; others may have their endpoints by hand."""
    key = "app.kubernetes.io/name"
    names = {server.pod.labels.get(key) for server in servers(manifests)} - {None}
    by_hand = any(
        service.name in (found.name, found.labels.get("kubernetes.io/service-name"))
        for found in manifests.of("Endpoints", "EndpointSlice", namespace=service.namespace)
    )
    return service.spec.get("type") != "ExternalName" and not by_hand and service.labels.get(key) in names


def _callers(policy: Object, peer: dict[str, Any]) -> Iterator[Finding]:
    """A caller's selector with the server's own labels: what `includeSelectors` of kustomize makes of it."""
    wanted = mapping(peer, "podSelector.matchLabels")
    own = mapping(policy.spec, "podSelector.matchLabels")
    both = {key for key in wanted.keys() & own.keys() if wanted[key] == own[key]} - {"app.kubernetes.io/name"}
    if both and wanted.keys() - own.keys():
        received = f"{wanted}, with the server's own {', '.join(sorted(both))}"
        yield finding("caller-selector", policy, "spec.ingress.from.podSelector", received)
