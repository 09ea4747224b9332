"""Mistakes that the API server refuses although each field is valid: fields that have to fit each other."""

from __future__ import annotations

import ipaddress
import re
import zoneinfo
from collections.abc import Iterator
from typing import Any

from serving.check.findings import Finding, Place, finding
from serving.check.manifests.objects import Container, Manifests, Object, Pod
from serving.check.manifests.values import dig, integer, items, mapping, strings, text

__all__ = ["check"]


_HANDLERS = ("httpGet", "grpc", "tcpSocket", "exec")
_FIELD_PATH = re.compile(
    r"metadata\.(name|namespace|uid|labels|annotations)|metadata\.(labels|annotations)\['[^']+'\]"
    r"|spec\.(nodeName|serviceAccountName)|status\.(hostIPs?|podIPs?)"
)
_SUBJECTS = {"ServiceAccount": "", "User": "rbac.authorization.k8s.io", "Group": "rbac.authorization.k8s.io"}
_TARGETS = {"Utilization": "averageUtilization", "AverageValue": "averageValue", "Value": "value"}
_CRON = ((0, 59, ""), (0, 23, ""), (1, 31, ""), (1, 12, "jan feb mar apr may jun jul aug sep oct nov dec"),
         (0, 7, "sun mon tue wed thu fri sat"))  # fmt: skip


def check(manifests: Manifests) -> Iterator[Finding]:
    for pod in manifests.pods:
        yield from _pod(pod)
        for container in pod.containers():
            yield from _container(container)
    by_kind = {
        "CronJob": _schedule,
        "HorizontalPodAutoscaler": _scaler,
        "NetworkPolicy": _policy,
        "PersistentVolumeClaim": _claim,
        "PodDisruptionBudget": _budget,
        "RoleBinding": _binding,
        "ClusterRoleBinding": _binding,
        "Role": _role,
        "ClusterRole": _role,
        "Service": _service,
    }
    for kind, rules in by_kind.items():
        for found in manifests.of(kind):
            yield from rules(found)


def _wrong(place: Place, field: str, expected: str, received: object, fix: str = "Correct it.") -> Finding:
    return finding("api-field", place, field, received, expected=expected, fix=fix)


def _pod(pod: Pod) -> Iterator[Finding]:
    kind, policy = pod.object.kind, text(pod.spec.get("restartPolicy")) or "Always"
    job, controlled = kind in ("Job", "CronJob"), kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")
    if (job and policy not in ("Never", "OnFailure")) or (controlled and policy != "Always"):
        yield _wrong(pod, "restartPolicy", "Never or OnFailure, for a job" if job else f"Always, for a {kind}", policy)
    if controlled and pod.spec.get("activeDeadlineSeconds") is not None:
        yield _wrong(
            pod, "activeDeadlineSeconds", f"none, for a {kind}", pod.spec["activeDeadlineSeconds"], "Remove it."
        )
    for name, volume in pod.volumes.items():
        sources = sorted(key for key, value in volume.items() if key != "name" and value is not None)
        if len(sources) != 1:
            yield _wrong(pod, f"volumes[{name}]", "one source", " and ".join(map(str, sources)) or "none")
    for index, spread in enumerate(items(pod.spec.get("topologySpreadConstraints"))):
        if spread.get("minDomains") is not None and spread.get("whenUnsatisfiable") != "DoNotSchedule":
            field, received = f"topologySpreadConstraints[{index}].minDomains", spread["minDomains"]
            yield _wrong(pod, field, "none, without whenUnsatisfiable: DoNotSchedule", received, "Remove it.")
    for index, toleration in enumerate(items(pod.spec.get("tolerations"))):
        if toleration.get("operator") == "Exists" and toleration.get("value"):
            field, received = f"tolerations[{index}].value", repr(toleration["value"])
            yield _wrong(pod, field, "none, with operator: Exists", received, "Remove one.")
    if pod.spec.get("dnsPolicy") == "None" and not dig(pod.spec, "dnsConfig", "nameservers"):
        yield _wrong(pod, "dnsConfig.nameservers", "a server, since dnsPolicy is None", "none", "Name one.")


