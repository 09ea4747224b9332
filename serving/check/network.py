"""NetworkPolicies: the server's ports are open to those who need them, and to nobody else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal

from serving.check._data import dig, integer, items, mapping, matches, strings, text
from serving.check._manifests import Finding, Manifests, Object, Pod
from serving.check._server import Server, servers

__all__ = ["check", "covers", "pods_source", "rules"]

Way = Literal["ingress", "egress"]
_CALL = re.compile(r"(?:^|[=/:])([a-z0-9][a-z0-9-]*)(?:\.[\w.-]+)?:(\d+)(?:$|/)")
_CALLER = "duoserve.dev/client"


def check(manifests: Manifests) -> Iterator[Finding]:
    for policy in manifests.of("NetworkPolicy"):
        yield from _written(manifests, policy)
    for server in servers(manifests):
        yield from _guarded(manifests, server)
        yield from _closed(manifests, server)
        yield from _exposed(manifests, server)
    for pod in manifests.pods:
        yield from _calls(manifests, pod)


def _governs(policy: Object, way: Way) -> bool:
    """Whether a policy has a say in this direction; without policyTypes the API server fills them in so."""
    types = strings(policy.spec.get("policyTypes"))
    return way.capitalize() in types if types else way == "ingress" or bool(items(policy.spec.get("egress")))


def _policies(manifests: Manifests, pod: Pod, way: Way | None = None) -> list[Object]:
    """The policies that select a pod."""
    return [
        policy
        for policy in manifests.of_namespace("NetworkPolicy", pod.owner.namespace)
        if matches(policy.spec.get("podSelector"), pod.labels) and (way is None or _governs(policy, way))
    ]


def rules(manifests: Manifests, pod: Pod, way: Way) -> list[dict[str, Any]] | None:
    """What policies let through for a pod; None when no policy restricts it."""
    policies = _policies(manifests, pod, way)
    return [rule for policy in policies for rule in items(policy.spec.get(way))] if policies else None


def covers(rule: dict[str, Any], pod: Pod, number: int, protocol: str = "TCP") -> bool:
    """Whether a rule lets a port of this pod through; a port's name is looked up in the pod."""
    ports = items(rule.get("ports"))
    names = pod.port_numbers()
    for port in ports:
        value = port.get("port")
        first = names.get(value) if isinstance(value, str) else integer(value)
        last = integer(port.get("endPort")) or first
        if (port.get("protocol") or "TCP") == protocol and (
            value is None or (first is not None and last is not None and first <= number <= last)
        ):
            return True
    return not ports


def _meets(manifests: Manifests, rule: dict[str, Any], way: Way, home: str, other: Pod) -> bool:
    """Whether a rule's peers take in a pod; an address range may."""
    peers = items(rule.get("from" if way == "ingress" else "to"))
    for peer in peers:
        where = peer.get("namespaceSelector")
        near = other.owner.namespace == home if where is None else matches(where, _namespace(manifests, other))
        if "ipBlock" in peer or (near and matches(peer.get("podSelector"), other.labels)):
            return True
    return not peers


def _namespace(manifests: Manifests, pod: Pod) -> dict[str, Any]:
    """The labels of a pod's namespace, with the one that Kubernetes sets itself."""
    name = pod.owner.namespace
    found = manifests.namespace(name)
    return {**(found.labels if found else {}), "kubernetes.io/metadata.name": name}


def _written(manifests: Manifests, policy: Object) -> Iterator[Finding]:
    """Rules that do nothing: for a direction that policyTypes leaves out, or for ports in the wrong order."""
    ways: tuple[Way, Way] = ("ingress", "egress")
    for way in ways:
        if items(policy.spec.get(way)) and not _governs(policy, way):
            yield Finding(
                "policy-types",
                str(policy),
                "spec.policyTypes",
                f"{way.capitalize()} among them, since there are {way} rules",
                str(policy.spec.get("policyTypes")),
                f"The {way} rules are not looked at: what they should restrict is open.",
                f"Add {way.capitalize()}.",
            )
        for port in [port for rule in items(policy.spec.get(way)) for port in items(rule.get("ports"))]:
            first, last = integer(port.get("port")), integer(port.get("endPort"))
            if port.get("endPort") is not None and (first is None or last is None or last < first):
                yield Finding(
                    "policy-ports",
                    str(policy),
                    f"spec.{way}.ports.endPort",
                    "a number of at least `port`, which is a number too",
                    f"{port.get('port')!r} to {port['endPort']!r}",
                    "The API server refuses the policy.",
                    "Correct the range.",
                )


