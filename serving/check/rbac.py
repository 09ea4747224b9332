"""Rights in the cluster: bindings that bind something, nothing wide, and what the rollout needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from serving.check import network
from serving.check._data import dig, items, strings, text
from serving.check._manifests import Container, Finding, Manifests, Object, Pod
from serving.check._server import servers
from serving.check.tools import module

__all__ = ["NEEDED", "check"]

NEEDED = (
    ("", "configmaps", "{name}", ("get", "patch")),
    ("", "configmaps", "{name}-rollout", ("get", "patch")),
    ("", "configmaps", "", ("create",)),
    ("coordination.k8s.io", "leases", "{name}-rollout", ("get", "patch")),
    ("coordination.k8s.io", "leases", "", ("create",)),
    ("", "pods", "", ("list",)),
)
"""What `serving.rollout` asks of the API server: group, resource, object ("" for any), verbs."""

_TOKEN_AT = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 -- a folder


def check(manifests: Manifests) -> Iterator[Finding]:
    for role in manifests.of("Role", "ClusterRole"):
        yield from _wide(role)
    for binding in manifests.of("RoleBinding", "ClusterRoleBinding"):
        yield from _binding(manifests, binding)
    for pod in manifests.pods:
        for container in pod.containers(init=False):
            name, arguments = module(container)
            if name == "serving.rollout":
                yield from _rollout(manifests, container, arguments)


def _wide(role: Object) -> Iterator[Finding]:
    for index, rule in enumerate(items(role.data.get("rules"))):
        wide = [key for key in ("apiGroups", "resources", "verbs") if "*" in strings(rule.get(key))]
        if wide or "secrets" in strings(rule.get("resources")):
            yield Finding(
                "rights-wide",
                str(role),
                f"rules[{index}].{wide[0] if wide else 'resources'}",
                "the resources and verbs that are used, by name",
                str(rule.get(wide[0] if wide else "resources")),
                "Who breaks into the pod has them all.",
                "List them; k8s/components/rollout has what a rollout needs.",
            )


def _binding(manifests: Manifests, binding: Object) -> Iterator[Finding]:
    kind, name = text(dig(binding.data, "roleRef", "kind")), text(dig(binding.data, "roleRef", "name"))
    home = [role for role in manifests.of(kind) if role.name == name]
    if kind == "Role" and not any(role.namespace == binding.namespace for role in home):
        yield Finding(
            "binding-role",
            str(binding),
            "roleRef.name",
            f"a Role of this namespace ({', '.join(r.name for r in manifests.of('Role')) or 'none'})",
            repr(name),
            "It gives no rights: calls to the API server are 403.",
            "Correct the name. A binding's roleRef can't change: delete the old one.",
        )
    for subject in items(binding.data.get("subjects")):
        if text(subject.get("kind")) != "ServiceAccount":
            continue
        account, where = text(subject.get("name")), text(subject.get("namespace"))
        if manifests.find("ServiceAccount", account, where or binding.namespace) is None or not where:
            yield Finding(
                "binding-subject",
                str(binding),
                "subjects",
                "a ServiceAccount that is here, with its namespace",
                f"{where or 'no namespace'}/{account}",
                "Nobody gets the rights: calls to the API server are 403.",
                "Correct name and namespace.",
            )


def _rules(manifests: Manifests, pod: Pod) -> list[dict[str, Any]]:
    """The rules of the Roles that are bound to a pod's ServiceAccount in its namespace."""
    account = text(pod.spec.get("serviceAccountName")) or "default"
    found = []
    for binding in manifests.of("RoleBinding", "ClusterRoleBinding"):
        bound = any(
            (text(subject.get("name")), text(subject.get("namespace"))) == (account, pod.owner.namespace)
            for subject in items(binding.data.get("subjects"))
        )
        if bound and (binding.kind == "ClusterRoleBinding" or binding.namespace == pod.owner.namespace):
            kind, name = text(dig(binding.data, "roleRef", "kind")), text(dig(binding.data, "roleRef", "name"))
            for role in manifests.of(kind):
                if role.name == name and (kind == "ClusterRole" or role.namespace == pod.owner.namespace):
                    found += items(role.data.get("rules"))
    return found


