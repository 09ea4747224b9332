"""Where the server listens, with how many threads, and behind which certificate."""

from __future__ import annotations

from collections.abc import Iterator

from serving.check._data import items, text
from serving.check._manifests import Finding, Manifests
from serving.check._server import Server, servers
from serving.check.flags import finding

__all__ = ["check"]


def check(manifests: Manifests) -> Iterator[Finding]:
    for server in servers(manifests):
        yield from _threads(server)
        yield from _ports(server)
        yield from _tls(server)


def _threads(server: Server) -> Iterator[Finding]:
    cpus = server.container.limit("cpu")
    for name in ("tensorflow_intra_op_parallelism", "tensorflow_inter_op_parallelism"):
        number = server.number(name)
        if not number or number < 0:
            yield finding(
                server,
                "threads-unset",
                f"--{name} from the CPU limit",
                str(server.flags.get(name, "unset")),
                "The server takes the node's cores: it is throttled, and latency jumps.",
                f"Set --{name}=$(CPU_LIMIT).",
            )
        elif cpus is not None and number > max(1.0, -(-cpus // 1)):
            yield finding(
                server,
                "threads-many",
                f"--{name} of at most {max(1, int(-(-cpus // 1)))}, the CPU limit",
                str(number),
                "More threads than CPUs: the container is throttled, and latency jumps.",
                f"Set --{name}=$(CPU_LIMIT).",
            )
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        value = server.container.variable(name) or ""
        if cpus is not None and value.isdecimal() and int(value) > max(1.0, -(-cpus // 1)):
            yield Finding(
                "threads-many",
                server.object,
                f"{server.container.path}.env[{name}]",
                f"at most {max(1, int(-(-cpus // 1)))}, the CPU limit",
                value,
                "More threads than CPUs: the container is throttled, and latency jumps.",
                "Remove it: the flags say how many.",
            )
    number = server.number("grpc_max_threads") if "grpc_max_threads" in server.flags else None
    if number is None or number < 16:
        yield finding(
            server,
            "threads-grpc",
            "--grpc_max_threads of at least 16; 64 is good",
            str(number or "unset"),
            'Callers beyond it are answered RESOURCE_EXHAUSTED "Server Threadpool Exhausted".',
            "Set 64.",
        )


def _ports(server: Server) -> Iterator[Finding]:
    if server.number("port") == server.number("rest_api_port"):
        yield finding(
            server,
            "flag-port",
            "two ports, --port and --rest_api_port",
            str(server.number("port")),
            "One of the two APIs is not there.",
            "Set 8500 and 8501.",
        )
    if not {"model_config_file", "model_base_path"} & server.flags.keys():
        yield finding(
            server,
            "flag-model",
            "--model_config_file",
            "none",
            "The server has no model to serve, and ends.",
            "Name the file.",
        )
    for port in items(server.container.data.get("ports")):
        if port.get("protocol") not in (None, "TCP"):
            yield Finding(
                "port-protocol",
                server.object,
                f"{server.container.path}.ports[{port.get('name')}].protocol",
                "TCP, for gRPC and REST",
                repr(port["protocol"]),
                "Services and policies that follow it let no call through.",
                "Remove it.",
            )
    declared = [port.get("containerPort") for port in items(server.container.data.get("ports"))]
    if server.container.pod.owner.kind == "InferenceService" and declared[:1] != [server.number("port")]:
        yield Finding(
            "kserve-port",
            server.object,
            f"{server.container.path}.ports",
            f"the gRPC port {server.number('port')} first",
            str(declared),
            "KServe routes to the first port: gRPC calls reach REST, and fail.",
            "Put it first.",
        )
    for flag in ("port", "rest_api_port"):
        number = server.number(flag)
        if number and number not in declared:
            yield finding(
                server,
                "flag-port",
                f"--{flag} to be a containerPort ({', '.join(map(str, declared)) or 'none'})",
                str(number),
                "Services, probes and policies point to another port.",
                "Make both the same.",
            )
        elif number and number < 1024:
            yield finding(
                server,
                "flag-port",
                f"--{flag} of at least 1024, since the container is not root",
                str(number),
                "Without root no process may listen there: the server ends.",
                "Set 8500 and 8501.",
            )
        elif not number and flag == "rest_api_port":
            yield finding(
                server, "flag-rest", "--rest_api_port", "0", "No probes and no metrics: both are REST.", "Set 8501."
            )


def _tls(server: Server) -> Iterator[Finding]:
    """The server's certificate: the entrypoint makes the file of the flag from a mounted folder."""
    container = server.container
    mounts = {text(mount.get("mountPath")).rstrip("/") for mount in container.mounts}
    folder, target = container.variable("DUOSERVE_TLS_DIR"), server.flags.get("ssl_config_file")
    if folder is not None and folder.rstrip("/") not in mounts:
        yield Finding(
            "tls-folder",
            server.object,
            f"{container.path}.env[DUOSERVE_TLS_DIR]",
            f"a mounted folder with tls.crt, tls.key and ca.crt (mounts: {', '.join(sorted(mounts))})",
            folder,
            "The entrypoint ends: there is no key.",
            "Mount the Secret there.",
        )
    mounted = any(target.startswith(mount + "/") for mount in mounts if mount != "/tmp") if target else False  # noqa: S108
    if target is not None and not mounted and (folder is None or server.bare):
        yield finding(
            server,
            "tls-config",
            "--ssl_config_file to be a mounted file, or DUOSERVE_TLS_DIR, from which the entrypoint writes it",
            target,
            "The server ends: there is no such file.",
            "Add the component mtls as a whole.",
        )
