"""The objects of one rendering, and the pods and containers inside them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from typing import Any

from serving.check._data import dig, integer, items, mapping, matches, quantity, strings, text

__all__ = ["Container", "Finding", "Manifests", "Object", "Pod"]

_TEMPLATES = {
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}
_VARIABLE = re.compile(r"\$\(([A-Za-z_.][\w.\-]*)\)")


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One mistake.

    Attributes:
        rule: Its kind, for scripts.
        object: "Kind/name", or a file.
        field: Where in the object.
        expected: What should be there.
        received: What is there.
        why: What happens if it stays.
        fix: How to mend it.
    """

    rule: str
    object: str
    field: str
    expected: str
    received: str
    why: str
    fix: str

    def __str__(self) -> str:
        return (
            f"{self.object}: {self.field} [{self.rule}]\n"
            f"  Expected {self.expected}. Received: {self.received}\n"
            f"  Why: {self.why}\n"
            f"  Fix: {self.fix}"
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Object:
    """One document of the rendering."""

    data: dict[str, Any]

    @property
    def kind(self) -> str:
        return text(self.data.get("kind"))

    @property
    def name(self) -> str:
        return text(dig(self.data, "metadata", "name"))

    @property
    def namespace(self) -> str:
        return text(dig(self.data, "metadata", "namespace")) or "default"

    @property
    def labels(self) -> dict[str, Any]:
        return mapping(dig(self.data, "metadata", "labels"))

    @property
    def spec(self) -> dict[str, Any]:
        return mapping(self.data.get("spec"))

    def __str__(self) -> str:
        made = text(dig(self.data, "metadata", "generateName"))
        return f"{self.kind or 'object'}/{self.name or (made and made + '*') or '?'}"


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Pod:
    """The pods that a workload makes.

    Attributes:
        owner: The workload.
        spec: The pod's spec.
        labels: The pod's labels.
        path: Where the spec is in the owner, as "spec.template.spec".
    """

    owner: Object
    spec: dict[str, Any]
    labels: dict[str, Any]
    path: str

    def containers(self, *, init: bool = True) -> Iterator[Container]:
        for group in ("initContainers", "containers") if init else ("containers",):
            for index, data in enumerate(items(self.spec.get(group))):
                yield Container(self, data, f"{self.path}.{group}[{text(data.get('name')) or index}]")

    @property
    def volumes(self) -> dict[str, dict[str, Any]]:
        return {text(volume.get("name")): volume for volume in items(self.spec.get("volumes"))}

    @property
    def claim_templates(self) -> dict[str, dict[str, Any]]:
        """The claims that a StatefulSet makes for each pod, mounted by their name."""
        if self.owner.kind != "StatefulSet":
            return {}
        templates = items(self.owner.spec.get("volumeClaimTemplates"))
        return {text(dig(claim, "metadata", "name")): claim for claim in templates}

    @property
    def annotations(self) -> dict[str, Any]:
        template = mapping(dig(self.owner.data, *_TEMPLATES.get(self.owner.kind, ())))
        return mapping(dig(template, "metadata", "annotations"))

    @property
    def runs_for_ever(self) -> bool:
        return self.owner.kind not in ("Job", "CronJob")

    def port_numbers(self) -> dict[str, int]:
        """Container port by name, of all containers."""
        return {
            text(port.get("name")): integer(port.get("containerPort")) or 0
            for container in self.containers(init=False)
            for port in items(container.data.get("ports"))
        }


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
    def object(self) -> str:
        return str(self.pod.owner)

    @property
    def env(self) -> dict[str, dict[str, Any]]:
        return {text(entry.get("name")): entry for entry in items(self.data.get("env"))}

    @property
    def mounts(self) -> list[dict[str, Any]]:
        return items(self.data.get("volumeMounts"))

    @property
    def arguments(self) -> list[str]:
        """Command and arguments, `$(VARIABLE)` replaced where its value is known."""
        written = strings(self.data.get("command")) + strings(self.data.get("args"))
        return [_VARIABLE.sub(lambda match: self.variable(match[1]) or match[0], argument) for argument in written]

    def limit(self, resource: str) -> float | None:
        return quantity(dig(self.data, "resources", "limits", resource))

    def variable(self, name: str) -> str | None:
        """The value that an environment variable will have; None when it can't be told."""
        entry = self.env.get(name, {})
        if "value" in entry:
            return str(entry["value"])
        if dig(entry, "valueFrom", "fieldRef", "fieldPath") == "metadata.namespace":
            return self.pod.owner.namespace
        reference = dig(entry, "valueFrom", "resourceFieldRef")
        group, _, resource = text(dig(reference, "resource")).partition(".")
        named = text(dig(reference, "containerName")) or text(self.data.get("name"))
        other = next((c for c in self.pod.containers() if c.data.get("name") == named), None)
        amount = quantity(dig(other.data, "resources", group, resource)) if other else None
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
            if text(data.get("kind")).endswith("List") and isinstance(data.get("items"), list):
                self.objects += [Object(entry) for entry in items(data["items"])]
            elif data:
                self.objects.append(Object(data))
        self.pods = [pod for owner in self.objects for pod in _pods(owner)]
        self.known: dict[str, Any] = {}
        """What rules worked out once, for the others."""
        self._by_kind: dict[str, list[Object]] = {}
        self._by_namespace: dict[tuple[str, str], list[Object]] = {}
        self._by_name: dict[tuple[str, str, str], Object] = {}
        self._namespaces: dict[str, Object] = {}
        self._pods_of: dict[str, list[Pod]] = {}
        self._pods_by_label: dict[tuple[str, str, str], list[Pod]] = {}
        self._external: set[str] = set()
        for found in self.objects:
            self._by_kind.setdefault(found.kind, []).append(found)
            self._by_namespace.setdefault((found.kind, found.namespace), []).append(found)
            if found.kind == "Namespace":
                self._namespaces.setdefault(found.name, found)
            self._by_name.setdefault((found.kind, found.namespace, found.name), found)
            elsewhere = text(dig(found.data, "metadata", "annotations", "duoserve.dev/external"))
            self._external.update(re.split(r"[,\s]+", elsewhere))
        for pod in self.pods:
            self._pods_of.setdefault(pod.owner.namespace, []).append(pod)
            for key, value in pod.labels.items():
                self._pods_by_label.setdefault((pod.owner.namespace, str(key), str(value)), []).append(pod)

    def of(self, *kinds: str) -> list[Object]:
        return [found for kind in kinds for found in self._by_kind.get(kind, ())]

    def of_namespace(self, kind: str, namespace: str) -> list[Object]:
        return self._by_namespace.get((kind, namespace), [])

    def namespace(self, name: str) -> Object | None:
        """The Namespace of this name, whatever namespace it says to be in itself."""
        return self._namespaces.get(name)

    def find(self, kind: str, name: str, namespace: str) -> Object | None:
        return self._by_name.get((kind, namespace, name))

    def external(self, kind: str, name: str) -> bool:
        """An annotation says that the object is kept elsewhere on purpose."""
        return f"{kind}/{name}" in self._external

    def pods_of(self, namespace: str) -> list[Pod]:
        return self._pods_of.get(namespace, [])

    def behind(self, service: Object) -> list[Pod]:
        """Pods that a Service selects."""
        chosen = mapping(service.spec.get("selector"))
        return self.selected(service.namespace, {"matchLabels": chosen}) if chosen else []

    def selected(self, namespace: str, selector: Any) -> list[Pod]:
        """Pods of a namespace that a label selector takes."""
        groups = [
            self._pods_by_label.get((namespace, str(key), str(value)), [])
            for key, value in mapping(dig(selector, "matchLabels")).items()
        ]
        pods = min(groups, key=len) if groups else self.pods_of(namespace)
        return [pod for pod in pods if matches(selector, pod.labels)]


def _pods(owner: Object) -> Iterator[Pod]:
    if owner.kind == "Pod":
        yield Pod(owner, owner.spec, owner.labels, "spec")
    elif owner.kind in _TEMPLATES:
        path = _TEMPLATES[owner.kind]
        template = mapping(dig(owner.data, *path))
        labels = mapping(dig(template, "metadata", "labels"))
        yield Pod(owner, mapping(template.get("spec")), labels, ".".join((*path, "spec")))
    elif owner.kind == "InferenceService":
        # KServe makes the pods, with the labels of the InferenceService.
        yield Pod(owner, mapping(dig(owner.spec, "predictor")), owner.labels, "spec.predictor")
