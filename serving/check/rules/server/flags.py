"""The server's command line. The server itself prints an unknown flag and ignores it."""

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


def check(manifests: Manifests) -> Iterator[Finding]:
    for container in manifests.containers(init=False):
        received = opaque_server(container)
        if received:
            yield finding("command-form", container, "command", received)
    for server in servers(manifests):
        for rules in (_written, _wanted, _polls, _files):
            yield from rules(server)


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
            mounts = ", ".join(text(mount, "mountPath") for mount in server.mounts) or "none"
            received = f"{file.name} ({file.object} {file.path})" if file.source else file.name
            yield finding("flag-file", server, "args", received, flag=flag, mounts=mounts)
        for mount in server.mounts:
            part = mount.get("subPath") or mount.get("subPathExpr")
            if flag == "model_config_file" and part and file.name.startswith(text(mount, "mountPath")):
                yield finding("subpath", server, f"volumeMounts[{mount.get('name')}].subPath", f"subPath {part!r}")
