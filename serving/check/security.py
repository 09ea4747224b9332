"""Pod Security "restricted", and nothing that the server does not need."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from serving.check._data import dig, integer, items, mapping, strings, text
from serving.check._manifests import Container, Finding, Manifests, Pod
from serving.check._own import own_container, own_pod
from serving.check._server import Server, servers

__all__ = ["check"]

_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
    "image",
}
_SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
}
_SELINUX = ("container_t", "container_init_t", "container_kvm_t", "container_engine_t")
_LABEL = "pod-security.kubernetes.io/enforce"
_ENFORCED = 'The namespace enforces Pod Security "restricted": no pod is created.'
_REFUSED = 'Pod Security "restricted", which the base sets for its namespace, refuses it.'
_USER = 10000


def check(manifests: Manifests) -> Iterator[Finding]:
    """Our own pods have to be as the base makes them; a neighbour's, as its namespace enforces."""
    own = {pod for pod in manifests.pods if own_pod(manifests, pod)}
    for pod in manifests.pods:
        enforced = _level(manifests, pod.owner.namespace) == "restricted"
        if pod in own:
            yield from _own(manifests, pod)
        if pod in own or enforced:
            yield from _restricted(pod, _ENFORCED if enforced else _REFUSED)
    for server in servers(manifests):
        yield from _temporary(server)
        yield from _links(server)
    for namespace in manifests.of("Namespace"):
        level = namespace.labels.get(_LABEL)
        if level != "restricted" and any(pod.owner.namespace == namespace.name for pod in own):
            yield Finding(
                "namespace-level",
                str(namespace),
                "metadata.labels",
                f"{_LABEL}: restricted",
                str(level),
                "The cluster lets any pod into the namespace, privileged ones too.",
                "Set the label.",
            )


def _level(manifests: Manifests, name: str) -> Any:
    """The Pod Security level that a namespace of this set enforces; None when it is not here."""
    found = manifests.namespace(name)
    return found.labels.get(_LABEL) if found else None


def _finding(pod: Pod, rule: str, field: str, expected: str, received: object, why: str = "") -> Finding:
    return Finding(rule, str(pod.owner), field, expected, str(received), why, "Set it as the base does.")


def _own(manifests: Manifests, pod: Pod) -> Iterator[Finding]:
    """What our own pods do without, beyond Pod Security."""
    if pod.spec.get("automountServiceAccountToken") is not False:
        yield _finding(
            pod,
            "token",
            f"{pod.path}.automountServiceAccountToken",
            "false",
            pod.spec.get("automountServiceAccountToken", "true (the default)"),
            "Who breaks into the server speaks to the API server. Nothing here needs to.",
        )
    for container in pod.containers():
        at, user = f"{container.path}.securityContext", _context(container, "runAsUser")
        # Another image's user is its own affair, as long as it is not root.
        if own_container(manifests, container) and (integer(user) or 0) < _USER:
            why = "0 is root; the stock image's user is root; low numbers are users of the node."
            yield _finding(pod, "user", f"{at}.runAsUser", f"a number of at least {_USER}", user, why)
        if dig(container.data, "securityContext", "readOnlyRootFilesystem") is not True:
            yield _finding(
                pod,
                "root-filesystem",
                f"{at}.readOnlyRootFilesystem",
                "true",
                dig(container.data, "securityContext", "readOnlyRootFilesystem"),
                "Who breaks into the server can leave programs there.",
            )


def _context(container: Container, field: str) -> Any:
    """A field of a container's security context; the pod's where it has none."""
    outer, inner = (mapping(data.get("securityContext")) for data in (container.pod.spec, container.data))
    return inner.get(field, outer.get(field))


def _restricted(pod: Pod, why: str) -> Iterator[Finding]:
    """The level "restricted" of the Pod Security Standards (kubernetes.io/docs/concepts/security)."""
    yield from (dataclasses.replace(found, why=why + found.why) for found in _pod(pod))
    for container in pod.containers():
        yield from (dataclasses.replace(found, why=why + found.why) for found in _container(container))


def _pod(pod: Pod) -> Iterator[Finding]:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.spec.get(field):
            yield _finding(pod, "host-namespace", f"{pod.path}.{field}", "false", pod.spec[field])
    for volume in items(pod.spec.get("volumes")):
        for kind in volume.keys() - {"name"} - _VOLUMES:
            yield _finding(
                pod, "volume-type", f"{pod.path}.volumes[{volume.get('name')}]", "a volume without the host", kind
            )
    yield from _profiles(pod, mapping(pod.spec.get("securityContext")), f"{pod.path}.securityContext")
    for name, value in pod.annotations.items():
        if name.startswith("container.apparmor.security.beta.kubernetes.io/") and value == "unconfined":
            yield _finding(pod, "apparmor", f"metadata.annotations[{name}]", "runtime/default", value)
    for sysctl in items(dig(pod.spec, "securityContext", "sysctls")):
        if sysctl.get("name") not in _SYSCTLS:
            yield _finding(pod, "sysctl", f"{pod.path}.securityContext.sysctls", "safe ones only", sysctl.get("name"))