def _container(container: Container) -> Iterator[Finding]:
    for name, entry in container.env.items():
        field = f"env[{name}]"
        if entry.get("value") and entry.get("valueFrom"):
            yield _wrong(container, field, "value or valueFrom", "both", "Remove one.")
        path = dig(entry, "valueFrom", "fieldRef", "fieldPath")
        if path is not None and not _FIELD_PATH.fullmatch(str(path)):
            yield _wrong(
                container, f"{field}.valueFrom.fieldRef.fieldPath", "a field of the pod, as metadata.name", repr(path)
            )
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = mapping(container.data.get(kind))
        handlers = [key for key in _HANDLERS if probe.get(key) is not None]
        if probe and len(handlers) != 1:
            yield _wrong(container, kind, f"one of {', '.join(_HANDLERS)}", " and ".join(handlers) or "none")
        if kind != "readinessProbe" and integer(probe.get("successThreshold")) not in (None, 1):
            yield _wrong(container, f"{kind}.successThreshold", "1", probe["successThreshold"], "Remove it.")
    for hook, handler in mapping(container.data.get("lifecycle")).items():
        handlers = sorted(key for key in (*_HANDLERS, "sleep") if mapping(handler).get(key) is not None)
        if hook in ("preStop", "postStart") and len(handlers) != 1:
            yield _wrong(container, f"lifecycle.{hook}", "one way to run", " and ".join(handlers) or "none")
    privileged = dig(container.data, "securityContext", "privileged") is True
    for mount in container.mounts:
        field, where = f"volumeMounts[{mount.get('name')}]", text(mount.get("mountPath"))
        if mount.get("mountPropagation") == "Bidirectional" and not privileged:
            yield _wrong(
                container, f"{field}.mountPropagation", "None, without privileges", "Bidirectional", "Remove it."
            )
        if where and (not where.startswith("/") or where == "/" or ":" in where):
            yield _wrong(container, f"{field}.mountPath", "an absolute path below /, without ':'", repr(where))
        part = text(mount.get("subPath"))
        if part.startswith("/") or ".." in part.split("/"):
            yield _wrong(container, f"{field}.subPath", "a relative path without '..'", repr(part))


def _claim(claim: Object) -> Iterator[Finding]:
    modes = strings(claim.spec.get("accessModes"))
    if not modes:
        yield _wrong(claim, "spec.accessModes", "at least one, such as ReadWriteMany", claim.spec.get("accessModes"))
    if len(modes) > 1 and "ReadWriteOncePod" in modes:
        yield _wrong(claim, "spec.accessModes", "ReadWriteOncePod alone", modes, "Remove it or the others.")


def _binding(binding: Object) -> Iterator[Finding]:
    group = dig(binding.data, "roleRef", "apiGroup")
    if group not in (None, "", "rbac.authorization.k8s.io"):
        yield _wrong(binding, "roleRef.apiGroup", "rbac.authorization.k8s.io, without a version", repr(group))
    for index, subject in enumerate(items(binding.data.get("subjects"))):
        kind, group = text(subject.get("kind")), text(subject.get("apiGroup"))
        if kind not in _SUBJECTS:
            yield _wrong(binding, f"subjects[{index}].kind", f"one of {', '.join(_SUBJECTS)}", repr(kind))
        elif group not in ("", _SUBJECTS[kind]):
            yield _wrong(binding, f"subjects[{index}].apiGroup", repr(_SUBJECTS[kind]), repr(group))


def _role(role: Object) -> Iterator[Finding]:
    for index, rule in enumerate(items(role.data.get("rules"))):
        for key in ("verbs", "apiGroups") if rule.get("resources") else ("verbs",):
            if not strings(rule.get(key)):
                yield _wrong(role, f"rules[{index}].{key}", 'at least one ("" is the core group)', rule.get(key))


def _service(service: Object) -> Iterator[Finding]:
    ports, address = items(service.spec.get("ports")), service.spec.get("clusterIP")
    if len(ports) > 1 and not all(port.get("name") for port in ports):
        yield _wrong(service, "spec.ports", "a name for each, since there are several", "none", "Name them.")
    if text(service.spec.get("type")) in ("", "ClusterIP") and any(port.get("nodePort") for port in ports):
        yield _wrong(service, "spec.ports.nodePort", "none, for a ClusterIP", "one", "Remove it.")
    if address not in (None, "", "None") and _network(f"{address}/32") is None and _network(f"{address}/128") is None:
        yield _wrong(service, "spec.clusterIP", "None or an address", repr(address))