def _guarded(manifests: Manifests, server: Server) -> Iterator[Finding]:
    pod = server.container.pod
    if not _policies(manifests, pod, "ingress"):
        yield Finding(
            "no-policy",
            server.object,
            "metadata.labels",
            "a NetworkPolicy that selects its pods",
            "none",
            "Every pod of the cluster can reload its config: the gRPC port asks for no authentication.",
            "Add one.",
        )
    if not _policies(manifests, pod, "egress"):
        yield Finding(
            "egress-open",
            server.object,
            "metadata.labels",
            "a NetworkPolicy of it with policyTypes Egress and no egress",
            "none",
            "The server needs to call nobody; a model that is not yours could.",
            "Add Egress to policyTypes.",
        )
    for policy in _policies(manifests, pod):
        for rule in items(policy.spec.get("egress")):
            if not items(rule.get("to")):
                yield Finding(
                    "egress-open",
                    str(policy),
                    "spec.egress",
                    "no egress for the server",
                    f"a rule to everywhere: {rule}",
                    "The server needs to call nobody; a model that is not yours could.",
                    "Write egress: [].",
                )
        for rule in items(policy.spec.get("ingress")):
            peers = items(rule.get("from"))
            if not peers or any(_everybody(peer) for peer in peers):
                yield Finding(
                    "ingress-open",
                    str(policy),
                    "spec.ingress.from",
                    "labelled callers only",
                    str(peers or "everybody"),
                    "Anybody can reload the config over the gRPC port: it asks for no authentication.",
                    "Name the callers by a label.",
                )
            elif not items(rule.get("ports")):
                yield Finding(
                    "ingress-ports",
                    str(policy),
                    "spec.ingress.ports",
                    "the one port that these callers need",
                    "all ports",
                    "Callers reach REST and metrics too, or Prometheus the reload call.",
                    "Name the port.",
                )


def _everybody(peer: dict[str, Any]) -> bool:
    """A peer that takes in a whole namespace, the cluster or the world."""
    if dig(peer, "ipBlock", "cidr") in ("0.0.0.0/0", "::/0"):
        return True
    anyone, anywhere = not mapping(peer.get("podSelector")), not mapping(peer.get("namespaceSelector"))
    return anyone and anywhere and "ipBlock" not in peer


def _closed(manifests: Manifests, server: Server) -> Iterator[Finding]:
    """Ports of the server that nobody may reach, though callers, Prometheus or a gateway have to."""
    pod, number = server.container.pod, server.number("port")
    let = rules(manifests, pod, "ingress")
    if let is None or number is None:
        return
    open_ = [rule for rule in let if covers(rule, pod, number)]
    if not open_:
        yield _port_closed(manifests, pod, number, "Every call is dropped without an answer.")
    elif _routed(manifests, pod) and all(_labelled(peer) for rule in open_ for peer in items(rule.get("from"))):
        yield Finding(
            "route-blocked",
            server.object,
            "NetworkPolicy spec.ingress",
            f"a rule for the gateway's pods at port {number}, since a route leads here",
            f"callers with the label {_CALLER} only",
            "The gateway's connections are dropped: every call through it is UNAVAILABLE.",
            "Let the gateway's namespace in, as k8s/components/gateway-canary does.",
        )


def _port_closed(manifests: Manifests, pod: Pod, number: int, why: str) -> Finding:
    return Finding(
        "port-closed",
        str(_policies(manifests, pod, "ingress")[0]),
        "spec.ingress",
        f"a rule that lets somebody reach port {number} of {pod.owner} over TCP",
        "none",
        why,
        "Add the port to the rule of its callers.",
    )


