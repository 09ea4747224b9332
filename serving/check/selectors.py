"""Labels and selectors: what selects has to select what was meant, and its ports have to be there."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from serving.check._data import dig, integer, items, mapping, matches, text
from serving.check._manifests import Finding, Manifests, Object, Pod
from serving.check._server import Server, servers

__all__ = ["check", "nothing", "port_of"]


def check(manifests: Manifests) -> Iterator[Finding]:
    yield from _workloads(manifests)
    yield from _services(manifests)
    yield from _headless(manifests)
    yield from _policies(manifests)


def _labels(manifests: Manifests, namespace: str) -> str:
    written = (", ".join(f"{k}={v}" for k, v in sorted(pod.labels.items())) for pod in manifests.pods_of(namespace))
    shown = sorted(set(itertools.islice(written, 50)))
    return "; ".join(shown[:5] + ["…"] * (len(shown) > 5)) or "no pods"


def nothing(manifests: Manifests, found: Object, field: str, selector: Any, why: str) -> Finding:
    """A selector that selects no pod."""
    return Finding(
        "selects-nothing",
        str(found),
        field,
        f"labels of a pod of this namespace ({_labels(manifests, found.namespace)})",
        str(selector),
        why,
        "Copy the labels of the pod template.",
    )


def _workloads(manifests: Manifests) -> Iterator[Finding]:
    for pod in manifests.pods:
        selector = pod.owner.spec.get("selector")
        if pod.owner.kind not in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"):
            continue
        if not mapping(selector) or not matches(selector, pod.labels):
            yield Finding(
                "selector-template",
                str(pod.owner),
                "spec.selector",
                f"the labels of the template ({pod.labels})",
                str(selector),
                "The API server refuses the workload.",
                "Make both the same. A live selector can't change.",
            )
            continue
        for other in manifests.selected(pod.owner.namespace, selector):
            if other.owner is not pod.owner:
                yield Finding(
                    "selector-overlap",
                    str(pod.owner),
                    "spec.selector",
                    "its own pods only",
                    f"{selector}, which also selects the pods of {other.owner}",
                    "Two controllers count each other's pods: autoscalers and budgets see wrong numbers.",
                    "Add a label that tells them apart to selector and template.",
                )
        for index, spread in enumerate(items(pod.spec.get("topologySpreadConstraints"))):
            if not matches(spread.get("labelSelector"), pod.labels) or not mapping(spread.get("labelSelector")):
                yield Finding(
                    "spread-selector",
                    str(pod.owner),
                    f"{pod.path}.topologySpreadConstraints[{index}].labelSelector",
                    f"labels of these pods ({pod.labels})",
                    str(spread.get("labelSelector")),
                    "It counts other pods, so these may all land on one node.",
                    "Copy the labels of the template.",
                )


def _services(manifests: Manifests) -> Iterator[Finding]:
    for service in manifests.of("Service"):
        selector = mapping(service.spec.get("selector"))
        if not selector:
            if _forgotten(manifests, service):
                yield nothing(manifests, service, "spec.selector", selector or "none", "It has no endpoints.")
            continue
        chosen = manifests.behind(service)
        if not chosen:
            yield nothing(
                manifests, service, "spec.selector", selector, "It has no endpoints: every call is UNAVAILABLE."
            )
            continue
        owners = sorted({str(pod.owner) for pod in chosen})
        if len(owners) > 1:
            yield Finding(
                "service-mixes",
                str(service),
                "spec.selector",
                "the pods of one workload",
                f"those of {', '.join(owners)}",
                "Calls go to all of them alike: a canary's weight, or a pod that does not serve, is not respected.",
                "Add the label that tells them apart, as duoserve.dev/track.",
            )
        for port in items(service.spec.get("ports")):
            target = port.get("targetPort", port.get("port"))
            if port.get("protocol") not in (None, "TCP") and any(servers(manifests, pod) for pod in chosen):
                yield Finding(
                    "port-protocol",
                    str(service),
                    f"spec.ports[{port.get('name')}].protocol",
                    "TCP, for gRPC and REST",
                    repr(port["protocol"]),
                    "No call gets through.",
                    "Remove it.",
                )
            for pod in chosen:
                yield from port_of(service, f"spec.ports[{port.get('name')}].targetPort", target, pod)
                yield from _protocol(service, port, target, pod, manifests)


def _forgotten(manifests: Manifests, service: Object) -> bool:
    """Whether a Service without a selector looks like one of the servers': others have their endpoints by hand."""
    key = "app.kubernetes.io/name"
    names = {s.container.pod.labels.get(key) for s in servers(manifests)} - {None}
    by_hand = any(
        service.name in (found.name, found.labels.get("kubernetes.io/service-name"))
        for found in manifests.of("Endpoints", "EndpointSlice")
        if found.namespace == service.namespace
    )
    return service.spec.get("type") != "ExternalName" and not by_hand and service.labels.get(key) in names


def port_of(found: Object, field: str, target: Any, pod: Pod) -> Iterator[Finding]:
    """A port, by name or number, that the pod does not have."""
    ports = pod.port_numbers()
    if target not in [*ports, *ports.values()]:
        yield Finding(
            "missing-port",
            str(found),
            field,
            f"a port of {pod.owner} ({', '.join(f'{name}={number}' for name, number in ports.items()) or 'none'})",
            repr(target),
            "Nothing listens there: calls, scrapes or rules fail without an error here.",
            "Name a port of the container.",
        )


