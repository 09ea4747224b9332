"""The objects of one rendering, and the pods and containers inside them."""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from serving.check.manifests.values import dig, integer, items, mapping, matches, quantity, strings, text

IGNORE = "duoserve.dev/ignore-"
"""An annotation of this name and a rule's id silences the rule for its object; the value is the reason."""

PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
"""The fields of a container that have a probe."""

_TEMPLATES = {
    **dict.fromkeys(("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job"), "spec.template"),
    "CronJob": "spec.jobTemplate.spec.template",
    "Pod": "",
}
_VARIABLE = re.compile(r"\$\(([A-Za-z_.][\w.\-]*)\)")


class Object:
    """One document of the rendering; a local file is an object with a name alone.

    Args:
        data: The document. A value of the wrong type counts as absent.
    """

    path = ""

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data
        self.object = self
        self.kind = text(data, "kind")
        self.api_version = text(data, "apiVersion")
        self.name = text(data, "metadata.name")
        self.namespace = text(data, "metadata.namespace") or "default"
        self.labels = mapping(data, "metadata.labels")
        self.annotations = mapping(data, "metadata.annotations")
        self.spec = mapping(data, "spec")

    def ignores(self, rule: str) -> str | None:
        """The reason that its annotation gives for silencing a rule; None without one."""
        return text(self.annotations.get(IGNORE + rule)).strip() or None

    def __str__(self) -> str:
        prefix = text(self.data, "metadata.generateName")
        name = self.name or (prefix and prefix + "*") or "?"
        return f"{self.kind}/{name}" if self.kind else name


class Pod:
    """The pods of a workload.

    Attributes:
        manifests: The set that it is part of.
        object: The workload.
        namespace: The workload's.
        path: Where the pod's spec is in the workload, as "spec.template.spec".
        spec: The pod's spec.
        labels: The pod's labels.
        annotations: The pod's annotations.
        volumes: The volumes by name.
        claim_templates: The claims that a StatefulSet makes for each pod, by the name that they are mounted by.
        is_service: It runs until it is stopped, unlike jobs.
    """

    def __init__(self, manifests: Manifests, workload: Object, spec: dict[str, Any], path: str, metadata: Any) -> None:
        templates = items(workload.spec, "volumeClaimTemplates") if workload.kind == "StatefulSet" else ()
        self.manifests = manifests
        self.object = workload
        self.namespace = workload.namespace
        self.path = path
        self.spec = spec
        self.labels = mapping(metadata, "labels")
        self.annotations = mapping(metadata, "annotations")
        self.volumes = {text(volume, "name"): volume for volume in items(spec, "volumes")}
        self.claim_templates = {text(claim, "metadata.name"): claim for claim in templates}
        self.is_service = workload.kind not in ("Job", "CronJob")

    def containers(self, *, init: bool = True) -> list[Container]:
        return [
            Container(self, data, f"{self.path}.{group}[{text(data.get('name')) or index}]")
            for group in (("initContainers", "containers") if init else ("containers",))
            for index, data in enumerate(items(self.spec, group))
        ]

    @property
    def ports(self) -> list[dict[str, Any]]:
        """The ports that its containers declare."""
        return [port for container in self.containers(init=False) for port in container.ports]

    def port_number(self, target: Any) -> int | None:
        """The number of a port, given its name or number; None for an unknown name."""
        return _number(self.ports, target)

    def target(self, port: dict[str, Any]) -> int | None:
        """The number that a Service's port leads to; None for an unknown name."""
        return self.port_number(port.get("targetPort", port.get("port")))


@dataclasses.dataclass(frozen=True, slots=True)
class Probe:
    """A probe of a container, with the kubelet's defaults.

    Attributes:
        way: How it asks: "httpGet", "grpc", "tcpSocket" or "exec"; "" for a probe without any.
        asks: The fields of that way: port, path, command.
        first: Seconds until it asks first.
        seconds: For how many it may fail until the kubelet acts.
    """

    way: str
    asks: dict[str, Any]
    first: int
    seconds: int


