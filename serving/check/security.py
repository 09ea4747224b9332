"""Pod Security "restricted", and who reaches the server's ports."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from serving.check._data import dig, integer, items, mapping, matches, strings, text
from serving.check._manifests import Container, Finding, Manifests, Object, Pod
from serving.check._server import Server, servers

__all__ = ["PLACEHOLDER", "check"]

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
_RESTRICTED = 'The namespace enforces Pod Security "restricted": no pod is created.'
PLACEHOLDER = re.compile(r"registry\.example\.com|@sha256:0{64}$")


def check(manifests: Manifests, *, for_apply: bool = False) -> Iterator[Finding]:
    for pod in manifests.pods:
        yield from _pod(pod)
        for container in pod.containers():
            yield from _container(container)
            yield from _image(container, for_apply)
        for volume in items(pod.spec.get("volumes")):
            reference = text(dig(volume, "image", "reference"))
            if for_apply and PLACEHOLDER.search(reference):
                yield _placeholder(
                    str(pod.owner), f"{pod.path}.volumes[{volume.get('name')}].image.reference", reference
                )
    for server in servers(manifests):
        yield from _exposure(manifests, server)
        yield from _temporary(server)
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


def _image(container: Container, for_apply: bool) -> Iterator[Finding]:
    image = text(container.data.get("image"))
    name, _, digest = image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    field = f"{container.path}.image"
    if not digest and tag in ("", "latest"):
        # kustomize sets it: the base alone has the bare name.
        yield Finding(
            "image-tag",
            container.object,
            field,
            "a digest, or at least a tag that names a build",
            repr(image),
            "The image changes under you: two pods of one Deployment may run two builds.",
            "Set `images` in the overlay, with a digest.",
        )
    elif for_apply and PLACEHOLDER.search(image):
        yield _placeholder(container.object, field, image)


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


def _placeholder(owner: str, field: str, image: str) -> Finding:
    return Finding(
        "placeholder",
        owner,
        field,
        "your image",
        repr(image),
        "There is no such image: ImagePullBackOff.",
        "Set `images` in the overlay's kustomization.yaml.",
    )


def _exposure(manifests: Manifests, server: Server) -> Iterator[Finding]:
    pod = server.container.pod
    namespace = pod.owner.namespace
    policies = [
        policy
        for policy in manifests.of("NetworkPolicy")
        if policy.namespace == namespace and matches(policy.spec.get("podSelector"), pod.labels)
    ]
    if not any("Ingress" in strings(policy.spec.get("policyTypes")) or "ingress" in policy.spec for policy in policies):
        yield Finding(
            "no-policy",
            server.object,
            "metadata.labels",
            "a NetworkPolicy that selects its pods",
            "none",
            "Every pod of the cluster can reload its config: the gRPC port asks for no authentication.",
            "Add one.",
        )
    if not any("Egress" in strings(policy.spec.get("policyTypes")) for policy in policies):
        yield Finding(
            "egress-open",
            server.object,
            "metadata.labels",
            "a NetworkPolicy of it with policyTypes Egress and no egress",
            "none",
            "The server needs to call nobody; a model that is not yours could.",
            "Add Egress to policyTypes.",
        )
    yield from _closed(manifests, server, policies)
    for policy in policies:
        for rule in items(policy.spec.get("egress")):
            if not items(rule.get("to")):
                yield Finding(
                    "egress-open",
                    str(policy),
                    "spec.egress",
                    "no egress for the server",
                    f"a rule to everywhere: {rule}",
                    "The server needs to call nobody; a model that is not yours could.",
                    "Write egress: [].",
                )
        for rule in items(policy.spec.get("ingress")):
            peers = items(rule.get("from"))
            if not peers or any(_everybody(peer) for peer in peers):
                yield Finding(
                    "ingress-open",
                    str(policy),
                    "spec.ingress.from",
                    "labelled callers only",
                    str(peers or "everybody"),
                    "Anybody can reload the config over the gRPC port: it asks for no authentication.",
                    "Name the callers by a label.",
                )
            elif not items(rule.get("ports")):
                yield Finding(
                    "ingress-ports",
                    str(policy),
                    "spec.ingress.ports",
                    "the one port that these callers need",
                    "all ports",
                    "Callers reach REST and metrics too, or Prometheus the reload call.",
                    "Name the port.",
                )
    for service in manifests.of("Service"):
        selector = mapping(service.spec.get("selector"))
        if (
            service.spec.get("type") in ("NodePort", "LoadBalancer")
            and service.namespace == namespace
            and selector
            and matches({"matchLabels": selector}, pod.labels)
        ):
            yield Finding(
                "service-exposed",
                str(service),
                "spec.type",
                "ClusterIP",
                str(service.spec["type"]),
                "The gRPC port takes config reloads without authentication, and leaves the cluster with it.",
                "Put a gateway with authentication in front.",
            )


def _closed(manifests: Manifests, server: Server, policies: list[Object]) -> Iterator[Finding]:
    """Ports that nobody may reach, though somebody has to."""
    pod = server.container.pod
    allowed: list[Any] = []
    for rule in [rule for policy in policies for rule in items(policy.spec.get("ingress"))]:
        allowed += [port.get("port") for port in items(rule.get("ports"))] or [server.number("port")]
    numbers = [pod.port_numbers().get(port, port) if isinstance(port, str) else port for port in allowed]
    scraped = any(
        monitor.namespace == pod.owner.namespace and matches(monitor.spec.get("selector"), pod.labels)
        for monitor in manifests.of("PodMonitor")
    )
    for flag, needed, why in (
        ("port", True, "Every call is dropped without an answer."),
        ("rest_api_port", scraped, "Every scrape is dropped: alerts stay silent."),
    ):
        if policies and needed and server.number(flag) not in numbers:
            yield Finding(
                "port-closed",
                str(policies[0]),
                "spec.ingress",
                f"a rule that lets callers reach port {server.number(flag)} (--{flag})",
                f"ports {allowed or 'none'}",
                why,
                "Add the port to the rule of its callers.",
            )


def _everybody(peer: dict[str, Any]) -> bool:
    """A peer of a NetworkPolicy that takes in a whole namespace, the cluster or the world."""
    if dig(peer, "ipBlock", "cidr") in ("0.0.0.0/0", "::/0"):
        return True
    anyone, anywhere = not mapping(peer.get("podSelector")), not mapping(peer.get("namespaceSelector"))
    return anyone and anywhere and "ipBlock" not in peer