def _protocol(service: Object, port: dict[str, Any], target: Any, pod: Pod, manifests: Manifests) -> Iterator[Finding]:
    """HTTP/2 hints: a gateway that speaks HTTP/1 to the gRPC port fails every call, and the other way round."""
    for server in servers(manifests, pod):
        number = pod.port_numbers().get(target, target) if isinstance(target, str) else target
        hint, tls = text(port.get("appProtocol")), server.tls
        grpc = number == server.number("port")
        yield from _swapped(service, port, server, number)
        if grpc and ((not tls and hint != "kubernetes.io/h2c") or (tls and hint == "kubernetes.io/h2c")):
            wanted = "no kubernetes.io/h2c on a TLS port" if tls else "kubernetes.io/h2c on the gRPC port"
        elif not grpc and number == server.number("rest_api_port") and hint == "kubernetes.io/h2c":
            wanted = "no kubernetes.io/h2c on the REST port"
        else:
            continue
        yield Finding(
            "app-protocol",
            str(service),
            f"spec.ports[{port.get('name')}].appProtocol",
            wanted,
            hint or "none",
            "Gateways and meshes speak the protocol that it says, and every call fails.",
            "Correct the appProtocol.",
        )


def _swapped(service: Object, port: dict[str, Any], server: Server, number: Any) -> Iterator[Finding]:
    """A port that callers know as one API's, by its number or its name, and that leads to the other's."""
    apis = {server.number("port"): "gRPC", server.number("rest_api_port"): "REST"}
    named = server.container.pod.port_numbers().get(text(port.get("name")))
    leads = apis.get(integer(number) or -1)
    said = {"port": apis.get(integer(port.get("port")) or -1), "name": apis.get(named or -1)}
    for field, api in said.items():
        if leads and api and api != leads:
            yield Finding(
                "port-swapped",
                str(service),
                f"spec.ports[{port.get('name')}].{field}",
                f"the {api} port of {server.object} behind {port.get(field)!r}",
                f"the {leads} port, {number}",
                "Callers reach the other API: every call fails.",
                "Give each API its own port and name.",
            )


def _headless(manifests: Manifests) -> Iterator[Finding]:
    """Clients balance over the addresses of a headless Service; behind another one they stick to one pod."""
    for server in servers(manifests):
        pod = server.container.pod
        chosen = [
            service
            for service in manifests.of_namespace("Service", pod.owner.namespace)
            if service.spec.get("clusterIP") == "None"
            and mapping(service.spec.get("selector"))
            and matches({"matchLabels": service.spec["selector"]}, pod.labels)
        ]
        if pod.runs_for_ever and not chosen:
            yield Finding(
                "no-headless",
                server.object,
                "metadata.labels",
                "a Service with clusterIP: None that selects its pods",
                "none",
                "A gRPC client opens one connection: behind a cluster IP all its calls go to one pod.",
                "Set clusterIP: None on the Service that clients name.",
            )
        for service in chosen:
            if service.spec.get("publishNotReadyAddresses"):
                yield Finding(
                    "not-ready-addresses",
                    str(service),
                    "spec.publishNotReadyAddresses",
                    "false",
                    "true",
                    "Clients call pods without a version, and go on calling pods that end.",
                    "Remove it.",
                )


def _policies(manifests: Manifests) -> Iterator[Finding]:
    for policy in manifests.of("NetworkPolicy"):
        selector = policy.spec.get("podSelector")
        chosen = manifests.selected(policy.namespace, selector)
        if not chosen and manifests.pods_of(policy.namespace):  # pods that are elsewhere are not judged here
            yield nothing(
                manifests,
                policy,
                "spec.podSelector",
                selector,
                "It guards nothing: the pods are open to the whole cluster.",
            )
        for rule in items(policy.spec.get("ingress")):
            for port in items(rule.get("ports")):
                for pod in chosen:
                    if port.get("port") is not None and mapping(selector):
                        yield from port_of(policy, "spec.ingress.ports", port["port"], pod)
            for peer in items(rule.get("from")):
                yield from _callers(manifests, policy, peer)


def _callers(manifests: Manifests, policy: Object, peer: dict[str, Any]) -> Iterator[Finding]:
    """A caller's selector with the server's own labels: what `includeSelectors` of kustomize makes of it."""
    wanted = mapping(dig(peer, "podSelector", "matchLabels"))
    own = mapping(dig(policy.spec, "podSelector", "matchLabels"))
    both = {key for key in wanted.keys() & own.keys() if wanted[key] == own[key]} - {"app.kubernetes.io/name"}
    if both and wanted.keys() - own.keys():
        yield Finding(
            "caller-selector",
            str(policy),
            "spec.ingress.from.podSelector",
            "labels of callers",
            f"{wanted}, with the server's own {', '.join(sorted(both))}",
            "No caller has the server's labels, so every call is dropped.",
            "Remove them; kustomize's includeSelectors adds them: list the fields instead.",
        )
