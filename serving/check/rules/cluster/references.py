"""Names and selectors: each has to point to something, and to what was meant."""

import itertools
from collections.abc import Iterator
from typing import Any

from serving.check.findings import Finding, Place, finding
from serving.check.manifests.files import config_maps
from serving.check.manifests.objects import Manifests, Object, Pod
from serving.check.manifests.servers import servers
from serving.check.manifests.values import items, mapping, matches, text

_RULES = {
    "ConfigMap": "missing-configmap",
    "PersistentVolumeClaim": "missing-claim",
    "ServiceAccount": "missing-serviceaccount",
}
_ANYWHERE = ("", "default", "kube-root-ca.crt")
"""No name, and what Kubernetes puts into every namespace."""


def check(manifests: Manifests) -> Iterator[Finding]:
    for pod in manifests.pods:
        for place, field, kind, reference in _references(pod):
            yield from _missing(pod, place, field, kind, reference)
        yield from _inside(pod)
    seen: set[tuple[str, ...]] = set()
    for found in manifests.objects:
        key = (found.api_version, found.kind, found.namespace, found.name)
        if found.name and key in seen:
            yield finding("object-twice", found, "metadata.name", f"{found.name!r} again")
        seen.add(key)
    volumes = [volume for pod in manifests.pods for volume in pod.volumes.values()]
    mounted = {text(source, "name") for volume in volumes for source in config_maps(volume)}
    for found in manifests.of("ConfigMap"):
        keys = {key for key in mapping(found.data, "data") if str(key).endswith(".config")}
        if keys and found.name not in mounted:
            yield finding("configmap-unused", found, "metadata.name", "none", keys=keys)
    made = {found.name for found in manifests.of("Namespace")}
    for server in servers(manifests):
        if made and manifests.lacks("Namespace", server.pod.namespace, ""):
            yield finding("namespace", server.object, "metadata.namespace", repr(server.pod.namespace), known=made)
    yield from _selectors(manifests)


def _references(pod: Pod) -> Iterator[tuple[Place, str, str, dict[str, Any]]]:
    """Everything that a pod names outside of itself: place, field, kind, and the reference with its keys."""
    yield pod, "serviceAccountName", "ServiceAccount", {"name": pod.spec.get("serviceAccountName")}
    for name, volume in pod.volumes.items():
        claim = {"name": mapping(volume, "persistentVolumeClaim").get("claimName")}
        yield pod, f"volumes[{name}].persistentVolumeClaim.claimName", "PersistentVolumeClaim", claim
        for source in config_maps(volume):
            yield pod, f"volumes[{name}].configMap", "ConfigMap", source
    for container in pod.containers():
        for name, entry in container.env.items():
            yield container, f"env[{name}].valueFrom", "ConfigMap", mapping(entry, "valueFrom.configMapKeyRef")
        for source in items(container.data, "envFrom"):
            yield container, "envFrom", "ConfigMap", mapping(source, "configMapRef")


def _missing(pod: Pod, place: Place, field: str, kind: str, reference: dict[str, Any]) -> Iterator[Finding]:
    name, manifests = text(reference, "name"), pod.manifests
    if reference.get("optional") is True or name in _ANYWHERE or manifests.external(kind, name):
        return
    found = manifests.find(kind, name, pod.namespace)
    if found is None:
        where = f"{field}.name" if kind == "ConfigMap" else field
        yield finding(_RULES[kind], place, where, repr(name), known=manifests.names(kind, pod.namespace))
        return
    have = mapping(found.data, "data").keys() | mapping(found.data, "binaryData").keys()
    for key in [text(entry, "key") for entry in [reference, *items(reference, "items")]]:
        if key and key not in have:
            yield finding("missing-key", place, field, repr(key), object=found, known=have)


def _inside(pod: Pod) -> Iterator[Finding]:
    """Volumes and containers that a pod names in itself."""
    containers, known = pod.containers(), pod.volumes.keys() | pod.claim_templates.keys()
    mounted = {text(mount, "name") for container in containers for mount in container.mounts}
    for name in [name for name in pod.volumes if name not in mounted]:
        yield finding("volume-unused", pod, f"volumes[{name}]", f"{name!r}, mounted nowhere")
    names = {text(container.data, "name") for container in containers}
    for container in containers:
        for name in [text(mount, "name") for mount in container.mounts]:
            if name not in known:
                yield finding("volume-undeclared", container, f"volumeMounts[{name}]", repr(name), known=known)
        for variable, entry in container.env.items():
            other = text(entry, "valueFrom.resourceFieldRef.containerName")
            if other and other not in names:
                field = f"env[{variable}].valueFrom.resourceFieldRef.containerName"
                yield finding("missing-container", container, field, repr(other), known=names)


def _selectors(manifests: Manifests) -> Iterator[Finding]:
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