def _profiles(pod: Pod, context: dict[str, Any], at: str) -> Iterator[Finding]:
    """What a pod's and a container's security context have in common."""
    if dig(context, "appArmorProfile", "type") == "Unconfined":
        yield _finding(pod, "apparmor", f"{at}.appArmorProfile.type", "RuntimeDefault", "Unconfined")
    linux = mapping(context.get("seLinuxOptions"))
    wrong = {key: linux[key] for key in ("user", "role") if linux.get(key)}
    if linux.get("type") not in (None, "", *_SELINUX):
        wrong["type"] = linux["type"]
    if wrong:
        yield _finding(pod, "selinux", f"{at}.seLinuxOptions", "no user, no role, a container's type", wrong)
    if dig(context, "windowsOptions", "hostProcess"):
        yield _finding(pod, "host-process", f"{at}.windowsOptions.hostProcess", "false", True)


def _container(container: Container) -> Iterator[Finding]:
    pod, context = container.pod, mapping(container.data.get("securityContext"))
    outer = mapping(pod.spec.get("securityContext"))
    at = f"{container.path}.securityContext"
    if context.get("runAsNonRoot", outer.get("runAsNonRoot")) is not True:
        yield _finding(
            pod, "root", f"{at}.runAsNonRoot", "true", context.get("runAsNonRoot", outer.get("runAsNonRoot"))
        )
    if context.get("runAsUser", outer.get("runAsUser")) == 0:
        yield _finding(pod, "user", f"{at}.runAsUser", "another user than root", 0)
    if context.get("privileged"):
        yield _finding(pod, "privileged", f"{at}.privileged", "false", True)
    if context.get("allowPrivilegeEscalation") is not False:
        yield _finding(
            pod, "escalation", f"{at}.allowPrivilegeEscalation", "false", context.get("allowPrivilegeEscalation")
        )
    dropped, added = strings(dig(context, "capabilities", "drop")), strings(dig(context, "capabilities", "add"))
    if "ALL" not in dropped or set(added) - {"NET_BIND_SERVICE"}:
        yield _finding(
            pod, "capabilities", f"{at}.capabilities", "drop: [ALL], nothing added", f"drop {dropped}, add {added}"
        )
    yield from _profiles(pod, context, at)
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        for way in ("httpGet", "tcpSocket"):
            if dig(container.data, kind, way, "host"):
                field, host = f"{container.path}.{kind}.{way}.host", container.data[kind][way]["host"]
                why = " The kubelet asks that host from the node, not the pod. Refused from 1.34 on."
                yield _finding(pod, "probe-host", field, "no host, which is the pod", host, why)
    profile = dig(context, "seccompProfile", "type") or dig(outer, "seccompProfile", "type")
    if profile not in ("RuntimeDefault", "Localhost"):
        yield _finding(pod, "seccomp", f"{at}.seccompProfile.type", "RuntimeDefault", profile)
    if context.get("procMount") not in (None, "Default"):
        yield _finding(pod, "proc-mount", f"{at}.procMount", "Default", context["procMount"])
    for port in items(container.data.get("ports")):
        if port.get("hostPort"):
            yield _finding(pod, "host-port", f"{container.path}.ports", "no hostPort", port["hostPort"])


def _temporary(server: Server) -> Iterator[Finding]:
    container = server.container
    writable = [text(mount.get("mountPath")) for mount in container.mounts if mount.get("readOnly") is not True]
    if dig(container.data, "securityContext", "readOnlyRootFilesystem") is True and "/tmp" not in writable:  # noqa: S108
        yield _finding(
            container.pod,
            "no-tmp",
            f"{container.path}.volumeMounts",
            "a writable volume at /tmp, since the root filesystem is read-only",
            writable or "none",
            "The server writes temporary files there, and the entrypoint its TLS config: both fail.",
        )


def _links(server: Server) -> Iterator[Finding]:
    pod = server.container.pod
    if pod.spec.get("enableServiceLinks") is not False:
        why = "Every Service of the namespace adds variables: one may have the name of one that is read."
        shown = pod.spec.get("enableServiceLinks", "true (the default)")
        yield _finding(pod, "service-links", f"{pod.path}.enableServiceLinks", "false", shown, why)
