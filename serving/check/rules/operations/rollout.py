"""The rollout in the cluster: its config, its replicas, its rights, and settings that the servers can meet."""

import sys
from collections.abc import Iterator
from typing import Any

from serving.check.findings import Finding, finding
from serving.check.manifests.files import ConfigFile, mounted
from serving.check.manifests.objects import Container, Manifests, Object, Pod
from serving.check.manifests.programs import options, python_module
from serving.check.manifests.servers import labels_by_model, servers
from serving.check.manifests.values import items, strings, text
from serving.check.rules.cluster.network import lets_through, pods_source, rules_for
from serving.check.rules.workloads.scaling import replicas

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_NEEDED = (
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
            config, settings_at = options(arguments, "--config", "--settings").values()
            yield from _config(manifests, container, config)
            pods: list[Pod] = []
            for argument in arguments:
                source = pods_source(manifests, argument)
                if source is not None:
                    pods += source[0]
                    ports = {server.grpc_port for pod in source[0] for server in servers(pod)}
                    if ports != {source[1]}:
                        yield finding("rollout-replicas", container, "args", argument)
            settings = mounted(container, settings_at)
            if settings is not None and settings.text is not None:
                yield from _settings(manifests, settings, settings.text, pods)
    yield from _bindings(manifests)


def _config(manifests: Manifests, container: Container, config: str) -> Iterator[Finding]:
    place, _, rest = config.removeprefix("configmap:").partition("/")
    name, namespace = rest.partition("/")[0], container.pod.namespace
    if config.startswith("configmap:") and place != namespace:
        yield finding("rollout-config", container, "args", config, namespace=namespace)
    elif config.startswith("configmap:"):
        yield from _rights(manifests, container, name)
        if manifests.find("ConfigMap", name, place) is not None:
            yield finding("rollout-owner", container, "args", "it is part of this rendering", name=name)


def _rights(manifests: Manifests, container: Container, name: str) -> Iterator[Finding]:
    pod, rules = container.pod, _granted(manifests, container.pod)
    missing = [
        f"{verb} {resource}{f'/{which.format(name=name)}' if which else ''}"
        for group, resource, which, verbs in _NEEDED
        for verb in verbs
        if not any(_allows(rule, group, resource, which.format(name=name), verb) for rule in rules)
    ]
    if missing:
        account = pod.spec.get("serviceAccountName", "default")
        yield finding("rollout-rights", pod, "serviceAccountName", f"{account!r} may not: {', '.join(missing)}")
    out = rules_for(pod, "egress")
    if out is not None and not any(lets_through(rule, pod, port) for rule in out for port in (443, 6443)):
        shown = "none of the policies that select its pods has one"
        yield finding("blocked-api", pod.object, "NetworkPolicy spec.egress", shown)
    volume = pod.volumes.get(text(container.folders.get(_TOKEN_AT), "name"))
    has_token = any("serviceAccountToken" in source for source in items(volume, "projected.sources"))
    if pod.spec.get("automountServiceAccountToken") is False and not has_token:
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
    sizes = {str(pod.object): replicas(manifests, pod.object)[0] for pod in pods}
    least = settings.get("min_replicas")
    if sizes and isinstance(least, int) and least > sum(sizes.values()):
        yield finding("rollout-size", file, ":min_replicas", least, fewest=sum(sizes.values()))


def _bindings(manifests: Manifests) -> Iterator[Finding]:
    for role in manifests.of("Role", "ClusterRole"):
        for index, rule in enumerate(items(role.data, "rules")):
            wide = [key for key in ("apiGroups", "resources", "verbs") if "*" in strings(rule, key)]
            wide += ["resources"] if "secrets" in strings(rule, "resources") else []
            if wide:
                yield finding("rights-wide", role, f"rules[{index}].{wide[0]}", rule.get(wide[0]))
    for binding in manifests.of("RoleBinding", "ClusterRoleBinding"):
        kind, name = _role(binding)
        if kind == "Role" and manifests.lacks("Role", name, binding.namespace):
            known = manifests.names("Role", binding.namespace)
            yield finding("binding-role", binding, "roleRef.name", repr(name), known=known)
        for subject in items(binding.data, "subjects"):
            account, where = text(subject, "name"), text(subject, "namespace")
            lacks = account != "default" and manifests.lacks("ServiceAccount", account, where)
            if text(subject, "kind") == "ServiceAccount" and (lacks or not where):
                yield finding("binding-subject", binding, "subjects", f"{where or 'no namespace'}/{account}")


def _role(binding: Object) -> tuple[str, str]:
    return text(binding.data, "roleRef.kind"), text(binding.data, "roleRef.name")


def _granted(manifests: Manifests, pod: Pod) -> list[dict[str, Any]]:
    """The rules of the Roles that are bound to a pod's ServiceAccount in its namespace."""
    account = text(pod.spec, "serviceAccountName") or "default"
    found: list[Object] = []
    for binding in manifests.of("RoleBinding", "ClusterRoleBinding"):
        subjects = [(text(s, "name"), text(s, "namespace")) for s in items(binding.data, "subjects")]
        near = binding.kind == "ClusterRoleBinding" or binding.namespace == pod.namespace
        if near and (account, pod.namespace) in subjects:
            kind, name = _role(binding)
            where = None if kind == "ClusterRole" else pod.namespace
            found += [role for role in manifests.of(kind, namespace=where) if role.name == name]
    return [rule for role in found for rule in items(role.data, "rules")]


def _allows(rule: dict[str, Any], group: str, resource: str, name: str, verb: str) -> bool:
    """Whether a rule of a Role allows a verb on an object; "" is any object."""

    def within(value: str, key: str) -> bool:
        return bool({value, "*"} & set(strings(rule, key)))

    names = strings(rule, "resourceNames")
    named = not names or (bool(name) and name in names)
    return within(group, "apiGroups") and within(resource, "resources") and within(verb, "verbs") and named