def _allows(rule: dict[str, Any], group: str, resource: str, name: str, verb: str) -> bool:
    def within(value: str, key: str) -> bool:
        return bool({value, "*"} & set(strings(rule.get(key))))

    names = strings(rule.get("resourceNames"))
    return (
        within(group, "apiGroups") and within(resource, "resources") and within(verb, "verbs")
        and (not names or (bool(name) and name in names))
    )  # fmt: skip


def _rollout(manifests: Manifests, container: Container, arguments: list[str]) -> Iterator[Finding]:
    pod = container.pod
    given = [argument.partition("=")[::2] for argument in arguments if argument.startswith("--")]
    config = next((value for name, value in given if name == "--config"), "")
    place, _, rest = config.removeprefix("configmap:").partition("/")
    name = rest.partition("/")[0]
    field = f"{container.path}.args"
    if config.startswith("configmap:") and place == pod.owner.namespace:
        yield from _rights(manifests, container, name)
        if manifests.find("ConfigMap", name, place) is not None:
            yield Finding(
                "rollout-owner",
                container.object,
                field,
                f"ConfigMap/{name} to be the rollout's own, in no kustomization",
                "it is part of this rendering",
                "Every apply puts back the file of the checkout, and so undoes the rollouts.",
                "Add the component rollout-owned, and take the overlay's generator of it out.",
            )
    elif config.startswith("configmap:"):
        why = "It edits a ConfigMap that these servers do not read, or has no right to."
        expected = f"configmap:{pod.owner.namespace}/NAME"
        yield Finding("rollout-config", container.object, field, expected, config, why, "Correct --config.")
    for argument in arguments:
        source = network.pods_source(manifests, argument)
        if source is not None:
            yield from _replicas(manifests, container, field, argument, *source)


def _rights(manifests: Manifests, container: Container, name: str) -> Iterator[Finding]:
    pod, rules = container.pod, _rules(manifests, container.pod)
    missing = [
        f"{verb} {resource}{f'/{which.format(name=name)}' if which else ''}"
        for group, resource, which, verbs in NEEDED
        for verb in verbs
        if not any(_allows(rule, group, resource, which.format(name=name), verb) for rule in rules)
    ]
    if missing:
        yield Finding(
            "rollout-rights",
            container.object,
            f"{pod.path}.serviceAccountName",
            "an account whose Role lets it read and patch the config, its history and its lock, and list the pods",
            f"{pod.spec.get('serviceAccountName', 'default')!r} may not: {', '.join(missing)}",
            "The rollout ends with 403.",
            "Correct the Role or its binding (k8s/components/rollout).",
        )
    tokens = {
        text(volume.get("name"))
        for volume in items(pod.spec.get("volumes"))
        if any("serviceAccountToken" in source for source in items(dig(volume, "projected", "sources")))
    }
    mounted = any(
        m.get("name") in tokens and text(m.get("mountPath")).rstrip("/") == _TOKEN_AT for m in container.mounts
    )
    out = network.rules(manifests, pod, "egress")
    if out is not None and not any(network.covers(rule, pod, port) for rule in out for port in (443, 6443)):
        yield Finding(
            "blocked-api",
            container.object,
            "NetworkPolicy spec.egress",
            "a rule that lets it reach the API server, TCP port 443 or 6443",
            "none of the policies that select its pods has one",
            "It can neither read nor edit the config, and ends.",
            "Add the rule, as k8s/components/rollout does.",
        )
    if pod.spec.get("automountServiceAccountToken") is False and not mounted:
        yield Finding(
            "rollout-token",
            container.object,
            f"{container.path}.volumeMounts",
            f"a projected serviceAccountToken at {_TOKEN_AT}",
            "none",
            "It has no password for the API server, and ends.",
            "Mount one, as k8s/components/rollout does.",
        )


def _replicas(
    manifests: Manifests, container: Container, field: str, argument: str, pods: list[Pod], port: int
) -> Iterator[Finding]:
    ports = {server.number("port") for server in servers(manifests) if server.container.pod in pods}
    if ports != {port}:
        yield Finding(
            "rollout-replicas",
            container.object,
            field,
            "pods:NAMESPACE/LABELS:PORT with the labels and the gRPC port of the servers",
            argument,
            "It finds no replica, or none that answers.",
            "Correct --replica.",
        )
