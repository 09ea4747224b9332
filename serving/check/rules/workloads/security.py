"""Pod Security "restricted", and no right that the server does not need."""

from collections.abc import Iterator

from serving.check.findings import Finding, Row, finding, refused
from serving.check.manifests.objects import PROBES, Container, Manifests, Pod
from serving.check.manifests.servers import is_ours, servers
from serving.check.manifests.values import integer, items, mapping, strings, text

_OFF = (None, False)
_SELINUX = (None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")
_PROFILES: tuple[Row, ...] = (
    ("apparmor", "securityContext.appArmorProfile.type", (None, "RuntimeDefault", "Localhost")),
    ("selinux", "securityContext.seLinuxOptions.user", (None, "")),
    ("selinux", "securityContext.seLinuxOptions.role", (None, "")),
    ("selinux", "securityContext.seLinuxOptions.type", _SELINUX),
    ("host-process", "securityContext.windowsOptions.hostProcess", _OFF),
)
_POD: tuple[Row, ...] = (
    *_PROFILES,
    *(("host-namespace", field, _OFF) for field in ("hostNetwork", "hostPID", "hostIPC")),
)
_CONTAINER: tuple[Row, ...] = (
    *_PROFILES,
    ("privileged", "securityContext.privileged", _OFF),
    ("escalation", "securityContext.allowPrivilegeEscalation", (False,)),
    ("proc-mount", "securityContext.procMount", (None, "Default")),
    *(("probe-host", f"{kind}.{way}.host", (None, "")) for kind in PROBES for way in ("httpGet", "tcpSocket")),
)
_INHERITED: tuple[Row, ...] = (
    ("root", "securityContext.runAsNonRoot", (True,)),
    ("seccomp", "securityContext.seccompProfile.type", ("RuntimeDefault", "Localhost")),
)
_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "name", "persistentVolumeClaim",
            "projected", "secret"}  # fmt: skip
_SYSCTLS = {"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
            "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports",
            "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
            "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"}  # fmt: skip
_LEVEL = "pod-security.kubernetes.io/enforce"
_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
_USER = 10000


def check(manifests: Manifests) -> Iterator[Finding]:
    """Our own pods must have the base's settings; other pods, those that their namespace enforces."""
    ours = [pod for pod in manifests.pods if is_ours(pod)]
    for pod in manifests.pods:
        namespace = manifests.find("Namespace", pod.namespace)
        enforced = namespace is not None and namespace.labels.get(_LEVEL) == "restricted"
        if enforced or pod in ours:
            why = "The namespace enforces it." if enforced else "The base sets it for its namespace."
            yield from _pod(pod, why)
            for container in pod.containers():
                yield from _container(container, why)
        if pod in ours:
            yield from _own(pod)
    for server in servers(manifests):
        writable = {folder for folder, mount in server.folders.items() if mount.get("readOnly") is not True}
        if server.security.get("readOnlyRootFilesystem") is True and "/tmp" not in writable:  # noqa: S108
            yield finding("no-tmp", server, "volumeMounts", writable)
        yield from refused(server.pod, server.pod.spec, [("service-links", "enableServiceLinks", (False,))])
    for namespace in manifests.of("Namespace"):
        level = namespace.labels.get(_LEVEL)
        if level != "restricted" and any(pod.namespace == namespace.name for pod in ours):
            yield finding("namespace-level", namespace, "metadata.labels", level)


def _own(pod: Pod) -> Iterator[Finding]:
    """Settings of our own pods beyond Pod Security."""
    yield from refused(pod, pod.spec, [("token", "automountServiceAccountToken", (False,))])
    for container in pod.containers():
        user = container.security.get("runAsUser")
        # Another image may choose its user, as long as it is not root.
        if is_ours(container) and user != 0 and (integer(user) or 0) < _USER:
            yield finding("user", container, "securityContext.runAsUser", user, least=_USER)
        read_only: Row = ("root-filesystem", "securityContext.readOnlyRootFilesystem", (True,))
        yield from refused(container, container.data, [read_only])


def _pod(pod: Pod, why: str) -> Iterator[Finding]:
    yield from refused(pod, pod.spec, _POD, enforced=why)
    for name, volume in pod.volumes.items():
        for kind in sorted(map(str, volume.keys() - _VOLUMES)):
            yield finding("volume-type", pod, f"volumes[{name}]", kind, enforced=why)
    for name, value in pod.annotations.items():
        if str(name).startswith(_APPARMOR) and value == "unconfined":
            yield finding("apparmor", pod.object, f"metadata.annotations[{name}]", value, enforced=why)
    for sysctl in items(pod.spec, "securityContext.sysctls"):
        if text(sysctl, "name") not in _SYSCTLS:
            yield finding("sysctl", pod, "securityContext.sysctls", text(sysctl, "name"), enforced=why)


def _container(container: Container, why: str) -> Iterator[Finding]:
    context = container.security
    yield from refused(container, container.data, _CONTAINER, enforced=why)
    yield from refused(container, {"securityContext": context}, _INHERITED, enforced=why)
    if context.get("runAsUser") == 0:
        yield finding("root-user", container, "securityContext.runAsUser", 0, enforced=why)
    capabilities = mapping(container.data, "securityContext.capabilities")
    dropped, added = strings(capabilities, "drop"), strings(capabilities, "add")
    if "ALL" not in dropped or set(added) - {"NET_BIND_SERVICE"}:
        shown = f"drop {dropped}, add {added}"
        yield finding("capabilities", container, "securityContext.capabilities", shown, enforced=why)
    for port in container.ports:
        if port.get("hostPort"):
            yield finding("host-port", container, "ports", port["hostPort"], enforced=why)
