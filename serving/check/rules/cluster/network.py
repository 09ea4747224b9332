"""NetworkPolicies: only those who need the server's ports can reach them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any

from serving.check.findings import Finding, finding
from serving.check.manifests.objects import Manifests, Object, Pod
from serving.check.manifests.policies import SIDES, governs, lets_through, policies_of, rules_for
from serving.check.manifests.servers import Server, servers
from serving.check.manifests.values import items, mapping, strings, text

__all__ = ["check"]


_CALLER = "duoserve.dev/client"
_NAME_LABEL = "kubernetes.io/metadata.name"
_COMMON = ["cert-manager", "default", "envoy-gateway-system", "gateway-system", "ingress-nginx", "istio-system", "keda",
           "kserve", "kube-public", "kube-system", "monitoring", "observability", "prometheus"]  # fmt: skip


def check(manifests: Manifests) -> Iterator[Finding]:
    here = {found.namespace for found in manifests.objects} | {found.name for found in manifests.of("Namespace")}
    known = sorted({*_COMMON, *here})
    for policy in manifests.of("NetworkPolicy"):
        for way, side in SIDES.items():
            if items(policy.spec, way) and not governs(policy, way):
                types = policy.spec.get("policyTypes")
                yield finding("policy-types", policy, "spec.policyTypes", types, type=way.capitalize(), way=way)
            yield from _namespaces(policy, f"spec.{way}.{side}", items(policy.spec, way, side), known)
    for server in servers(manifests):
        yield from _egress(server)
        yield from _ingress(server)
        yield from _closed(manifests, server)


def _namespaces(policy: Object, field: str, peers: list[dict[str, Any]], known: list[str]) -> Iterator[Finding]:
    """A namespace's name that is nearly one of this set or of most clusters."""
    names = [text(mapping(peer, "namespaceSelector.matchLabels").get(_NAME_LABEL)) for peer in peers]
    for expression in [e for peer in peers for e in items(peer, "namespaceSelector.matchExpressions")]:
        if expression.get("key") == _NAME_LABEL and expression.get("operator") == "In":
            names += strings(expression, "values")
    for name in names:
        near = difflib.get_close_matches(name, known, 1, cutoff=0.85) if name not in known else []
        if near and not _is_sibling(name, near[0]):
            yield finding("namespace-name", policy, f"{field}.namespaceSelector", repr(name), near=near[0])


def _is_sibling(name: str, other: str) -> bool:
    """Whether two names are members of one series: monitoring-eu, team-a and team-b, shard1 and shard2."""
    head, _, tail = name.rpartition("-")
    series = bool(head) and other.startswith(f"{head}-") and len(tail) <= 3 and len(other) <= len(head) + 4
    return series or name.startswith(other) or re.sub(r"\d+", "", name) == re.sub(r"\d+", "", other)


def _egress(server: Server) -> Iterator[Finding]:
    paths = [*(model.base_path for model in server.models()), server.flags.get("model_base_path", "")]
    remote = next((path for path in paths if "://" in path), "")
    out = rules_for(server.pod, "egress")
    if remote and out == []:
        yield finding("blocked-store", server.object, "NetworkPolicy spec.egress", "no egress at all", store=remote)
    if not remote and out is None:
        yield finding("egress-open", server.object, "metadata.labels", "none that selects its pods")
    for policy in policies_of(server.pod):
        for rule in items(policy.spec, "egress"):
            if not remote and not items(rule, "to"):
                yield finding("egress-open", policy, "spec.egress", f"a rule to everywhere: {rule}")


def _ingress(server: Server) -> Iterator[Finding]:
    if rules_for(server.pod, "ingress") is None:
        yield finding("no-policy", server.object, "metadata.labels", "none")
    for policy in policies_of(server.pod):
        for rule in items(policy.spec, "ingress"):
            peers = items(rule, "from")
            if not peers or any(_is_everybody(peer) for peer in peers):
                yield finding("ingress-open", policy, "spec.ingress.from", peers or "everybody")
            elif not items(rule, "ports"):
                yield finding("ingress-ports", policy, "spec.ingress.ports", "all ports")


def _is_everybody(peer: dict[str, Any]) -> bool:
    """A peer that stands for a whole namespace, the cluster or the world."""
    if "ipBlock" in peer:
        return text(peer, "ipBlock.cidr") in ("0.0.0.0/0", "::/0")
    return not mapping(peer, "podSelector") and not mapping(peer, "namespaceSelector")


def _closed(manifests: Manifests, server: Server) -> Iterator[Finding]:
    """Ports of the server that are closed to callers, Prometheus or a gateway that need them."""
    pod, number = server.pod, server.grpc_port
    let = rules_for(pod, "ingress")
    if let is None or number is None:
        return
    open_ = [rule for rule in let if lets_through(rule, pod, number)]
    if not open_:
        policy = policies_of(pod, "ingress")[0]
        yield finding("port-closed", policy, "spec.ingress", "none", port=number, object=pod.object)
    peers = items({"rules": open_}, "rules", "from")
    labelled = all(_CALLER in mapping(peer, "podSelector.matchLabels") for peer in peers)
    if open_ and labelled and _is_routed(manifests, pod):
        received = f"callers with the label {_CALLER} only"
        yield finding("route-blocked", server.object, "NetworkPolicy spec.ingress", received, port=number)


def _is_routed(manifests: Manifests, pod: Pod) -> bool:
    """Whether a route leads to a Service that selects the pod."""
    return any(
        pod in manifests.behind(manifests.find("Service", text(backend, "name"), route.namespace))
        for route in manifests.of("GRPCRoute", "HTTPRoute")
        for backend in items(route.spec, "rules", "backendRefs")
    )
