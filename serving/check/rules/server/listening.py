"""Where the server listens, with how many threads, and behind which certificate."""

from __future__ import annotations

from collections.abc import Iterator

from serving.check.findings import Finding, finding
from serving.check.manifests.objects import Manifests
from serving.check.manifests.servers import Server, servers
from serving.check.manifests.values import mapping, text

__all__ = ["check"]


_LIBRARY_THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


def check(manifests: Manifests) -> Iterator[Finding]:
    for server in servers(manifests):
        yield from _threads(server)
        yield from _ports(server)
        yield from _tls(server)


def _threads(server: Server) -> Iterator[Finding]:
    cpus = server.limit("cpu")
    most = None if cpus is None else max(1, int(-(-cpus // 1)))
    for name in ("tensorflow_intra_op_parallelism", "tensorflow_inter_op_parallelism"):
        number = server.number(name)
        if not number or number < 0:
            # Without a limit there is nothing to compare; our entrypoint sets missing flags.
            if most is not None and (server.entrypoint != "duoserve" or name in server.flags):
                yield finding("threads-unset", server, "args", server.flags.get(name, "unset"), flag=name)
        elif most is not None and number > most:
            yield finding("threads-many", server, "args", f"--{name}={number}", most=most)
    for name in _LIBRARY_THREADS:
        value = server.variable(name) or ""
        if most is not None and value.isdecimal() and int(value) > most:
            yield finding("threads-many", server, f"env[{name}]", value, most=most)
    number = server.number("grpc_max_threads") if "grpc_max_threads" in server.flags else None
    if number is None or number < 16:
        yield finding("threads-grpc", server, "args", number or "unset")


def _ports(server: Server) -> Iterator[Finding]:
    grpc, rest = server.grpc_port, server.rest_port
    if grpc == rest:
        yield finding("flag-port-same", server, "args", f"{grpc} for both")
    if not rest:
        yield finding("flag-rest", server, "args", "0")
    if not {"model_config_file", "model_base_path"} & server.flags.keys():
        yield finding("flag-model", server, "args", "none")
    contexts = [mapping(data, "securityContext") for data in (server.pod.spec, server.data)]
    without_root = any(context.get("runAsNonRoot") is True or context.get("runAsUser") for context in contexts)
    for name, number in (("port", grpc), ("rest_api_port", rest)):
        if number and number < 1024 and without_root:
            yield finding("flag-port-low", server, "args", number, flag=name)
    declared = [port.get("containerPort") for port in server.ports]
    for port in server.ports:
        shown = port.get("name") or port.get("containerPort")
        if port.get("protocol") not in (None, "TCP"):
            yield finding("port-protocol", server, f"ports[{shown}].protocol", repr(port["protocol"]))
        if port.get("containerPort") not in (grpc, rest):
            known = f"{grpc}, {rest or 'REST is off'}"
            yield finding("flag-port", server, f"ports[{shown}]", port.get("containerPort"), known=known)
    if server.object.kind == "InferenceService" and declared[:1] != [grpc]:
        yield finding("kserve-port", server, "ports", declared, port=grpc)


def _tls(server: Server) -> Iterator[Finding]:
    """The server's certificate: the entrypoint makes the file of the flag from a mounted folder."""
    container = server
    mounts = {text(mount, "mountPath").rstrip("/") for mount in container.mounts}
    folder, target = container.variable("DUOSERVE_TLS_DIR"), server.flags.get("ssl_config_file")
    if folder is not None and folder.rstrip("/") not in mounts:
        yield finding("tls-folder", server, "env[DUOSERVE_TLS_DIR]", folder, mounts=", ".join(sorted(mounts)))
    mounted = any(target.startswith(f"{mount}/") for mount in mounts - {"/tmp"}) if target else False  # noqa: S108
    if target is not None and not mounted and (folder is None or server.entrypoint != "duoserve"):
        yield finding("tls-config", server, "args", target)
