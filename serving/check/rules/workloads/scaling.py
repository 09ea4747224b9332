"""How many replicas: autoscalers, workloads without a size, and how many pods a node drain may take."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from serving.check.findings import Finding, finding
from serving.check.manifests.objects import Manifests, Object
from serving.check.manifests.servers import servers
from serving.check.manifests.values import integer, items, mapping, matches, text
from serving.check.rules.cluster.references import selects_nothing

_SCALERS = ("HorizontalPodAutoscaler", "ScaledObject")


def check(manifests: Manifests) -> Iterator[Finding]:
    by_target: dict[tuple[str, str, str], list[Object]] = defaultdict(list)
    for scaler in manifests.of(*_SCALERS):
        by_target[_target_of(scaler)].append(scaler)
    serving = {(server.pod.namespace, server.object.kind, server.object.name) for server in servers(manifests)}
    for target, scalers in by_target.items():
        for scaler in scalers:
            if len(scalers) > 1:
                every, name = {str(other) for other in scalers}, "/".join(target[1:])
                yield finding("scaler-twice", scaler, "spec.scaleTargetRef", every, target=name)
            yield from _target(manifests, scaler, target)
            yield from _metrics(scaler, target in serving)
    for scaler in manifests.of(*_SCALERS, "InferenceService"):
        least, most = _range(scaler)
        low, high = integer(least), integer(most)
        if low is None or high is None or low < 1 or low > high:
            yield finding("scaler-range", scaler, "spec", f"{least} to {most}")
    for server in servers(manifests):
        found = server.object
        written = found.spec.get("replicas")
        unsized = written is None and _autoscaler(manifests, found) is None
        if found.kind in ("Deployment", "StatefulSet") and (written == 0 or unsized):
            shown = "neither, which is one replica" if unsized else "0"
            yield finding("replicas-none", found, "spec.replicas", shown)
    yield from _budgets(manifests)


def _range(scaler: Object) -> tuple[Any, Any]:
    """Fewest and most replicas of an autoscaler, as written."""
    if scaler.kind == "ScaledObject":
        return scaler.spec.get("minReplicaCount", 0), scaler.spec.get("maxReplicaCount", 100)
    if scaler.kind == "InferenceService":
        predictor = mapping(scaler.spec, "predictor")
        return predictor.get("minReplicas", 1), predictor.get("maxReplicas", 1)
    return scaler.spec.get("minReplicas", 1), scaler.spec.get("maxReplicas")


def _autoscaler(manifests: Manifests, workload: Object) -> Object | None:
    """The autoscaler of a workload; KServe's is the workload itself."""
    target = (workload.namespace, workload.kind, workload.name)
    scalers = manifests.of(*_SCALERS, namespace=workload.namespace)
    own = workload if workload.kind == "InferenceService" else None
    return next((scaler for scaler in scalers if _target_of(scaler) == target), own)


def replicas(manifests: Manifests, workload: Object) -> tuple[int, int | None]:
    """Fewest and most replicas of a workload; None when the most can't be known."""
    scaler = _autoscaler(manifests, workload)
    written = workload.spec.get("replicas", 1)
    low, high = _range(scaler) if scaler else (written, written)
    return integer(low) or 0, integer(high)


def share(value: Any, whole: int, *, up: bool) -> int:
    """A number of pods, or a share of them ("25%"), rounded up or down; 1 when it is invalid."""
    written = str(value)
    if written.endswith("%") and written[:-1].isdecimal():
        return (int(written[:-1]) * whole + (99 if up else 0)) // 100
    return int(written) if written.isdecimal() else 1


def _target_of(scaler: Object) -> tuple[str, str, str]:
    """Namespace, kind and name of the workload that it scales."""
    target = mapping(scaler.spec, "scaleTargetRef")
    return scaler.namespace, text(target, "kind") or "Deployment", text(target, "name")


def _target(manifests: Manifests, scaler: Object, target: tuple[str, str, str]) -> Iterator[Finding]:
    namespace, kind, name = target
    found, version = manifests.find(kind, name, namespace), text(scaler.spec, "scaleTargetRef.apiVersion")
    if found is None or (version and version != found.api_version):
        known = {f"{other.api_version} {other}" for other in manifests.of(kind, namespace=namespace)}
        shown = f"{version} {kind}/{name}".strip()
        yield finding("scaler-target", scaler, "spec.scaleTargetRef", shown, kind=kind, known=known)
        return
    if "replicas" in found.spec:
        yield finding("replicas-and-scaler", found, "spec.replicas", found.spec["replicas"], scaler=scaler)
    pods = [pod for pod in manifests.pods_of(namespace) if pod.object is found]
    containers = {text(container.data, "name") for pod in pods for container in pod.containers()}
    for metric in items(scaler.spec, "metrics"):
        wanted = text(metric, "containerResource.container")
        if wanted and wanted not in containers:
            field = "spec.metrics.containerResource.container"
            yield finding("scaler-container", scaler, field, repr(wanted), object=found, known=containers)


def _metrics(scaler: Object, serves: bool) -> Iterator[Finding]:
    for metric in items(scaler.spec, "metrics"):
        kind = text(metric, "type")
        source = mapping(metric, kind[:1].lower() + kind[1:])
        if source.get("name") == "memory" and serves:
            yield finding("scaler-memory", scaler, "spec.metrics", "memory")
        used = integer(source, "target.averageUtilization")
        if used is not None and not 10 <= used <= 90:
            yield finding("scaler-utilization", scaler, "spec.metrics.target.averageUtilization", used)


def _budgets(manifests: Manifests) -> Iterator[Finding]:
    for budget in manifests.of("PodDisruptionBudget"):
        yield from _budget(manifests, budget)
    for pod in [server.pod for server in servers(manifests)]:
        budgets = manifests.of("PodDisruptionBudget", namespace=pod.namespace)
        covered = any(matches(budget.spec.get("selector"), pod.labels) for budget in budgets)
        if pod.is_service and pod.object.kind != "Pod" and not covered and replicas(manifests, pod.object)[1] != 1:
            yield finding("no-budget", pod.object, "metadata.labels", "none")


def _budget(manifests: Manifests, budget: Object) -> Iterator[Finding]:
    selector = budget.spec.get("selector")
    pods = manifests.selected(budget.namespace, selector)
    owners = {str(pod.object) for pod in pods}
    if not mapping(selector):
        yield finding("selects-all", budget, "spec.selector", selector)
    elif not pods:
        yield selects_nothing(manifests, budget, "spec.selector", selector)
    elif len(owners) > 1:
        yield finding("budget-mixes", budget, "spec.selector", owners)
    away, stay = budget.spec.get("maxUnavailable"), budget.spec.get("minAvailable")
    low, high = replicas(manifests, pods[0].object) if pods else (2, 2)
    for size in sorted({low or 2, high or low or 2}):
        allowed = share(1 if away is None else away, size, up=True)
        if away is None and stay is not None:
            allowed = size - share(stay, size, up=True)
        if allowed < 1 or (size > 1 and allowed >= size):
            shown = f"minAvailable {stay}" if away is None else f"maxUnavailable {away}"
            rule = "budget-blocks" if allowed < 1 else "budget-open"
            yield finding(rule, budget, "spec", f"{shown} of {size} replicas")
            return
