"""The rollout in the cluster: its config, its replicas, its rights, and settings that the servers can meet."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from serving.check.findings import Finding, finding
from serving.check.manifests.files import ConfigFile, mounted
from serving.check.manifests.objects import Container, Manifests, Pod
from serving.check.manifests.policies import lets_through, rules_for
from serving.check.manifests.programs import python_module
from serving.check.manifests.servers import labels_by_model, servers
from serving.check.manifests.values import items, text
from serving.check.rules.cluster.callers import pods_source
from serving.check.rules.operations.rights import allows, granted
from serving.check.rules.workloads.scaling import fewest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["NEEDED", "check"]


NEEDED = (
    ("", "configmaps", "{name}", ("get", "patch")),
    ("", "configmaps", "{name}-rollout", ("get", "patch")),
    ("", "configmaps", "", ("create",)),
    ("coordination.k8s.io", "leases", "{name}-rollout", ("get", "patch")),
    ("coordination.k8s.io", "leases", "", ("create",)),
    ("", "pods", "", ("list",)),
)
"""The rights that `serving.rollout` needs: group, resource, object ("" for any), verbs."""

_TOKEN_AT = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 -- a folder


def check(manifests: Manifests) -> Iterator[Finding]:
    for container in manifests.containers(init=False):
        name, arguments = python_module(container)
        if name == "serving.rollout":
            options = [argument.partition("=")[::2] for argument in arguments if argument.startswith("--")]
            yield from _config(manifests, container, dict(options).get("--config", ""))
            pods: list[Pod] = []
            for argument in arguments:
                source = pods_source(manifests, argument)
                if source is not None:
                    pods += source[0]
                    ports = {server.grpc_port for pod in source[0] for server in servers(pod)}
                    if ports != {source[1]}:
                        yield finding("rollout-replicas", container, "args", argument)
            settings = mounted(container, dict(options).get("--settings", ""))
            if settings is not None and settings.text is not None:
                yield from _settings(manifests, settings, settings.text, pods)


def _config(manifests: Manifests, container: Container, config: str) -> Iterator[Finding]:
    place, _, rest = config.removeprefix("configmap:").partition("/")
    name, namespace = rest.partition("/")[0], container.pod.namespace
    if not config.startswith("configmap:"):
        return
    if place != namespace:
        yield finding("rollout-config", container, "args", config, namespace=namespace)
        return
    yield from _rights(manifests, container, name)
    if manifests.find("ConfigMap", name, place) is not None:
        yield finding("rollout-owner", container, "args", "it is part of this rendering", name=name)


def _rights(manifests: Manifests, container: Container, name: str) -> Iterator[Finding]:
    pod, rules = container.pod, granted(manifests, container.pod)
    missing = [
        f"{verb} {resource}{f'/{which.format(name=name)}' if which else ''}"
        for group, resource, which, verbs in NEEDED
        for verb in verbs
        if not any(allows(rule, group, resource, which.format(name=name), verb) for rule in rules)
    ]
    if missing:
        account = pod.spec.get("serviceAccountName", "default")
        yield finding("rollout-rights", pod, "serviceAccountName", f"{account!r} may not: {', '.join(missing)}")
    out = rules_for(pod, "egress")
    if out is not None and not any(lets_through(rule, pod, port) for rule in out for port in (443, 6443)):
        yield finding(
            "blocked-api", pod.object, "NetworkPolicy spec.egress", "none of the policies that select its pods has one"
        )
    tokens = [
        name
        for name, volume in pod.volumes.items()
        if any("serviceAccountToken" in source for source in items(volume, "projected.sources"))
    ]
    folders = [text(mount, "mountPath").rstrip("/") for mount in container.mounts if mount.get("name") in tokens]
    if pod.spec.get("automountServiceAccountToken") is False and _TOKEN_AT not in folders:
        yield finding("rollout-token", container, "volumeMounts", "none", folder=_TOKEN_AT)


def _settings(manifests: Manifests, file: ConfigFile, content: str, pods: list[Pod]) -> Iterator[Finding]:
    try:
        settings: dict[str, Any] = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        yield finding("rollout-settings", file, "", error, expected="TOML")
        return
    models = labels_by_model(manifests)
    if models and text(settings, "model") not in models:
        expected = f"model to be one of models.config ({', '.join(sorted(models))})"
        yield finding("rollout-settings", file, ":model", repr(settings.get("model")), expected=expected)
    sizes = {str(pod.object): fewest(manifests, pod.object) for pod in pods}
    least = settings.get("min_replicas")
    if sizes and isinstance(least, int) and least > sum(sizes.values()):
        yield finding("rollout-size", file, ":min_replicas", least, fewest=sum(sizes.values()))
