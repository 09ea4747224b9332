"""Pod Security "restricted", and no right that the server does not need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from serving.check.findings import Finding, Place, finding
from serving.check.manifests.objects import Container, Manifests, Pod
from serving.check.manifests.servers import is_ours, servers
from serving.check.manifests.values import dig, integer, items, mapping, strings, text

__all__ = ["check"]


_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "name", "persistentVolumeClaim",
            "projected", "secret"}  # fmt: skip
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
_LEVEL = "pod-security.kubernetes.io/enforce"
_USER = 10000


def check(manifests: Manifests) -> Iterator[Finding]:
    """Our own pods must have the base's settings; other pods, those that their namespace enforces."""
    ours = [pod for pod in manifests.pods if is_ours(manifests, pod)]
    for pod in manifests.pods:
        namespace = manifests.find("Namespace", pod.namespace)
        enforced = namespace is not None and namespace.labels.get(_LEVEL) == "restricted"
        if enforced or pod in ours:
            why = "The namespace enforces it." if enforced else "The base sets it for its namespace."
            yield from _pod(pod, why)
            for container in pod.containers():
                yield from _container(container, why)
        if pod in ours:
            yield from _own(manifests, pod)
    for server in servers(manifests):
        writable = [
            text(mount.get("mountPath")) for mount in server.container.mounts if mount.get("readOnly") is not True
        ]
        read_only = dig(server.container.data, "securityContext", "readOnlyRootFilesystem") is True
        if read_only and "/tmp" not in writable:  # noqa: S108
            yield finding("no-tmp", server, "volumeMounts", writable or "none")
        if server.pod.spec.get("enableServiceLinks") is not False:
            yield finding("service-links", server.pod, "enableServiceLinks", "true (the default)")
    for namespace in manifests.of("Namespace"):
        level = namespace.labels.get(_LEVEL)
        if level != "restricted" and any(pod.namespace == namespace.name for pod in ours):
            yield finding("namespace-level", namespace, "metadata.labels", level)


def _own(manifests: Manifests, pod: Pod) -> Iterator[Finding]:
    """Settings of our own pods beyond Pod Security."""
    if pod.spec.get("automountServiceAccountToken") is not False:
        shown = pod.spec.get("automountServiceAccountToken", "true (the default)")
        yield finding("token", pod, "automountServiceAccountToken", shown)
    for container in pod.containers():
        user = _context(container, "runAsUser")
        # Another image may choose its user, as long as it is not root.
        if is_ours(manifests, container) and user != 0 and (integer(user) or 0) < _USER:
            yield finding("user", container, "securityContext.runAsUser", user, least=_USER)
        read_only = dig(container.data, "securityContext", "readOnlyRootFilesystem")
        if read_only is not True:
            yield finding("root-filesystem", container, "securityContext.readOnlyRootFilesystem", read_only)


def _context(container: Container, field: str) -> Any:
    """A field of a container's security context; the pod's where it has none."""
    outer, inner = (mapping(data.get("securityContext")) for data in (container.pod.spec, container.data))
    return inner.get(field, outer.get(field))


def _pod(pod: Pod, why: str) -> Iterator[Finding]:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.spec.get(field):
            yield finding("host-namespace", pod, field, pod.spec[field], enforced=why)
    for name, volume in pod.volumes.items():
        for kind in sorted(volume.keys() - _VOLUMES):
            yield finding("volume-type", pod, f"volumes[{name}]", kind, enforced=why)
    yield from _profiles(pod, mapping(pod.spec.get("securityContext")), why)
    for name, value in pod.annotations.items():
        if str(name).startswith("container.apparmor.security.beta.kubernetes.io/") and value == "unconfined":
            yield finding("apparmor", pod.object, f"metadata.annotations[{name}]", value, enforced=why)
    for sysctl in items(dig(pod.spec, "securityContext", "sysctls")):
        if sysctl.get("name") not in _SYSCTLS:
            yield finding("sysctl", pod, "securityContext.sysctls", sysctl.get("name"), enforced=why)


def _profiles(place: Place, context: dict[str, Any], why: str) -> Iterator[Finding]:
    """What a pod's and a container's security context have in common."""
    if dig(context, "appArmorProfile", "type") == "Unconfined":
        yield finding("apparmor", place, "securityContext.appArmorProfile.type", "Unconfined", enforced=why)
    linux = mapping(context.get("seLinuxOptions"))
    wrong = {key: linux[key] for key in ("user", "role") if linux.get(key)}
    if linux.get("type") not in (None, "", *_SELINUX):
        wrong["type"] = linux["type"]
    if wrong:
        yield finding("selinux", place, "securityContext.seLinuxOptions", wrong, enforced=why)
    if dig(context, "windowsOptions", "hostProcess"):
        yield finding("host-process", place, "securityContext.windowsOptions.hostProcess", "true", enforced=why)


def _container(container: Container, why: str) -> Iterator[Finding]:
    context = mapping(container.data.get("securityContext"))
    if _context(container, "runAsNonRoot") is not True:
        yield finding(
            "root", container, "securityContext.runAsNonRoot", _context(container, "runAsNonRoot"), enforced=why
        )
    if _context(container, "runAsUser") == 0:
        yield finding("root-user", container, "securityContext.runAsUser", 0, enforced=why)
    if context.get("privileged"):
        yield finding("privileged", container, "securityContext.privileged", "true", enforced=why)
    escalation = context.get("allowPrivilegeEscalation")
    if escalation is not False:
        yield finding("escalation", container, "securityContext.allowPrivilegeEscalation", escalation, enforced=why)
    dropped, added = strings(dig(context, "capabilities", "drop")), strings(dig(context, "capabilities", "add"))
    if "ALL" not in dropped or set(added) - {"NET_BIND_SERVICE"}:
        yield finding(
            "capabilities", container, "securityContext.capabilities", f"drop {dropped}, add {added}", enforced=why
        )
    yield from _profiles(container, context, why)
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        for way in ("httpGet", "tcpSocket"):
            host = dig(container.data, kind, way, "host")
            if host:
                yield finding("probe-host", container, f"{kind}.{way}.host", host, enforced=why)
    profile = dig(context, "seccompProfile", "type") or dig(
        container.pod.spec, "securityContext", "seccompProfile", "type"
    )
    if profile not in ("RuntimeDefault", "Localhost"):
        yield finding("seccomp", container, "securityContext.seccompProfile.type", profile, enforced=why)
    if context.get("procMount") not in (None, "Default"):
        yield finding("proc-mount", container, "securityContext.procMount", context["procMount"], enforced=why)
    for port in container.ports:
        if port.get("hostPort"):
            yield finding("host-port", container, "ports", port["hostPort"], enforced=why)
