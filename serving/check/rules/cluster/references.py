"""Names that point to something: each has to be there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from serving.check.findings import Finding, Place, finding
from serving.check.manifests.objects import Container, Manifests, Pod
from serving.check.manifests.servers import servers
from serving.check.manifests.values import items, mapping, text

__all__ = ["check"]


def check(manifests: Manifests) -> Iterator[Finding]:
    for pod in manifests.pods:
        yield from _volumes(manifests, pod)
        account = text(pod.spec, "serviceAccountName")
        if account not in ("", "default") and manifests.lacks("ServiceAccount", account, pod.namespace):
            accounts = manifests.names("ServiceAccount", pod.namespace)
            yield finding("missing-serviceaccount", pod, "serviceAccountName", repr(account), known=accounts)
        for container in pod.containers():
            known = [*pod.volumes, *pod.claim_templates]
            for name in [text(mount, "name") for mount in container.mounts]:
                if name not in known:
                    shown = ", ".join(known) or "none"
                    yield finding("volume-undeclared", container, f"volumeMounts[{name}]", repr(name), known=shown)
            yield from _environment(manifests, container)
    yield from _twice(manifests)
    yield from _unused(manifests)
    made = ", ".join(found.name for found in manifests.of("Namespace"))
    for server in servers(manifests):
        if made and manifests.lacks("Namespace", server.pod.namespace, ""):
            yield finding("namespace", server.object, "metadata.namespace", repr(server.pod.namespace), known=made)


def _volumes(manifests: Manifests, pod: Pod) -> Iterator[Finding]:
    mounted = {text(mount, "name") for container in pod.containers() for mount in container.mounts}
    for name, volume in pod.volumes.items():
        field = f"volumes[{name}]"
        if name not in mounted:
            yield finding("volume-unused", pod, field, f"{name!r}, mounted nowhere")
        for source in [volume, *items(volume, "projected.sources")]:
            config = mapping(source, "configMap")
            if config:
                keys = [text(item, "key") for item in items(config, "items")]
                yield from _config_map(manifests, pod, f"{field}.configMap", pod.namespace, config, keys)
        claim = text(volume, "persistentVolumeClaim.claimName")
        if claim and manifests.lacks("PersistentVolumeClaim", claim, pod.namespace):
            known = manifests.names("PersistentVolumeClaim", pod.namespace)
            yield finding("missing-claim", pod, f"{field}.persistentVolumeClaim.claimName", repr(claim), known=known)


def _config_map(
    manifests: Manifests, place: Place, field: str, namespace: str, reference: dict[str, Any], keys: list[str]
) -> Iterator[Finding]:
    name = text(reference, "name")
    # Kubernetes puts its own certificate into every namespace.
    if reference.get("optional") is True or name == "kube-root-ca.crt" or manifests.external("ConfigMap", name):
        return
    found = manifests.find("ConfigMap", name, namespace)
    if found is None:
        yield finding(
            "missing-configmap", place, f"{field}.name", repr(name), known=manifests.names("ConfigMap", namespace)
        )
        return
    have = mapping(found.data, "data").keys() | mapping(found.data, "binaryData").keys()
    for key in keys:
        if key not in have:
            yield finding("missing-key", place, field, repr(key), object=found, known=", ".join(sorted(have)) or "none")


def _environment(manifests: Manifests, container: Container) -> Iterator[Finding]:
    pod = container.pod
    names = sorted(text(other.data, "name") for other in pod.containers())
    for name, entry in container.env.items():
        reference = mapping(entry, "valueFrom.configMapKeyRef")
        field = f"env[{name}].valueFrom"
        if reference:
            keys = [text(reference, "key")]
            yield from _config_map(manifests, container, field, pod.namespace, reference, keys)
        other = text(entry, "valueFrom.resourceFieldRef.containerName")
        if other and other not in names:
            field += ".resourceFieldRef.containerName"
            yield finding("missing-container", container, field, repr(other), known=", ".join(names))
    for source in items(container.data, "envFrom"):
        reference = mapping(source, "configMapRef")
        if reference:
            yield from _config_map(manifests, container, "envFrom", pod.namespace, reference, [])


def _unused(manifests: Manifests) -> Iterator[Finding]:
    """Config files that no pod reads."""
    named = set()
    for volume in [volume for pod in manifests.pods for volume in pod.volumes.values()]:
        for source in [volume, *items(volume, "projected.sources")]:
            named.add(text(source, "configMap.name"))
    for found in manifests.of("ConfigMap"):
        keys = sorted(key for key in mapping(found.data, "data") if str(key).endswith(".config"))
        if keys and found.name not in named:
            yield finding("configmap-unused", found, "metadata.name", "none", keys=", ".join(keys))


def _twice(manifests: Manifests) -> Iterator[Finding]:
    seen: set[tuple[str, str, str, str]] = set()
    for found in manifests.objects:
        key = (found.api_version, found.kind, found.namespace, found.name)
        if found.name and key in seen:
            yield finding("object-twice", found, "metadata.name", f"{found.name!r} again")
        seen.add(key)
