"""Names that point to something: each has to be there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from serving.check._data import dig, items, mapping, text
from serving.check._manifests import Container, Finding, Manifests, Object, Pod
from serving.check._server import servers

__all__ = ["check"]


def check(manifests: Manifests) -> Iterator[Finding]:
    for pod in manifests.pods:
        yield from _volumes(manifests, pod)
        yield from _account(manifests, pod)
        for container in pod.containers():
            yield from _mounts(container)
            yield from _environment(manifests, container)
    yield from _twice(manifests)
    yield from _unused(manifests)
    yield from _namespaces(manifests)


def _missing(manifests: Manifests, kind: str, name: str, namespace: str) -> bool:
    return not (manifests.find(kind, name, namespace) or manifests.external(kind, name))


def _names(manifests: Manifests, kind: str, namespace: str) -> str:
    names = sorted(found.name for found in manifests.of_namespace(kind, namespace)[:50])
    return ", ".join(names[:10] + ["…"] * (len(names) > 10)) or "none"


def _volumes(manifests: Manifests, pod: Pod) -> Iterator[Finding]:
    namespace = pod.owner.namespace
    mounted = {text(mount.get("name")) for container in pod.containers() for mount in container.mounts}
    for volume in items(pod.spec.get("volumes")):
        name = text(volume.get("name"))
        field = f"{pod.path}.volumes[{name}]"
        if name not in mounted:
            yield Finding(
                "volume-unused",
                str(pod.owner),
                field,
                "a volume that a container mounts",
                f"{name!r}, mounted nowhere",
                "A mount was forgotten or its name is misspelt; the container runs without the files.",
                "Mount it, or remove the volume.",
            )
        sources = [volume, *items(dig(volume, "projected", "sources"))]
        for source in sources:
            config = mapping(source.get("configMap"))
            if config:
                yield from _config_map(
                    manifests,
                    pod.owner,
                    config,
                    text(config.get("name")),
                    [text(i.get("key")) for i in items(config.get("items"))],
                    f"{field}.configMap",
                )
        claim = text(dig(volume, "persistentVolumeClaim", "claimName"))
        if claim and _missing(manifests, "PersistentVolumeClaim", claim, namespace):
            yield Finding(
                "missing-claim",
                str(pod.owner),
                f"{field}.persistentVolumeClaim.claimName",
                f"a PersistentVolumeClaim of this namespace ({_names(manifests, 'PersistentVolumeClaim', namespace)})",
                repr(claim),
                "The pod stays Pending for ever.",
                "Correct the name, or add the claim.",
            )


def _config_map(
    manifests: Manifests, owner: Object, reference: dict[str, Any], name: str, keys: list[str], field: str
) -> Iterator[Finding]:
    # Kubernetes puts its own certificate into every namespace.
    if reference.get("optional") is True or name == "kube-root-ca.crt" or manifests.external("ConfigMap", name):
        return
    found = manifests.find("ConfigMap", name, owner.namespace)
    if found is None:
        yield Finding(
            "missing-configmap",
            str(owner),
            f"{field}.name",
            f"a ConfigMap of this namespace ({_names(manifests, 'ConfigMap', owner.namespace)})",
            repr(name),
            "The container never starts: CreateContainerConfigError or a mount that waits for ever.",
            "Correct the name; one that kustomize generates is named without its hash. One kept elsewhere is "
            "declared with the annotation duoserve.dev/external: ConfigMap/NAME.",
        )
        return
    have = mapping(found.data.get("data")).keys() | mapping(found.data.get("binaryData")).keys()
    for key in keys:
        if key not in have:
            yield Finding(
                "missing-key",
                str(owner),
                field,
                f"a key of {found} ({', '.join(sorted(have)) or 'none'})",
                repr(key),
                "The container never starts.",
                "Correct the key.",
            )


def _account(manifests: Manifests, pod: Pod) -> Iterator[Finding]:
    account = text(pod.spec.get("serviceAccountName"))
    if account and account != "default" and _missing(manifests, "ServiceAccount", account, pod.owner.namespace):
        yield Finding(
            "missing-serviceaccount",
            str(pod.owner),
            f"{pod.path}.serviceAccountName",
            f"a ServiceAccount of this namespace ({_names(manifests, 'ServiceAccount', pod.owner.namespace)})",
            repr(account),
            "No pod is created: the ReplicaSet reports FailedCreate.",
            "Correct the name, or add it.",
        )


def _mounts(container: Container) -> Iterator[Finding]:
    seen: set[str] = set()
    for mount in container.mounts:
        name, path = text(mount.get("name")), text(mount.get("mountPath"))
        field = f"{container.path}.volumeMounts[{name}]"
        known = [*container.pod.volumes, *container.pod.claim_templates]
        if name not in known:
            yield Finding(
                "volume-undeclared",
                container.object,
                field,
                f"a volume of the pod ({', '.join(known) or 'none'})",
                repr(name),
                "The API server refuses the workload.",
                "Declare the volume, or correct the name.",
            )
        if path.rstrip("/") in seen:
            yield Finding(
                "mount-twice",
                container.object,
                f"{field}.mountPath",
                "each path once",
                repr(path),
                "The API server refuses the workload.",
                "Give one of the mounts another path.",
            )
        seen.add(path.rstrip("/"))


def _environment(manifests: Manifests, container: Container) -> Iterator[Finding]:
    owner = container.pod.owner
    names = {text(c.data.get("name")) for c in container.pod.containers()}
    for name, entry in container.env.items():
        reference = mapping(dig(entry, "valueFrom", "configMapKeyRef"))
        field = f"{container.path}.env[{name}].valueFrom"
        if reference:
            yield from _config_map(
                manifests, owner, reference, text(reference.get("name")), [text(reference.get("key"))], field
            )
        other = text(dig(entry, "valueFrom", "resourceFieldRef", "containerName"))
        if other and other not in names:
            yield Finding(
                "missing-container",
                str(owner),
                f"{field}.resourceFieldRef.containerName",
                f"a container of the pod ({', '.join(sorted(names))})",
                repr(other),
                "The container never starts: CreateContainerConfigError.",
                "Correct the name.",
            )
    for source in items(container.data.get("envFrom")):
        reference = mapping(source.get("configMapRef"))
        if reference:
            yield from _config_map(
                manifests, owner, reference, text(reference.get("name")), [], f"{container.path}.envFrom"
            )


def _unused(manifests: Manifests) -> Iterator[Finding]:
    """A config file that no pod reads: the pods have another one, or none."""
    named = {text(dig(volume, "configMap", "name")) for pod in manifests.pods for volume in pod.volumes.values()}
    for pod in manifests.pods:
        for volume in pod.volumes.values():
            named |= {text(dig(part, "configMap", "name")) for part in items(dig(volume, "projected", "sources"))}
    for found in manifests.of("ConfigMap"):
        keys = sorted(key for key in mapping(found.data.get("data")) if str(key).endswith(".config"))
        if keys and found.name not in named:
            yield Finding(
                "configmap-unused",
                str(found),
                "metadata.name",
                f"a pod that mounts it ({', '.join(keys)})",
                "none",
                "The servers read another file than this one, or none.",
                "Name it in the volumes of the Deployment, or remove it.",
            )


def _namespaces(manifests: Manifests) -> Iterator[Finding]:
    """Servers in a namespace beside the one that is made here."""
    made = {namespace.name for namespace in manifests.of("Namespace")}
    for owner in {str(s.container.pod.owner): s.container.pod.owner for s in servers(manifests)}.values():
        if made and owner.namespace not in made and not manifests.external("Namespace", owner.namespace):
            yield Finding(
                "namespace",
                str(owner),
                "metadata.namespace",
                f"the namespace that is made here ({', '.join(sorted(made))})",
                repr(owner.namespace),
                "The apply fails, or the servers run without the namespace's Pod Security labels.",
                "Make both the same.",
            )


def _twice(manifests: Manifests) -> Iterator[Finding]:
    seen: set[tuple[str, str, str, str]] = set()
    for found in manifests.objects:
        key = (text(found.data.get("apiVersion")), found.kind, found.namespace, found.name)
        if found.name and key in seen:
            yield Finding(
                "object-twice",
                str(found),
                "metadata.name",
                "each object once",
                f"{found.name!r} again",
                "The second overwrites the first at every apply.",
                "Remove one, or rename it.",
            )
        seen.add(key)