def _budget(budget: Object) -> Iterator[Finding]:
    if budget.spec.get("maxUnavailable") is not None and budget.spec.get("minAvailable") is not None:
        yield _wrong(budget, "spec", "maxUnavailable or minAvailable", "both", "Keep maxUnavailable: 1.")


def _scaler(scaler: Object) -> Iterator[Finding]:
    for metric in items(scaler.spec.get("metrics")):
        kind = text(metric.get("type"))
        source = mapping(metric.get(kind[:1].lower() + kind[1:]))
        target = mapping(source.get("target"))
        wanted, given = _TARGETS.get(text(target.get("type"))), [key for key in _TARGETS.values() if key in target]
        if not source:
            yield _wrong(
                scaler, "spec.metrics", f"a metric in the field of its type, {kind}", sorted(metric.keys() - {"type"})
            )
        elif given != [wanted]:
            expected = f"{wanted}, by its type {target.get('type')}" if wanted else f"a type of {', '.join(_TARGETS)}"
            yield _wrong(scaler, "spec.metrics.target", expected, ", ".join(given) or "no value")


def _policy(policy: Object) -> Iterator[Finding]:
    for way, side in (("ingress", "from"), ("egress", "to")):
        for rule in items(policy.spec.get(way)):
            for port in items(rule.get("ports")):
                first, last = integer(port.get("port")), integer(port.get("endPort"))
                if port.get("endPort") is not None and (first is None or last is None or last < first):
                    expected, received = "a number of at least `port`", f"{port.get('port')!r} to {port['endPort']!r}"
                    yield _wrong(policy, f"spec.{way}.ports.endPort", expected, received)
            for peer in [peer for peer in items(rule.get(side)) if "ipBlock" in peer]:
                yield from _range(policy, f"spec.{way}.{side}.ipBlock", mapping(peer["ipBlock"]))
                if peer.keys() & {"podSelector", "namespaceSelector"}:
                    yield _wrong(policy, f"spec.{way}.{side}", "a range or selectors", "both in one entry", "Split it.")


def _range(policy: Object, field: str, block: dict[str, Any]) -> Iterator[Finding]:
    whole = _network(block.get("cidr"))
    fix = "Write the range with its prefix; one address is ADDRESS/32 (IPv6: /128)."
    if whole is None:
        yield _wrong(policy, f"{field}.cidr", "a range with its prefix, as 10.0.0.0/8", repr(block.get("cidr")), fix)
        return
    for part in strings(block.get("except")):
        inner = _network(part)
        if inner is None or inner.version != whole.version or not inner.subnet_of(whole):  # type: ignore[arg-type]
            yield _wrong(policy, f"{field}.except", f"a range inside of {whole}", repr(part), fix)


def _network(value: Any) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(value, strict=False) if "/" in text(value) else None
    except ValueError:
        return None


def _schedule(job: Object) -> Iterator[Finding]:
    schedule, zone = text(job.spec.get("schedule")), text(job.spec.get("timeZone"))
    if not re.fullmatch(r"@(hourly|daily|midnight|weekly|monthly|yearly|annually)", schedule) and not _cron(schedule):
        expected = "five fields of cron (minute hour day month weekday), or a word as @weekly"
        yield finding("schedule", job, "spec.schedule", repr(schedule), expected=expected)
    if zone and not _is_zone(zone) and _is_zone("Europe/Paris"):  # where this machine knows zones at all
        yield finding("schedule", job, "spec.timeZone", repr(zone), expected="a time zone, such as Etc/UTC")


def _is_zone(name: str) -> bool:
    try:
        zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        return False
    return True


def _cron(schedule: str) -> bool:
    """Whether it is five fields of cron, each within its range."""
    fields = schedule.lower().split()
    if len(fields) != len(_CRON):
        return False
    for field, (least, most, names) in zip(fields, _CRON, strict=True):
        for part in field.split(","):
            span, slash, step = part.partition("/")
            ends = [] if span in ("*", "?") else span.split("-")
            numbers = [names.split().index(end) + least if end in names.split() else end for end in ends]
            if slash and not (step.isdecimal() and int(step) > 0):
                return False
            if len(ends) > 2 or any(not str(n).isdecimal() or not least <= int(n) <= most for n in numbers):
                return False
    return True
