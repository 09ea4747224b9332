"""The server's command line, and where it makes the server listen. The server prints an unknown flag and ignores it."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator

from serving.check.findings import Finding, finding
from serving.check.manifests.files import mount_of
from serving.check.manifests.objects import Manifests
from serving.check.manifests.servers import Server, opaque_server, servers
from serving.check.manifests.values import strings, text
from serving.local.flags import STOCK_FLAGS

__all__ = ["check"]

_FILES = ("model_config_file", "batching_parameters_file", "monitoring_config_file")
_NEEDED = {
    "enable_profiler": (False, "flag-profiler"),
    "enable_grpc_healthcheck_service": (True, "flag-healthcheck"),
    "enable_model_warmup": (True, "flag-warmup"),
}
_KINDS = {bool: "true or false", int: "an integer", float: "a number"}
_LIBRARY_THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


def check(manifests: Manifests) -> Iterator[Finding]:
    for container in manifests.containers(init=False):
        received = opaque_server(container)
        if received:
            yield finding("command-form", container, "command", received)
    for server in servers(manifests):
        for rules in (_written, _wanted, _polls, _files):
            yield from rules(server)
    yield from _listening(manifests)


def _written(server: Server) -> Iterator[Finding]:
    for name, count in Counter(flag.lstrip("-").partition("=")[0] for flag in server.written).items():
        if name not in STOCK_FLAGS:
            near = difflib.get_close_matches(name, STOCK_FLAGS, 1)
            yield finding(
                "flag-unknown", server, "args", f"--{name}", fix=f"Write --{near[0]}." if near else "Remove it."
            )
        elif count > 1:
            yield finding("flag-twice", server, "args", f"{count} times", flag=name)
    words = strings(server.data, "args")
    for before, argument in zip(["", *words], words, strict=False):
        stray = not argument.startswith("-") and before.startswith("-") and "=" in before
        if stray or (argument.startswith("-") and re.search(r"\s--\w", argument)):
            yield finding("flag-argument", server, "args", repr(argument))
    for argument in server.written:
        yield from _flag(server, argument)


def _flag(server: Server, argument: str) -> Iterator[Finding]:
    name, _, value = argument.lstrip("-").partition("=")
    default = STOCK_FLAGS.get(name)
    unknown = [variable for variable in re.findall(r"\$\(([\w.-]+)\)", value) if not server.may_have(variable)]
    if unknown:
        yield finding("flag-variable", server, "args", argument)
    elif default is not None and "$" not in value:
        if not argument.startswith("--"):
            yield finding("flag-dash", server, "args", argument, flag=name)
        if "=" not in argument and not isinstance(default, bool):
            yield finding("flag-value", server, "args", argument, flag=name)
        elif "=" in argument and not _fits(value, default):
            yield finding("flag-type", server, "args", repr(value), flag=name, kind=_KINDS.get(type(default), "text"))


def _fits(value: str, default: object) -> bool:
    if value != value.strip() or value[:1] in ("'", '"'):
        return False
    try:
        return value in ("true", "false") if isinstance(default, bool) else type(default)(value) is not None  # type: ignore[call-arg]
    except ValueError:
        return False


def _wanted(server: Server) -> Iterator[Finding]:
    for name, (on, rule) in _NEEDED.items():
        if server.on(name) != on:
            yield finding(rule, server, "args", server.flags.get(name, "the default"))
    if server.on("enable_serialization_as_tensor_content") and server.rest_port:
        yield finding("flag-tensor-content", server, "args", "true", port=server.rest_port)
    if any(model.labels for model in server.models()) and not server.on("allow_version_labels_for_unavailable_models"):
        yield finding("flag-labels", server, "args", "off")
    batching, named = server.on("enable_batching"), "batching_parameters_file" in server.flags
    if named and not batching:
        yield finding("flag-batching", server, "args", "off")
    if batching and not named:
        yield finding("flag-batching-file", server, "args", "none")
    if "monitoring_config_file" not in server.flags:
        yield finding("flag-monitoring", server, "args", "none")
    given = {flag.lstrip("-").partition("=")[0] for flag in server.written}
    if "model_config_file" in given and {"model_name", "model_base_path"} & given:
        yield finding("flag-ignored", server, "args", "both")
    precision = server.flags.get("mixed_precision", "")
    if precision not in ("", "bfloat16"):
        yield finding("flag-mixed-precision", server, "args", repr(precision))


def _polls(server: Server) -> Iterator[Finding]:
    if "model_config_file" in server.flags and (server.number("model_config_file_poll_wait_seconds") or 0) < 1:
        yield finding("flag-config-poll", server, "args", server.number("model_config_file_poll_wait_seconds"))
    if (server.number("file_system_poll_wait_seconds") or 0) < 1:
        yield finding("flag-poll", server, "args", server.number("file_system_poll_wait_seconds"))
    if (server.number("num_load_threads") or 0) < 1:
        yield finding("flag-load-threads", server, "args", server.number("num_load_threads"))
    retries, wait = server.number("max_num_load_retries") or 0, server.number("load_retry_interval_micros") or 0
    if retries * wait > 60e6:
        yield finding("flag-retries", server, "args", f"{retries} x {wait / 1e6:g} s")


def _files(server: Server) -> Iterator[Finding]:
    for flag in _FILES:
        file = server.file(flag)
        if file is None:
            continue
        # A file of another volume, or of an image that is not the stock one, can't be seen here.
        elsewhere = mount_of(server, file.name) or not (server.unchanged_image or server.entrypoint == "duoserve")
        known = file.source and not server.pod.manifests.external("ConfigMap", file.source)
        if file.text is None and (known or not (file.source or elsewhere)):
            received = f"{file.name} ({file.object} {file.path})" if file.source else file.name
            yield finding("flag-file", server, "args", received, flag=flag, mounts=server.folders)
        for mount in server.mounts:
            part = mount.get("subPath") or mount.get("subPathExpr")
            if flag == "model_config_file" and part and file.name.startswith(text(mount, "mountPath")):
                yield finding("subpath", server, f"volumeMounts[{mount.get('name')}].subPath", f"subPath {part!r}")


def _listening(manifests: Manifests) -> Iterator[Finding]:
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
    without_root = server.security.get("runAsNonRoot") is True or server.security.get("runAsUser")
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
    mounts = server.folders
    folder, target = server.variable("DUOSERVE_TLS_DIR"), server.flags.get("ssl_config_file")
    if folder is not None and folder.rstrip("/") not in mounts:
        yield finding("tls-folder", server, "env[DUOSERVE_TLS_DIR]", folder, mounts=mounts)
    mounted = any(target.startswith(f"{mount}/") for mount in mounts - {"/tmp"}) if target else False  # noqa: S108
    if target is not None and not mounted and (folder is None or server.entrypoint != "duoserve"):
        yield finding("tls-config", server, "args", target)