@dataclasses.dataclass(frozen=True, slots=True)
class Container:
    """One container of a pod.

    Attributes:
        pod: Where it runs.
        data: Its part of the manifest.
        path: Where that is.
    """

    pod: Pod
    data: dict[str, Any]
    path: str

    @property
    def object(self) -> Object:
        return self.pod.object

    @property
    def env(self) -> dict[str, dict[str, Any]]:
        return {text(entry, "name"): entry for entry in items(self.data, "env")}

    @property
    def mounts(self) -> list[dict[str, Any]]:
        return items(self.data, "volumeMounts")

    @property
    def folders(self) -> dict[str, dict[str, Any]]:
        """Its mounts by their path."""
        return {text(mount, "mountPath").rstrip("/"): mount for mount in self.mounts}

    @property
    def security(self) -> dict[str, Any]:
        """Its security context, with what it has from its pod."""
        return {**mapping(self.pod.spec, "securityContext"), **mapping(self.data, "securityContext")}

    @property
    def command(self) -> list[str]:
        return self._filled(self.data.get("command"))

    @property
    def arguments(self) -> list[str]:
        """Command and arguments, `$(VARIABLE)` replaced where its value is known."""
        return [*self.command, *self._filled(self.data.get("args"))]

    def _filled(self, words: Any) -> list[str]:
        return [_VARIABLE.sub(lambda match: self.variable(match[1]) or match[0], word) for word in strings(words)]

    def may_have(self, name: str) -> bool:
        """Whether an environment variable is declared, or may be in a source that is not known here."""
        return name in self.env or any(source is None or name in source for source in self._sources())

    def _sources(self) -> Iterator[dict[str, str] | None]:
        """The variables of each envFrom, the last first, since it counts; None where they can't be known."""
        for source in reversed(items(self.data, "envFrom")):
            name, prefix = text(source, "configMapRef.name"), text(source, "prefix")
            found = self.pod.manifests.find("ConfigMap", name, self.pod.namespace) if name else None
            data = mapping(found.data, "data").items() if found else ()
            yield {f"{prefix}{key}": str(value) for key, value in data} if found else None

    @property
    def ports(self) -> list[dict[str, Any]]:
        return items(self.data, "ports")

    def port_number(self, target: Any) -> int | None:
        """The number of a port, given its name or number; None for a name that it does not declare."""
        return _number(self.ports, target)

    def probe(self, kind: str) -> Probe | None:
        data = mapping(self.data, kind)
        way = next((way for way in ("httpGet", "grpc", "tcpSocket", "exec") if data.get(way) is not None), "")
        period, tries = integer(data, "periodSeconds") or 10, integer(data, "failureThreshold") or 3
        first = integer(data, "initialDelaySeconds") or 0
        return Probe(way, mapping(data, way), first, period * tries) if data else None

    def limit(self, resource: str) -> float | None:
        return quantity(mapping(self.data, "resources.limits").get(resource))

    def variable(self, name: str) -> str | None:
        """The value that an environment variable will have; None when it can't be known."""
        entry = self.env.get(name, {})
        if not entry:
            return next((value for source in self._sources() if (value := (source or {}).get(name)) is not None), None)
        if "value" in entry:
            return str(entry["value"])
        key = mapping(entry, "valueFrom.configMapKeyRef")
        if key:
            found = self.pod.manifests.find("ConfigMap", text(key, "name"), self.pod.namespace)
            return text(mapping(found.data, "data").get(text(key, "key"))) or None if found else None
        if dig(entry, "valueFrom.fieldRef.fieldPath") == "metadata.namespace":
            return self.pod.namespace
        reference = dig(entry, "valueFrom.resourceFieldRef")
        group, _, resource = text(reference, "resource").partition(".")
        named = text(reference, "containerName") or text(self.data, "name")
        other = next((c for c in self.pod.containers() if c.data.get("name") == named), None)
        amount = quantity(mapping(other.data, f"resources.{group}").get(resource)) if other else None
        divisor = quantity(dig(reference, "divisor") or "1") or 1.0
        return None if amount is None else str(int(-(-amount // divisor)))  # the kubelet rounds up


class Manifests:
    """All objects of one rendering.

    Args:
        documents: Parsed YAML documents; a `List` counts as its items, empty ones are left out.
    """

    def __init__(self, documents: Iterable[Any]) -> None:
        self.objects: list[Object] = []
        for document in documents:
            data = mapping(document)
            if text(data, "kind").endswith("List") and isinstance(data.get("items"), list):
                self.objects += [Object(entry) for entry in items(data, "items")]
            elif data:
                self.objects.append(Object(data))
        self.pods = [pod for found in self.objects for pod in _pods(self, found)]
        self.cache: dict[str, Any] = {}
        """Results that are computed once for all rules."""
        self._of: dict[tuple[str, str | None], list[Object]] = defaultdict(list)
        self._by_name: dict[tuple[str, str, str], Object] = {}
        self._pods: dict[tuple[str, ...], list[Pod]] = defaultdict(list)
        self._external: set[str] = set()
        for found in self.objects:
            namespace = "" if found.kind == "Namespace" else found.namespace  # a Namespace's own namespace is ignored
            self._of[found.kind, None].append(found)
            self._of[found.kind, namespace].append(found)
            self._by_name.setdefault((found.kind, namespace, found.name), found)
            self._external.update(re.split(r"[,\s]+", text(found.annotations.get("duoserve.dev/external"))))
        for pod in self.pods:
            self._pods[pod.namespace,].append(pod)
            for key, value in pod.labels.items():
                self._pods[pod.namespace, str(key), str(value)].append(pod)

    def of(self, *kinds: str, namespace: str | None = None) -> list[Object]:
        """The objects of some kinds, in one namespace or in all."""
        return [found for kind in kinds for found in self._of.get((kind, namespace), ())]

    def containers(self, *, init: bool = True) -> list[Container]:
        """The containers of all pods."""
        return [container for pod in self.pods for container in pod.containers(init=init)]

    def find(self, kind: str, name: str, namespace: str = "") -> Object | None:
        return self._by_name.get((kind, namespace, name))

    def external(self, kind: str, name: str) -> bool:
        """An annotation (duoserve.dev/external) declares that the object is kept elsewhere on purpose."""
        return f"{kind}/{name}" in self._external

    def lacks(self, kind: str, name: str, namespace: str) -> bool:
        """The object is neither here nor declared to be kept elsewhere."""
        return self.find(kind, name, namespace) is None and not self.external(kind, name)

    def names(self, kind: str, namespace: str) -> set[str]:
        return {found.name for found in self.of(kind, namespace=namespace)}

    def pods_of(self, namespace: str) -> list[Pod]:
        return self._pods.get((namespace,), [])

    def behind(self, service: Object | None) -> list[Pod]:
        """The pods that a Service selects."""
        chosen = mapping(service.spec, "selector") if service else {}
        return self.selected(service.namespace, {"matchLabels": chosen}) if service and chosen else []

    def selected(self, namespace: str, selector: Any) -> list[Pod]:
        """The pods of a namespace that a label selector selects."""
        labels = mapping(selector, "matchLabels").items()
        groups = [self._pods.get((namespace, str(key), str(value)), []) for key, value in labels]
        pods = min([self.pods_of(namespace), *groups], key=len)
        return [pod for pod in pods if matches(selector, pod.labels)]


def _number(ports: list[dict[str, Any]], target: Any) -> int | None:
    if not isinstance(target, str):
        return integer(target)
    return next((integer(port, "containerPort") for port in ports if target and port.get("name") == target), None)


def _pods(manifests: Manifests, found: Object) -> Iterator[Pod]:
    if found.kind in _TEMPLATES:
        path = _TEMPLATES[found.kind]
        template = mapping(found.data, path)
        spec, where = mapping(template, "spec"), f"{path}.spec".lstrip(".")
        yield Pod(manifests, found, spec, where, template.get("metadata"))
    elif found.kind == "InferenceService":
        # KServe makes the pods, with the labels of the InferenceService.
        metadata = {"labels": found.labels}
        yield Pod(manifests, found, mapping(found.spec, "predictor"), "spec.predictor", metadata)
