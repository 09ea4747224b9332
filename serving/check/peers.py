"""Who a NetworkPolicy names: namespaces by a name that exists, and address ranges that are ones."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterator
from typing import Any

from serving.check._data import dig, items, mapping, strings, text
from serving.check._manifests import Finding, Manifests, Object

__all__ = ["check"]

_SHORT = 3
_KEY = "kubernetes.io/metadata.name"
_WELL_KNOWN = {
    "cert-manager",
    "default",
    "envoy-gateway-system",
    "gateway-system",
    "ingress-nginx",
    "istio-system",
    "keda",
    "kserve",
    "kube-public",
    "kube-system",
    "monitoring",
    "observability",
    "prometheus",
}


def check(manifests: Manifests) -> Iterator[Finding]:
    present = {found.namespace for found in manifests.objects} | {found.name for found in manifests.of("Namespace")}
    known = sorted(_WELL_KNOWN | present)
    for policy in manifests.of("NetworkPolicy"):
        for way, side in (("ingress", "from"), ("egress", "to")):
            for peer in [peer for rule in items(policy.spec.get(way)) for peer in items(rule.get(side))]:
                yield from _namespaces(policy, f"spec.{way}.{side}.namespaceSelector", peer, known)
                if "ipBlock" in peer:
                    yield from _range(policy, f"spec.{way}.{side}.ipBlock", mapping(peer["ipBlock"]))


def _namespaces(policy: Object, field: str, peer: dict[str, Any], known: list[str]) -> Iterator[Finding]:
    """A name that nearly is one that this set or most clusters have."""
    selector = mapping(peer.get("namespaceSelector"))
    names = [text(dig(selector, "matchLabels", _KEY))]
    for expression in items(selector.get("matchExpressions")):
        if expression.get("key") == _KEY and expression.get("operator") == "In":
            names += strings(expression.get("values"))
    for name in names:
        near = difflib.get_close_matches(name, known, 1, cutoff=0.85) if name and name not in known else []
        if near and not _sibling(name, near[0]):
            yield Finding(
                "namespace-name",
                str(policy),
                field,
                f"a namespace that there is, such as {near[0]}",
                repr(name),
                "No namespace has that name, so the rule lets nobody through.",
                f"Write {near[0]}.",
            )


def _sibling(name: str, other: str) -> bool:
    """Whether two names differ as those of a row do: monitoring-eu, team-a and team-b, shard1 and shard2."""
    (head, _, tail), (other_head, _, other_tail) = name.rpartition("-"), other.rpartition("-")
    short = len(tail) <= _SHORT and len(other_tail) <= _SHORT
    numbered = re.sub(r"\d+", "", name) == re.sub(r"\d+", "", other)
    return name.startswith(other) or numbered or (bool(head) and head == other_head and short)


def _range(policy: Object, field: str, block: dict[str, Any]) -> Iterator[Finding]:
    whole = _network(block.get("cidr"))
    wrong = [("cidr", block.get("cidr"))] if whole is None else []
    for part in strings(block.get("except")):
        inner = _network(part)
        if inner is None or (
            whole is not None and not (inner.version == whole.version and inner.subnet_of(whole))  # type: ignore[arg-type]
        ):
            wrong.append(("except", part))
    for name, shown in wrong:
        yield Finding(
            "policy-range",
            str(policy),
            f"{field}.{name}",
            "a range with its prefix, as 10.0.0.0/8" + (", inside of cidr" if name == "except" else ""),
            repr(shown),
            "The API server refuses the policy.",
            "Write the range with its prefix; one address is ADDRESS/32 (IPv6: /128).",
        )


def _network(value: Any) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    if "/" not in text(value):
        return None
    try:
        return ipaddress.ip_network(value, strict=False)
    except ValueError:
        return None
