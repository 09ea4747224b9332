"""Names that point to something: each has to be there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from serving.check._data import dig, integer, items, mapping, text
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
    yield from _exporter(manifests)
    yield from _targets(manifests)
    yield from _routes(manifests)
    yield from _twice(manifests)


def _missing(manifests: Manifests, kind: str, name: str, namespace: str) -> bool:
    return not (manifests.find(kind, name, namespace) or manifests.external(kind, name))


def _names(manifests: Manifests, kind: str, namespace: str) -> str:
    return ", ".join(sorted(found.name for found in manifests.of(kind) if found.namespace == namespace)) or "none"


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
    if reference.get("optional") is True or manifests.external("ConfigMap", name):
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
        if name not in container.pod.volumes:
            yield Finding(
                "volume-undeclared",
                container.object,
                field,
                f"a volume of the pod ({', '.join(container.pod.volumes) or 'none'})",
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


def _exporter(manifests: Manifests) -> Iterator[Finding]:
    """`serving.exporter` asks a Service for a model: both have to be those of the servers."""
    names = {name for server in servers(manifests) for name in server.names()}
    for container in [container for pod in manifests.pods for container in pod.containers()]:
        if "serving.exporter" not in container.arguments:
            continue
        given = [argument.partition("=")[::2] for argument in container.arguments if argument.startswith("--")]
        for name, value in given:
            host, _, port = value.rpartition(":")
            service = manifests.find("Service", host.partition(".")[0], container.pod.owner.namespace)
            ports = [str(entry.get("port")) for entry in items(service.spec.get("ports"))] if service else []
            if name == "--target" and port not in ports:
                expected = "NAME:PORT of a Service of this namespace"
                received = f"{value!r}" + (f" (its ports: {', '.join(ports)})" if service else ", no Service")
            elif name == "--model" and names and value not in names:
                expected, received = f"a model of models.config ({', '.join(sorted(names))})", repr(value)
            else:
                continue
            yield Finding(
                "exporter",
                container.object,
                f"{container.path}.args",
                expected,
                received,
                "The metrics of versions and labels are empty, and their alerts wrong.",
                f"Correct {name}.",
            )


def _targets(manifests: Manifests) -> Iterator[Finding]:
    for scaler in manifests.of("HorizontalPodAutoscaler", "ScaledObject"):
        target = mapping(scaler.spec.get("scaleTargetRef"))
        kind, name = text(target.get("kind")) or "Deployment", text(target.get("name"))
        found = manifests.find(kind, name, scaler.namespace)
        if found is None:
            yield Finding(
                "scaler-target",
                str(scaler),
                "spec.scaleTargetRef",
                f"a {kind} of this namespace ({_names(manifests, kind, scaler.namespace)})",
                repr(name),
                "It scales nothing: load grows and the replicas stay.",
                "Name the workload that serves.",
            )
            continue
        if "replicas" in found.spec:
            yield Finding(
                "replicas-and-scaler",
                str(found),
                "spec.replicas",
                f"no replicas, since {scaler} owns them",
                str(found.spec["replicas"]),
                "Every apply resets the size and cuts capacity under load.",
                "Remove spec.replicas.",
            )
        containers = {
            text(c.data.get("name")) for pod in manifests.pods if pod.owner is found for c in pod.containers()
        }
        for metric in items(scaler.spec.get("metrics")):
            wanted = text(dig(metric, "containerResource", "container"))
            if wanted and wanted not in containers:
                yield Finding(
                    "scaler-container",
                    str(scaler),
                    "spec.metrics.containerResource.container",
                    f"a container of {found} ({', '.join(sorted(containers))})",
                    repr(wanted),
                    "The metric is never there, so nothing is scaled.",
                    "Correct the container's name.",
                )


def _routes(manifests: Manifests) -> Iterator[Finding]:
    for route in manifests.of("GRPCRoute", "HTTPRoute", "TLSRoute", "TCPRoute"):
        for parent in items(route.spec.get("parentRefs")):
            namespace = text(parent.get("namespace")) or route.namespace
            if text(parent.get("kind")) not in ("", "Gateway") or namespace != route.namespace:
                continue
            gateway = manifests.find("Gateway", text(parent.get("name")), namespace)
            listeners = (
                {text(entry.get("name")) for entry in items(gateway.spec.get("listeners"))} if gateway else set()
            )
            section = text(parent.get("sectionName"))
            if (gateway is None and not manifests.external("Gateway", text(parent.get("name")))) or (
                gateway and section and section not in listeners
            ):
                yield Finding(
                    "route-parent",
                    str(route),
                    "spec.parentRefs",
                    "a Gateway of this namespace, and a listener of it",
                    f"{parent.get('name')!r}, listener {section or 'any'!r}",
                    "The route is attached to nothing.",
                    "Correct the Gateway's name or sectionName.",
                )
        for rule in items(route.spec.get("rules")):
            backends = items(rule.get("backendRefs"))
            for backend in backends:
                yield from _backend(manifests, route, backend)
            weights = [integer(backend.get("weight", 1)) or 0 for backend in backends]
            if backends and not sum(weights):
                yield Finding(
                    "route-weights",
                    str(route),
                    "spec.rules.backendRefs.weight",
                    "a sum above 0",
                    str(weights),
                    "The gateway answers every call with an error.",
                    "Give the stable Service its weight.",
                )


def _backend(manifests: Manifests, route: Object, backend: dict[str, Any]) -> Iterator[Finding]:
    name, port = text(backend.get("name")), backend.get("port")
    if text(backend.get("kind")) not in ("", "Service") or backend.get("namespace") not in (None, route.namespace):
        return
    service = manifests.find("Service", name, route.namespace)
    ports = [entry.get("port") for entry in items(service.spec.get("ports"))] if service else []
    if service is None or port not in ports:
        yield Finding(
            "route-backend",
            str(route),
            "spec.rules.backendRefs",
            f"a Service of this namespace ({_names(manifests, 'Service', route.namespace)}) and one of its ports",
            f"{name!r}, port {port}" + (f" (it has {', '.join(map(str, ports))})" if service else ""),
            "The gateway answers this share of the calls with an error.",
            "Correct the Service's name or port.",
        )


def _twice(manifests: Manifests) -> Iterator[Finding]:
    seen: set[tuple[str, str, str, str]] = set()
    for found in manifests.objects:
        key = (text(found.data.get("apiVersion")), found.kind, found.namespace, found.name)
        if key in seen:
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
