"""NetworkPolicies: those who need the server's ports can reach them, and nobody else."""

import difflib
import re
from collections.abc import Iterator
from typing import Any, Literal

from serving.check.findings import Finding, finding
from serving.check.manifests.objects import Manifests, Object, Pod
from serving.check.manifests.servers import Server, servers
from serving.check.manifests.values import integer, items, mapping, matches, strings, text

Way = Literal["ingress", "egress"]

_SIDES: dict[Way, str] = {"ingress": "from", "egress": "to"}
"""The peers of a rule, by its direction."""

_CALLER = "duoserve.dev/client"
_NAME_LABEL = "kubernetes.io/metadata.name"
_COMMON = ["cert-manager", "default", "envoy-gateway-system", "gateway-system", "ingress-nginx", "istio-system", "keda",
           "kserve", "kube-public", "kube-system", "monitoring", "observability", "prometheus"]  # fmt: skip
_CALL = re.compile(r"(?:^|[=/:])([a-z0-9][a-z0-9-]*)(?:\.[\w.-]+)?:(\d+)(?:$|/)")
_NONE = "none of the policies that select its pods has one"


def check(manifests: Manifests) -> Iterator[Finding]:
    here = {found.namespace for found in manifests.objects} | {found.name for found in manifests.of("Namespace")}
    known = sorted({*_COMMON, *here})
    for policy in manifests.of("NetworkPolicy"):
        for way, side in _SIDES.items():
            if items(policy.spec, way) and not _governs(policy, way):
                types = policy.spec.get("policyTypes")
                yield finding("policy-types", policy, "spec.policyTypes", types, type=way.capitalize(), way=way)
            yield from _namespaces(policy, f"spec.{way}.{side}", items(policy.spec, way, side), known)
    for server in servers(manifests):
        yield from _egress(server)
        yield from _ingress(server)
        yield from _closed(manifests, server)
    yield from _callers(manifests)


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
    for policy in _policies_of(server.pod):
        for rule in items(policy.spec, "egress"):
            if not remote and not items(rule, "to"):
                yield finding("egress-open", policy, "spec.egress", f"a rule to everywhere: {rule}")


def _ingress(server: Server) -> Iterator[Finding]:
    if rules_for(server.pod, "ingress") is None:
        yield finding("no-policy", server.object, "metadata.labels", "none")
    for policy in _policies_of(server.pod):
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
        policy = _policies_of(pod, "ingress")[0]
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


def _callers(manifests: Manifests) -> Iterator[Finding]:
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
        lets_through(rule, called, number) and _takes_peer(rule, way, guarded.namespace, peer) for rule in let
    )


def _governs(policy: Object, way: Way) -> bool:
    """Whether a policy restricts this direction; without policyTypes, by the API server's defaults."""
    types = strings(policy.spec, "policyTypes")
    return way.capitalize() in types if types else way == "ingress" or bool(items(policy.spec, "egress"))


def _policies_of(pod: Pod, way: Way | None = None) -> list[Object]:
    """The policies that select a pod."""
    return [
        policy
        for policy in pod.manifests.of("NetworkPolicy", namespace=pod.namespace)
        if matches(policy.spec.get("podSelector"), pod.labels) and (way is None or _governs(policy, way))
    ]


def rules_for(pod: Pod, way: Way) -> list[dict[str, Any]] | None:
    """The rules that allow traffic for a pod; None if no policy restricts it."""
    policies = _policies_of(pod, way)
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


def _takes_peer(rule: dict[str, Any], way: Way, home: str, other: Pod) -> bool:
    """Whether a rule's peers include a pod, given the policy's namespace; an address range may."""
    peers = items(rule, _SIDES[way])
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