def _labelled(peer: dict[str, Any]) -> bool:
    return _CALLER in mapping(dig(peer, "podSelector", "matchLabels"))


def _routed(manifests: Manifests, pod: Pod) -> bool:
    """Whether a route leads to a Service that selects the pod."""
    for route in manifests.of("GRPCRoute", "HTTPRoute"):
        for backend in [
            backend for rule in items(route.spec.get("rules")) for backend in items(rule.get("backendRefs"))
        ]:
            service = manifests.find("Service", text(backend.get("name")), route.namespace)
            if service is not None and pod in manifests.behind(service):
                return True
    return False


def _exposed(manifests: Manifests, server: Server) -> Iterator[Finding]:
    for service in manifests.of("Service"):
        if server.container.pod not in manifests.behind(service):
            continue
        for field, shown in (("type", service.spec.get("type")), ("externalIPs", service.spec.get("externalIPs"))):
            if shown and shown != "ClusterIP":
                yield Finding(
                    "service-exposed",
                    str(service),
                    f"spec.{field}",
                    "a Service for this cluster only (ClusterIP)",
                    str(shown),
                    "The gRPC port takes config reloads without authentication, and leaves the cluster with it.",
                    "Put a gateway with authentication in front.",
                )


def pods_source(manifests: Manifests, argument: str) -> tuple[list[Pod], int] | None:
    """The pods and the port of an argument pods:NAMESPACE/LABELS:PORT, as the rollout takes it."""
    match = re.fullmatch(r"(?:--[\w-]+=)?pods:([^/]*)/(.*):(\d+)", argument)
    if match is None:
        return None
    labels: dict[str, str] = dict(part.partition("=")[::2] for part in match[2].split(","))
    return manifests.selected(match[1], {"matchLabels": labels}), int(match[3])


def _calls(manifests: Manifests, pod: Pod) -> Iterator[Finding]:
    """Calls that a command line names: they have to leave the caller and to be let in at the other end."""
    for container in pod.containers():
        for argument in container.arguments:
            source = pods_source(manifests, argument)
            if source is not None:
                yield from _call(manifests, pod, *source, by_name=False)
            for match in _CALL.finditer(argument):
                service = manifests.find("Service", match[1], pod.owner.namespace)
                for entry in items(service.spec.get("ports")) if service else ():
                    if service and entry.get("port") == int(match[2]):
                        called = manifests.behind(service)
                        target = entry.get("targetPort", entry.get("port"))
                        for each in called:
                            number = each.port_numbers().get(target) if isinstance(target, str) else integer(target)
                            if number:
                                yield from _call(manifests, pod, [each], number, by_name=True)


def _call(manifests: Manifests, pod: Pod, called: list[Pod], number: int, *, by_name: bool) -> Iterator[Finding]:
    out = rules(manifests, pod, "egress")
    if out is not None and by_name and not any(covers(rule, pod, 53, "UDP") for rule in out):
        yield _blocked(pod, "blocked-names", pod, "UDP port 53 (DNS)", "spec.egress", "It finds no address for a name.")
    for other in called:
        where = f"port {number} of {other.owner}"
        leaves = out is None or any(
            covers(rule, other, number) and _meets(manifests, rule, "egress", pod.owner.namespace, other)
            for rule in out
        )
        if not leaves:
            yield _blocked(pod, "blocked-egress", pod, where, "spec.egress", "Its calls are dropped on the way out.")
        let = rules(manifests, other, "ingress")
        enters = let is None or any(
            covers(rule, other, number) and _meets(manifests, rule, "ingress", other.owner.namespace, pod)
            for rule in let
        )
        if not enters:
            yield _blocked(other, "blocked-ingress", pod, where, "spec.ingress", "Its calls are dropped on the way in.")


def _blocked(at: Pod, rule: str, caller: Pod, where: str, field: str, why: str) -> Finding:
    return Finding(
        rule,
        str(at.owner),
        f"NetworkPolicy {field}",
        f"a rule that lets {caller.owner} reach {where}",
        "none of the policies that select its pods has one",
        why,
        "Add the rule, or give the caller the label that the rule asks for.",
    )
