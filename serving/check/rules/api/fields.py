"""Mistakes in single fields: against Kubernetes' schemas, and limits on numbers, words, names and sizes."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from serving.check.findings import Finding, finding
from serving.check.manifests import schemas
from serving.check.manifests.objects import Manifests, Object
from serving.check.manifests.values import integer, items, mapping, strings, text

__all__ = ["check"]


_PORT, _COUNT = (1, 65535), (0, 2**31 - 1)
_NUMBERS = {
    "activeDeadlineSeconds": _COUNT,
    "averageUtilization": (1, 2**31 - 1),
    "backoffLimit": _COUNT,
    "completions": _COUNT,
    "containerPort": _PORT,
    "defaultMode": (0, 0o777),
    "endPort": _PORT,
    "expirationSeconds": (600, 2**32),
    "failedJobsHistoryLimit": _COUNT,
    "failureThreshold": _COUNT,
    "fsGroup": _COUNT,
    "hostPort": (0, 65535),
    "initialDelaySeconds": _COUNT,
    "maxReplicas": (1, 2**31 - 1),
    "maxSkew": (1, 2**31 - 1),
    "minReadySeconds": _COUNT,
    "minReplicas": _COUNT,
    "mode": (0, 0o777),
    "nodePort": (0, 65535),
    "parallelism": _COUNT,
    "periodSeconds": _COUNT,
    "port": _PORT,
    "progressDeadlineSeconds": _COUNT,
    "replicas": _COUNT,
    "revisionHistoryLimit": _COUNT,
    "runAsGroup": _COUNT,
    "runAsUser": _COUNT,
    "stabilizationWindowSeconds": (0, 3600),
    "startingDeadlineSeconds": _COUNT,
    "successThreshold": _COUNT,
    "successfulJobsHistoryLimit": _COUNT,
    "targetPort": _PORT,
    "terminationGracePeriodSeconds": _COUNT,
    "timeoutSeconds": _COUNT,
    "ttlSecondsAfterFinished": _COUNT,
    "weight": (1, 100),
}
_WORDS = {
    "accessModes": "ReadWriteMany ReadOnlyMany ReadWriteOnce ReadWriteOncePod",
    "completionMode": "NonIndexed Indexed",
    "concurrencyPolicy": "Allow Forbid Replace",
    "dnsPolicy": "ClusterFirst ClusterFirstWithHostNet Default None",
    "effect": "NoSchedule PreferNoSchedule NoExecute",
    "externalTrafficPolicy": "Cluster Local",
    "fsGroupChangePolicy": "Always OnRootMismatch",
    "imagePullPolicy": "Always IfNotPresent Never",
    "internalTrafficPolicy": "Cluster Local",
    "medium": "Memory HugePages",
    "ipFamilyPolicy": "SingleStack PreferDualStack RequireDualStack",
    "mountPropagation": "None HostToContainer Bidirectional",
    "operator": "In NotIn Exists DoesNotExist Gt Lt Equal",
    "pathType": "Exact Prefix ImplementationSpecific",
    "podManagementPolicy": "OrderedReady Parallel",
    "policyTypes": "Ingress Egress",
    "preemptionPolicy": "PreemptLowerPriority Never",
    "protocol": "TCP UDP SCTP",
    "pullPolicy": "Always IfNotPresent Never",
    "restartPolicy": "Always OnFailure Never",
    "scheme": "HTTP HTTPS",
    "sessionAffinity": "None ClientIP",
    "terminationMessagePolicy": "File FallbackToLogsOnError",
    "unhealthyPodEvictionPolicy": "IfHealthyBudget AlwaysAllow",
    "volumeMode": "Filesystem Block",
    "whenUnsatisfiable": "DoNotSchedule ScheduleAnyway",
}
_TYPES = {  # `type` has different words in each place
    ("Deployment", "spec.strategy.type"): "RollingUpdate Recreate",
    ("ClusterRoleBinding", "roleRef.kind"): "ClusterRole",
    ("RoleBinding", "roleRef.kind"): "Role ClusterRole",
    ("Service", "spec.type"): "ClusterIP NodePort LoadBalancer ExternalName",
    ("StatefulSet", "spec.updateStrategy.type"): "RollingUpdate OnDelete",
}
_SHARES = {"maxSurge", "maxUnavailable", "minAvailable"}
_ONCE: dict[str, list[tuple[str, ...]]] = {  # the fields that identify the entries of a list
    "env": [("name",)],
    "ports": [("name",), ("port", "protocol")],
    "topologySpreadConstraints": [("topologyKey", "whenUnsatisfiable")],
    "volumeMounts": [("mountPath",)],
    "volumes": [("name",)],
}
_OPAQUE = {"annotations", "binaryData", "data", "limits", "requests", "stringData"}
_LABELS = {"labels", "matchLabels", "nodeSelector", "selector"}
_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_SERVICE_NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_DNS_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_PORT_NAME = re.compile(r"(?=.*[a-z])(?!.*--)[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?)?", re.ASCII)
_LABEL_KEY = re.compile(r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?", re.ASCII)
_LONGEST = {"CronJob": 52, "Job": 63}
_DATA_KEY = re.compile(r"(?!\.\.?$)[-._a-zA-Z0-9]{1,253}", re.ASCII)
_MOST_DATA, _MOST_ANNOTATIONS = 2**20, 2**18


def check(manifests: Manifests, version: str) -> Iterator[Finding]:
    for found in manifests.objects:
        if found.api_version.rpartition("/")[0] not in schemas.kinds(version).groups:
            continue  # a custom resource: its schema is in the cluster
        if (found.api_version, found.kind) not in schemas.kinds(version).schemas:
            yield _unknown(found, version)
        for refusal in schemas.refusals(found.data, version):
            values = {"expected": refusal.expected, "version": version, "fix": refusal.fix}
            yield finding("schema", found, refusal.field, refusal.received, **values)
        yield from _name(found)
        yield from _size(found)
        yield from _fields(found, found.data, "")


def _unknown(found: Object, version: str) -> Finding:
    every = schemas.kinds(version).schemas
    apis = sorted({api for api, kind in every if kind == found.kind})
    same = [kind for api, kind in every if api == found.api_version]
    near = difflib.get_close_matches(found.kind, same, 1, cutoff=0.6)
    known = " or ".join(f"{api} {found.kind}" for api in apis) or f"{near[0] if near else 'Deployment'}"
    fix = f"Write apiVersion: {apis[0]}." if apis else f"Write kind: {near[0]}." if near else "Correct the kind."
    field, shown = "apiVersion" if apis else "kind", f"{found.api_version} {found.kind}"
    return finding("unknown-kind", found, field, shown, known=known, version=version, fix=fix)


def _name(found: Object) -> Iterator[Finding]:
    prefix = text(mapping(found.data.get("metadata")).get("generateName"))
    name = found.name or (f"{prefix}xxxxx" if prefix else "")  # the API server adds five letters
    if found.api_version.startswith("rbac"):  # any text that fits a path
        return
    form, pattern = "lower-case letters, digits, '-' and '.'", _DNS_NAME
    if found.kind in ("Service", "Namespace"):
        form, pattern = "lower-case letters, digits and '-', at most 63", _DNS_LABEL
    if found.kind == "Service":
        form, pattern = form + ", a letter first", _SERVICE_NAME
    most = _LONGEST.get(found.kind, 253)
    if not _DNS_LABEL.fullmatch(found.namespace):
        yield finding("api-name", found, "metadata.namespace", repr(found.namespace), form="that of a namespace")
    if not pattern.fullmatch(name) or len(name) > most:
        yield finding(
            "api-name",
            found,
            "metadata.name",
            repr(found.name),
            form=form if pattern != _DNS_NAME else f"{form}, at most {most}",
        )


def _size(found: Object) -> Iterator[Finding]:
    """Data and annotations: how much, and under which keys."""
    size = sum(len(str(part).encode(errors="replace")) for pair in found.annotations.items() for part in pair)
    if size > _MOST_ANNOTATIONS:
        yield finding("api-size", found, "metadata.annotations", f"{size} bytes", most="256 KiB of annotations")
    if found.kind not in ("ConfigMap", "Secret"):
        return
    data = {**mapping(found.data.get("data")), **mapping(found.data.get("binaryData"))}
    size = sum(len(str(value).encode(errors="replace")) for value in data.values())
    if size > _MOST_DATA:
        yield finding("api-size", found, "data", f"{size} bytes", most="1 MiB of data")
    for key in data:
        if not _DATA_KEY.fullmatch(str(key)):
            yield finding("api-name", found, "data", repr(key), form="letters, digits, '-', '_' and '.'")


def _fields(found: Object, node: Any, path: str) -> Iterator[Finding]:
    """Numbers, words, names and lists, wherever a field of such a name is."""
    if isinstance(node, list):
        for index, entry in enumerate(node):
            shown = text(entry.get("name")) if isinstance(entry, dict) else ""
            yield from _fields(found, entry, f"{path}[{shown or index}]")
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        at = f"{path}.{key}".lstrip(".")
        number, limits = integer(value), _NUMBERS.get(str(key))
        if number is not None and limits and not limits[0] <= number <= limits[1]:
            yield finding("api-number", found, at, number, least=limits[0], most=limits[1])
        words = _TYPES.get((found.kind, at)) or _WORDS.get(str(key), "")
        for word in strings(value) if isinstance(value, list) else [text(value)]:
            if words and word and word not in words.split():
                near = difflib.get_close_matches(word, words.split(), 1, cutoff=0.5)
                fix = f"Write {near[0]}." if near else "Correct it."
                yield finding("api-word", found, at, repr(word), words=words.replace(" ", ", "), fix=fix)
        if key in _SHARES and isinstance(value, str) and not re.fullmatch(r"\d+%", value):
            yield finding("api-word", found, at, repr(value), words="a number, a share as 25%", fix="Correct it.")
        yield from _once(found, at, str(key), items(value))
        if key in ("containers", "initContainers", "volumes"):
            for name in [text(entry.get("name")) for entry in items(value)]:
                if not _DNS_LABEL.fullmatch(name):
                    yield finding(
                        "api-name", found, at, repr(name), form="lower-case letters, digits and '-', at most 63"
                    )
        if key == "ports":
            for name in [text(entry.get("name")) for entry in items(value)]:
                most, pattern = (63, _DNS_LABEL) if found.kind == "Service" else (15, _PORT_NAME)
                if name and not pattern.fullmatch(name):
                    form = f"lower-case letters, digits and '-', at most {most}"
                    yield finding("api-name", found, at, repr(name), form=form)
        if key in _LABELS:
            yield from _labels(found, at, mapping(value))
        if key not in _OPAQUE:
            yield from _fields(found, value, at)
    names = [text(entry.get("name")) for key in ("initContainers", "containers") for entry in items(node.get(key))]
    yield from _repeated(found, f"{path}.containers", "container's name", [(name,) for name in names])


def _once(found: Object, at: str, key: str, entries: list[dict[str, Any]]) -> Iterator[Finding]:
    for fields in _ONCE.get(key, ()):
        if fields == ("port", "protocol") and found.kind != "Service":
            continue
        values = [
            tuple(entry.get(field) or ("TCP" if field == "protocol" else None) for field in fields) for entry in entries
        ]
        yield from _repeated(found, at, " and ".join(fields), [value for value in values if None not in value])


def _repeated(found: Object, at: str, what: str, values: list[tuple[Any, ...]]) -> Iterator[Finding]:
    for value, count in Counter(" and ".join(map(repr, value)) for value in values).items():
        if count > 1:
            yield finding("api-twice", found, at, f"{value} {count} times", what=what)


def _labels(found: Object, at: str, labels: dict[str, Any]) -> Iterator[Finding]:
    for name, value in labels.items():
        if isinstance(value, (dict, list)):
            continue  # a selector of matchLabels
        if not _LABEL_KEY.fullmatch(str(name)):
            yield finding("api-label", found, at, repr(name))
        elif isinstance(value, str) and not _LABEL_VALUE.fullmatch(value):
            yield finding("api-label", found, f"{at}[{name}]", repr(value))
