"""Rights in the cluster: bindings have subjects, and rights are narrow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from serving.check.findings import Finding, finding
from serving.check.manifests.objects import Manifests, Object, Pod
from serving.check.manifests.values import items, strings, text

__all__ = ["allows", "check", "granted"]


def check(manifests: Manifests) -> Iterator[Finding]:
    for role in manifests.of("Role", "ClusterRole"):
        for index, rule in enumerate(items(role.data, "rules")):
            wide = [key for key in ("apiGroups", "resources", "verbs") if "*" in strings(rule, key)]
            wide += ["resources"] if "secrets" in strings(rule, "resources") else []
            if wide:
                yield finding("rights-wide", role, f"rules[{index}].{wide[0]}", rule.get(wide[0]))
    for binding in manifests.of("RoleBinding", "ClusterRoleBinding"):
        kind, name = _role(binding)
        if kind == "Role" and manifests.lacks("Role", name, binding.namespace):
            yield finding(
                "binding-role", binding, "roleRef.name", repr(name), known=manifests.names("Role", binding.namespace)
            )
        for subject in items(binding.data, "subjects"):
            account, where = text(subject, "name"), text(subject, "namespace")
            known = where and (account == "default" or not manifests.lacks("ServiceAccount", account, where))
            if text(subject, "kind") == "ServiceAccount" and not known:
                yield finding("binding-subject", binding, "subjects", f"{where or 'no namespace'}/{account}")


def _role(binding: Object) -> tuple[str, str]:
    return text(binding.data, "roleRef.kind"), text(binding.data, "roleRef.name")


def granted(manifests: Manifests, pod: Pod) -> list[dict[str, Any]]:
    """The rules of the Roles that are bound to a pod's ServiceAccount in its namespace."""
    account = text(pod.spec, "serviceAccountName") or "default"
    found = []
    for binding in manifests.of("RoleBinding", "ClusterRoleBinding"):
        subjects = [(text(s, "name"), text(s, "namespace")) for s in items(binding.data, "subjects")]
        near = binding.kind == "ClusterRoleBinding" or binding.namespace == pod.namespace
        if near and (account, pod.namespace) in subjects:
            kind, name = _role(binding)
            roles = [role for role in manifests.of(kind) if role.name == name]
            found += [rule for role in roles if kind == "ClusterRole" or role.namespace == pod.namespace
                      for rule in items(role.data, "rules")]  # fmt: skip
    return found


def allows(rule: dict[str, Any], group: str, resource: str, name: str, verb: str) -> bool:
    """Whether a rule of a Role allows a verb on an object; "" is any object."""

    def within(value: str, key: str) -> bool:
        return bool({value, "*"} & set(strings(rule, key)))

    names = strings(rule, "resourceNames")
    named = not names or (bool(name) and name in names)
    return within(group, "apiGroups") and within(resource, "resources") and within(verb, "verbs") and named
