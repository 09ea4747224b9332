"""Names and words that the API server refuses, or that nothing reads."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from serving.check._data import dig, integer, items, mapping, text
from serving.check._manifests import Container, Finding, Manifests, Object
from serving.check._server import servers

__all__ = ["VARIABLES", "check"]

VARIABLES = (
    "DUOSERVE_CGROUP",
    "DUOSERVE_CPUINFO",
    "DUOSERVE_CPUS",
    "DUOSERVE_DRAIN_SECONDS",
    "DUOSERVE_PRECISION",
    "DUOSERVE_SERVER",
    "DUOSERVE_TLS_DIR",
)
"""What serving/container/entrypoint.sh reads."""

_REFUSED = "The API server refuses it."
_APIS = {
    "v1": "ConfigMap Namespace PersistentVolume PersistentVolumeClaim Pod Secret Service ServiceAccount",
    "apps/v1": "DaemonSet Deployment ReplicaSet StatefulSet",
    "autoscaling/v2": "HorizontalPodAutoscaler",
    "batch/v1": "CronJob Job",
    "coordination.k8s.io/v1": "Lease",
    "gateway.networking.k8s.io/v1": "Gateway GRPCRoute HTTPRoute",
    "keda.sh/v1alpha1": "ScaledObject",
    "monitoring.coreos.com/v1": "PodMonitor PrometheusRule ServiceMonitor",
    "networking.k8s.io/v1": "Ingress NetworkPolicy",
    "policy/v1": "PodDisruptionBudget",
    "rbac.authorization.k8s.io/v1": "ClusterRole ClusterRoleBinding Role RoleBinding",
    "serving.kserve.io/v1beta1": "InferenceService",
}
_API_OF = {kind: api for api, kinds in _APIS.items() for kind in kinds.split()}
_ALSO = {("HorizontalPodAutoscaler", "autoscaling/v1")}
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_PORT_NAME = re.compile(r"(?=.*[a-z])(?!.*--)[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?")
_LABEL = re.compile(r"([A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?)?", re.ASCII)
_KEY = re.compile(r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?", re.ASCII)
_FIELD_PATH = re.compile(
    r"metadata\.(name|namespace|uid)|metadata\.(labels|annotations)\['[^']+'\]|spec\.(nodeName|serviceAccountName)"
    r"|status\.(hostIPs?|podIPs?)"
)
_LABELS_AT = {"labels", "matchLabels", "nodeSelector"}
_WORDS: tuple[tuple[str, str, str], ...] = (
    ("Service", "spec.type", "ClusterIP NodePort LoadBalancer ExternalName"),
    ("NetworkPolicy", "spec.policyTypes", "Ingress Egress"),
    ("PersistentVolumeClaim", "spec.accessModes", "ReadWriteMany ReadOnlyMany ReadWriteOnce ReadWriteOncePod"),
    ("CronJob", "spec.concurrencyPolicy", "Allow Forbid Replace"),
    ("PodDisruptionBudget", "spec.unhealthyPodEvictionPolicy", "IfHealthyBudget AlwaysAllow"),
    ("container", "imagePullPolicy", "Always IfNotPresent Never"),
    ("port", "protocol", "TCP UDP SCTP"),
    ("pod", "dnsPolicy", "ClusterFirst ClusterFirstWithHostNet Default None"),
    ("pod", "preemptionPolicy", "PreemptLowerPriority Never"),
    ("toleration", "operator", "Equal Exists Lt Gt"),
    ("toleration", "effect", "NoSchedule PreferNoSchedule NoExecute"),
    ("spread", "whenUnsatisfiable", "DoNotSchedule ScheduleAnyway"),
)


def check(manifests: Manifests) -> Iterator[Finding]:
    for found in manifests.objects:
        yield from _api(found)
        yield from _name(found)
        yield from _labels(found)
        yield from _word(str(found), "", found.kind, found.data)
        ports = items(found.spec.get("ports")) if found.kind == "Service" else []
        yield from _once(str(found), "spec.ports", "name", [text(port.get("name")) for port in ports])
    for pod in manifests.pods:
        owner = str(pod.owner)
        names = [text(container.data.get("name")) for container in pod.containers()]
        yield from _once(owner, f"{pod.path}.containers", "name", names)
        volumes = [text(volume.get("name")) for volume in items(pod.spec.get("volumes"))]
        yield from _once(owner, f"{pod.path}.volumes", "name", volumes)
        yield from _word(owner, f"{pod.path}.", "pod", pod.spec)
        if pod.spec.get("dnsPolicy") == "None" and not dig(pod.spec, "dnsConfig", "nameservers"):
            field, shown = f"{pod.path}.dnsConfig.nameservers", "none"
            yield Finding("dns", owner, field, "a server, since dnsPolicy is None", shown, _REFUSED, "Name one.")
        for toleration in items(pod.spec.get("tolerations")):
            yield from _word(owner, f"{pod.path}.tolerations.", "toleration", toleration)
        for spread in items(pod.spec.get("topologySpreadConstraints")):
            yield from _word(owner, f"{pod.path}.topologySpreadConstraints.", "spread", spread)
            if (integer(spread.get("maxSkew")) or 0) < 1:
                field, shown = f"{pod.path}.topologySpreadConstraints.maxSkew", repr(spread.get("maxSkew"))
                yield Finding("skew", owner, field, "a number of at least 1", shown, _REFUSED, "Set 1.")
        for container in pod.containers():
            yield from _container(container)
    for server in servers(manifests):
        yield from _variables(server.container, bare=server.bare)


def _api(found: Object) -> Iterator[Finding]:
    version, kind = text(found.data.get("apiVersion")), found.kind
    wanted = _API_OF.get(kind)
    near = difflib.get_close_matches(kind, _API_OF, 1, cutoff=0.85) if wanted is None else []
    if near and version == _API_OF[near[0]]:
        yield Finding("kind", str(found), "kind", near[0], repr(kind), "No such kind: nothing is made.", "Correct it.")
    same_group = wanted is not None and version.rpartition("/")[0] in (wanted.rpartition("/")[0], "extensions", "")
    if wanted and version != wanted and same_group and (kind, version) not in _ALSO:
        why = "Kubernetes 1.30 to 1.37 do not have it: the object is not made."
        yield Finding("api-version", str(found), "apiVersion", wanted, repr(version), why, f"Write {wanted}.")


def _name(found: Object) -> Iterator[Finding]:
    made = text(dig(found.data, "metadata", "generateName"))  # the API server adds five letters
    name = found.name or (f"{made}xxxxx" if made else "")
    if not _NAME.fullmatch(name) and not text(found.data.get("apiVersion")).startswith("rbac"):
        expected = "lower-case letters, digits, '-' and '.', at most 253"
        yield Finding("name", str(found), "metadata.name", expected, repr(found.name), _REFUSED, "Rename it.")


def _labels(found: Object) -> Iterator[Finding]:
    """Labels, wherever they are: text of a given form; YAML makes true and 1 of what has no quotes."""

    def walk(node: Any, path: str) -> Iterator[Finding]:
        for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
            at = f"{path}.{key}".lstrip(".")
            labels = key in _LABELS_AT or (found.kind == "Service" and at == "spec.selector")
            if labels or key == "annotations":
                for name, content in mapping(value).items():
                    if not isinstance(content, str) or (labels and not _LABEL.fullmatch(content)):
                        expected = "text" + (", 63 letters, digits, '-', '_' and '.' at most" if labels else "")
                        fix = "Put it in quotes." if not isinstance(content, str) else "Correct the value."
                        yield Finding("label", str(found), f"{at}[{name}]", expected, repr(content), _REFUSED, fix)
                    if not _KEY.fullmatch(str(name)):
                        expected = (
                            "a name of 63 letters, digits, '-', '_' and '.' at most, maybe after a domain and '/'"
                        )
                        yield Finding("label", str(found), at, expected, repr(name), _REFUSED, "Correct the name.")
            elif key not in ("data", "stringData"):
                yield from walk(value, at)

    yield from walk(found.data, "")


def _word(owner: str, path: str, kind: str, data: dict[str, Any]) -> Iterator[Finding]:
    """Fields that take one of a few words."""
    for where, field, words in _WORDS:
        if where != kind:
            continue
        value = dig(data, *field.split("."))
        for word in value if isinstance(value, list) else [] if value is None else [value]:
            if word not in words.split():
                near = difflib.get_close_matches(str(word), words.split(), 1, cutoff=0.5)
                fix = f"Write {near[0]}." if near else "Correct it."
                yield Finding("word", owner, f"{path}{field}", words.replace(" ", " or "), repr(word), _REFUSED, fix)


def _once(owner: str, field: str, what: str, names: Iterable[str]) -> Iterator[Finding]:
    for name, count in Counter(names).items():
        if count > 1:
            why = "The API server refuses it, or one hides the other."
            yield Finding("twice", owner, field, f"each {what} once", f"{name!r} {count} times", why, "Remove one.")


def _container(container: Container) -> Iterator[Finding]:
    owner, path = container.object, container.path
    yield from _word(owner, f"{path}.", "container", container.data)
    ports = items(container.data.get("ports"))
    yield from _once(owner, f"{path}.ports", "name", [text(port.get("name")) or str(port) for port in ports])
    yield from _once(owner, f"{path}.env", "name", [text(e.get("name")) for e in items(container.data.get("env"))])
    for port in ports:
        name = text(port.get("name"))
        yield from _word(owner, f"{path}.ports[{name}].", "port", port)
        if name and not _PORT_NAME.fullmatch(name):
            expected = "lower-case letters, digits and '-', at most 15"
            yield Finding("name", owner, f"{path}.ports.name", expected, repr(name), _REFUSED, "Shorten it.")
    for name, entry in container.env.items():
        if "value" in entry and not isinstance(entry["value"], str):
            shown, field = repr(entry["value"]), f"{path}.env[{name}].value"
            yield Finding("env-value", owner, field, "text", shown, _REFUSED, "Put it in quotes.")
        path_of = dig(entry, "valueFrom", "fieldRef", "fieldPath")
        if path_of is not None and not _FIELD_PATH.fullmatch(str(path_of)):
            field, known = f"{path}.env[{name}].valueFrom.fieldRef.fieldPath", "a field of the pod, as metadata.name"
            yield Finding("field-path", owner, field, known, repr(path_of), _REFUSED, "Correct the path.")
        if entry.get("value") and entry.get("valueFrom"):
            field, shown = f"{path}.env[{name}]", f"both, {entry['value']!r} and {entry['valueFrom']}"
            yield Finding("env-both", owner, field, "value or valueFrom", shown, _REFUSED, "Remove one.")
    for mount in container.mounts:
        field = f"{path}.volumeMounts[{mount.get('name')}].mountPropagation"
        privileged = dig(container.data, "securityContext", "privileged") is True
        if mount.get("mountPropagation") == "Bidirectional" and not privileged:
            yield Finding(
                "propagation", owner, field, "None, without privileges", "Bidirectional", _REFUSED, "Remove it."
            )
        where = text(mount.get("mountPath"))
        if not where.startswith("/") or where == "/":
            field = f"{path}.volumeMounts[{mount.get('name')}].mountPath"
            why = "The container does not start."
            yield Finding("mount-path", owner, field, "an absolute path below /", repr(where), why, "Correct it.")


def _variables(container: Container, *, bare: bool) -> Iterator[Finding]:
    """Variables of the entrypoint: a typo, or nobody there to read them."""
    for name in container.env:
        if not name.startswith("DUOSERVE_") or (name in VARIABLES and not bare):
            continue
        near = difflib.get_close_matches(name, VARIABLES, 1)
        fix = "Leave `command` to the image." if bare else f"Write {near[0]}." if near else "Remove it."
        expected = "no command, since the image's entrypoint reads it" if bare else "a variable of the entrypoint"
        why = "Nothing reads it: the server runs without what it was meant to set."
        yield Finding("env-unknown", container.object, f"{container.path}.env[{name}]", expected, name, why, fix)
