"""The server's command line, and where it makes the server listen. The server prints an unknown flag and ignores it."""

import difflib
import re
from collections import Counter
from collections.abc import Iterator

from serving.check.findings import Finding, broken, finding
from serving.check.manifests.files import mount_of
from serving.check.manifests.objects import Manifests
from serving.check.manifests.servers import Server, flag_name, opaque_server, servers
from serving.check.manifests.values import strings, text
from serving.local.flags import STOCK_FLAGS

_FILES = ("model_config_file", "batching_parameters_file", "monitoring_config_file")
_KINDS = {bool: "true or false", int: "an integer", float: "a number"}
_LIBRARY_THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


def check(manifests: Manifests) -> Iterator[Finding]:
    for container in manifests.containers(init=False):
        received = opaque_server(container)
        if received:
            yield finding("command-form", container, "command", received)
    for server in servers(manifests):
        for rules in (_written, _wanted, _files, _threads, _ports, _tls):
            yield from rules(server)


def _written(server: Server) -> Iterator[Finding]:
    for name, count in Counter(map(flag_name, server.written)).items():
        if name not in STOCK_FLAGS:
            near = difflib.get_close_matches(name, STOCK_FLAGS, 1)
            fix = f"Write --{near[0]}." if near else "Remove it."
            yield finding("flag-unknown", server, "args", f"--{name}", fix=fix)
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
    name, value = flag_name(argument), argument.partition("=")[2]
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
    """What has to be set, or must not be; each row is a rule, whether it is broken, and what is there."""
    on, number, flags = server.on, server.number, server.flags
    given = {flag_name(argument) for argument in server.written}
    batching, parameters = on("enable_batching"), "batching_parameters_file" in flags
    health = "enable_grpc_healthcheck_service"
    labels = any(model.labels for model in server.models())
    config_poll, poll = number("model_config_file_poll_wait_seconds"), number("file_system_poll_wait_seconds")
    threads, precision = number("num_load_threads"), flags.get("mixed_precision", "")
    retries, wait = number("max_num_load_retries") or 0, number("load_retry_interval_micros") or 0
    rows: list[tuple[str, object, object]] = [
        ("flag-profiler", on("enable_profiler"), flags.get("enable_profiler", "the default")),
        ("flag-healthcheck", not on(health), flags.get(health, "the default")),
        ("flag-warmup", not on("enable_model_warmup"), flags.get("enable_model_warmup", "the default")),
        ("flag-tensor-content", on("enable_serialization_as_tensor_content") and server.rest_port, "on"),
        ("flag-labels", labels and not on("allow_version_labels_for_unavailable_models"), "off"),
        ("flag-batching", parameters and not batching, "off"),
        ("flag-batching-file", batching and not parameters, None),
        ("flag-monitoring", "monitoring_config_file" not in flags, None),
        ("flag-ignored", "model_config_file" in given and {"model_name", "model_base_path"} & given, "both"),
        ("flag-mixed-precision", precision not in ("", "bfloat16"), repr(precision)),
        ("flag-config-poll", "model_config_file" in flags and (config_poll or 0) < 1, config_poll),
        ("flag-poll", (poll or 0) < 1, poll),
        ("flag-load-threads", (threads or 0) < 1, threads),
        ("flag-retries", retries * wait > 60e6, f"{retries} x {wait / 1e6:g} s"),
        ("flag-rest", not server.rest_port, "0"),
        ("flag-port-same", server.grpc_port == server.rest_port, f"{server.grpc_port} for both"),
        ("flag-model", not {"model_config_file", "model_base_path"} & flags.keys(), None),
    ]
    yield from broken(server, "args", rows, port=server.rest_port)


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
            yield finding("flag-file", server, "args", received, flag=flag, mounts=server.folders.keys())
        for mount in server.mounts:
            part = mount.get("subPath") or mount.get("subPathExpr")
            if flag == "model_config_file" and part and file.name.startswith(text(mount, "mountPath")):
                yield finding("subpath", server, f"volumeMounts[{mount.get('name')}].subPath", f"subPath {part!r}")


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
    mounts, target = server.folders.keys(), server.flags.get("ssl_config_file")
    folder = server.variable("DUOSERVE_TLS_DIR")
    if folder is not None and folder.rstrip("/") not in mounts:
        yield finding("tls-folder", server, "env[DUOSERVE_TLS_DIR]", folder, mounts=mounts)
    mounted = any(target.startswith(f"{mount}/") for mount in mounts - {"/tmp"}) if target else False  # noqa: S108
    if target is not None and not mounted and (folder is None or server.entrypoint != "duoserve"):
        yield finding("tls-config", server, "args", target)
