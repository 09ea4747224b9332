"""Pod Security "restricted", and nothing that the server does not need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from serving.check._data import dig, integer, items, mapping, strings, text
from serving.check._manifests import Container, Finding, Manifests, Pod
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
_RESTRICTED = 'The namespace enforces Pod Security "restricted": no pod is created.'


def check(manifests: Manifests) -> Iterator[Finding]:
    for pod in manifests.pods:
        yield from _pod(pod)
        for container in pod.containers():
            yield from _container(container)
    for server in servers(manifests):
        yield from _temporary(server)
        yield from _links(server)
    for namespace in manifests.of("Namespace"):
        level = namespace.labels.get("pod-security.kubernetes.io/enforce")
        if level != "restricted":
            yield Finding(
                "namespace-level",
                str(namespace),
                "metadata.labels",
                "pod-security.kubernetes.io/enforce: restricted",
                str(level),
                "The cluster lets any pod into the namespace, privileged ones too.",
                "Set the label.",
            )


def _finding(pod: Pod, rule: str, field: str, expected: str, received: object, why: str = _RESTRICTED) -> Finding:
    return Finding(rule, str(pod.owner), field, expected, str(received), why, "Set it as the base does.")


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
    if pod.spec.get("automountServiceAccountToken") is not False:
        yield _finding(
            pod,
            "token",
            f"{pod.path}.automountServiceAccountToken",
            "false",
            pod.spec.get("automountServiceAccountToken", "true (the default)"),
            "Who breaks into the server speaks to the API server. Nothing here needs to.",
        )


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
    user = context.get("runAsUser", outer.get("runAsUser"))
    if context.get("runAsNonRoot", outer.get("runAsNonRoot")) is not True:
        yield _finding(
            pod, "root", f"{at}.runAsNonRoot", "true", context.get("runAsNonRoot", outer.get("runAsNonRoot"))
        )
    if (integer(user) or 0) < 10000:
        yield _finding(
            pod,
            "user",
            f"{at}.runAsUser",
            "a number of at least 10000",
            user,
            "0 is root; the stock image's user is root; low numbers are users of the node.",
        )
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
                why = f"The kubelet asks that host from the node, not the pod; from Kubernetes 1.34 on: {_RESTRICTED}"
                yield _finding(pod, "probe-host", field, "no host, which is the pod", host, why)
    profile = dig(context, "seccompProfile", "type") or dig(outer, "seccompProfile", "type")
    if profile not in ("RuntimeDefault", "Localhost"):
        yield _finding(pod, "seccomp", f"{at}.seccompProfile.type", "RuntimeDefault", profile)
    if context.get("procMount") not in (None, "Default"):
        yield _finding(pod, "proc-mount", f"{at}.procMount", "Default", context["procMount"])
    for port in items(container.data.get("ports")):
        if port.get("hostPort"):
            yield _finding(pod, "host-port", f"{container.path}.ports", "no hostPort", port["hostPort"])
    if context.get("readOnlyRootFilesystem") is not True:
        yield _finding(
            pod,
            "root-filesystem",
            f"{at}.readOnlyRootFilesystem",
            "true",
            context.get("readOnlyRootFilesystem"),
            "Who breaks into the server can leave programs there.",
        )


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
