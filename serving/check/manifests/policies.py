"""The traffic that NetworkPolicies allow."""

from __future__ import annotations

from typing import Any, Literal

from serving.check.manifests.objects import Object, Pod
from serving.check.manifests.values import integer, items, matches, strings

__all__ = ["SIDES", "Way", "governs", "lets_through", "policies_of", "rules_for", "takes_peer"]

Way = Literal["ingress", "egress"]

SIDES: dict[Way, str] = {"ingress": "from", "egress": "to"}
"""The peers of a rule, by its direction."""


def governs(policy: Object, way: Way) -> bool:
    """Whether a policy restricts this direction; without policyTypes, by the API server's defaults."""
    types = strings(policy.spec, "policyTypes")
    return way.capitalize() in types if types else way == "ingress" or bool(items(policy.spec, "egress"))


def policies_of(pod: Pod, way: Way | None = None) -> list[Object]:
    """The policies that select a pod."""
    return [
        policy
        for policy in pod.manifests.of("NetworkPolicy", namespace=pod.namespace)
        if matches(policy.spec.get("podSelector"), pod.labels) and (way is None or governs(policy, way))
    ]


def rules_for(pod: Pod, way: Way) -> list[dict[str, Any]] | None:
    """The rules that allow traffic for a pod; None if no policy restricts it."""
    policies = policies_of(pod, way)
    return [rule for policy in policies for rule in items(policy.spec, way)] if policies else None


def lets_through(rule: dict[str, Any], pod: Pod, number: int, protocol: str = "TCP") -> bool:
    """Whether a rule allows a port of this pod; a port's name is looked up in the pod."""
    ports = items(rule, "ports")
    for port in [port for port in ports if (port.get("protocol") or "TCP") == protocol]:
        first = pod.port_number(port.get("port"))
        last = integer(port, "endPort") or first
        if port.get("port") is None or (first and last and first <= number <= last):
            return True
    return not ports


def takes_peer(rule: dict[str, Any], way: Way, home: str, other: Pod) -> bool:
    """Whether a rule's peers include a pod; an address range may.

    Args:
        home: The namespace of the policy.
    """
    peers = items(rule, SIDES[way])
    for peer in peers:
        where = peer.get("namespaceSelector")
        near = other.namespace == home if where is None else matches(where, _namespace_labels(other))
        if "ipBlock" in peer or (near and matches(peer.get("podSelector"), other.labels)):
            return True
    return not peers


def _namespace_labels(pod: Pod) -> dict[str, Any]:
    """The labels of a pod's namespace, with the one that Kubernetes sets itself."""
    found = pod.manifests.find("Namespace", pod.namespace)
    return {**(found.labels if found else {}), "kubernetes.io/metadata.name": pod.namespace}
