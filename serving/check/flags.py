"""The server's command line. The server itself prints an unknown flag and ignores it."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator

from serving.check._data import strings, text
from serving.check._manifests import Finding, Manifests
from serving.check._server import Server, servers
from serving.local.flags import STOCK_FLAGS

__all__ = ["check", "finding"]

_FILES = ("model_config_file", "batching_parameters_file", "monitoring_config_file")

_NEEDED = (
    ("enable_profiler", False, "It shares the gRPC port, without authentication: any caller may profile and stall it."),
    ("enable_grpc_healthcheck_service", True, "Health checks of clients, meshes and the kubelet are UNIMPLEMENTED."),
    ("enable_model_warmup", True, "A broken version becomes AVAILABLE, and the first calls are slow."),
)


def check(manifests: Manifests) -> Iterator[Finding]:
    for server in servers(manifests):
        yield from _written(server)
        yield from _wanted(server)
        yield from _polls(server)
        yield from _files(server)


def finding(server: Server, rule: str, expected: str, received: str, why: str, fix: str) -> Finding:
    """A finding about the command line."""
    return Finding(rule, server.object, f"{server.container.path}.args", expected, received, why, fix)


def _written(server: Server) -> Iterator[Finding]:
    for name, count in Counter(flag.lstrip("-").partition("=")[0] for flag in server.written).items():
        if name not in STOCK_FLAGS:
            near = difflib.get_close_matches(name, STOCK_FLAGS, 1)
            yield finding(
                server,
                "flag-unknown",
                "a flag of tensorflow_model_server",
                f"--{name}",
                "The server ignores it and serves without what it was meant to switch on.",
                f"Write --{near[0]}." if near else "Remove it.",
            )
        elif count > 1:
            yield finding(
                server,
                "flag-twice",
                f"--{name} once",
                f"{count} times",
                "Which of them counts is up to the parser.",
                "Remove the others.",
            )
    words = strings(server.container.data.get("args")) if server.container.data.get("args") else []
    for before, argument in zip(["", *words], words, strict=False):
        stray = not argument.startswith("-") and "=" in before
        if stray or (argument.startswith("-") and re.search(r"\s--\w", argument)):
            yield finding(
                server,
                "flag-argument",
                "one --flag=value in each argument",
                repr(argument),
                "The server does not read it.",
                "Write one list entry a flag.",
            )
    for argument in server.written:
        name, _, value = argument.lstrip("-").partition("=")
        default = STOCK_FLAGS.get(name)
        if default is None or "$(" in value:
            if "$(" in value:
                yield finding(
                    server,
                    "flag-variable",
                    "a variable of the container",
                    argument,
                    "The server reads the text $(...) itself and does not start.",
                    "Declare it under env.",
                )
            continue
        if not argument.startswith("--"):
            yield finding(server, "flag-dash", f"--{name}", argument, "The server ignores it.", "Write two dashes.")
        if "=" not in argument and not isinstance(default, bool):
            yield finding(
                server,
                "flag-value",
                f"--{name}=VALUE in one argument",
                argument,
                "The server does not read a value from the next argument.",
                f"Write --{name}=VALUE.",
            )
        elif not _fits(value, default) and "=" in argument:
            yield finding(
                server,
                "flag-type",
                f"--{name} to be {_kind(default)}",
                repr(value),
                "The server does not start, or keeps its default.",
                "Correct the value.",
            )


def _kind(default: object) -> str:
    return {bool: "true or false", int: "an integer", float: "a number"}.get(type(default), "text")


def _fits(value: str, default: object) -> bool:
    if value != value.strip() or (value[:1] in "'\"" and value):
        return False
    try:
        return value in ("true", "false") if isinstance(default, bool) else type(default)(value) is not None  # type: ignore[call-arg]
    except ValueError:
        return False


def _wanted(server: Server) -> Iterator[Finding]:
    for name, on, why in _NEEDED:
        if server.on(name) != on:
            yield finding(
                server,
                "flag-needed",
                f"--{name}={str(on).lower()}",
                server.flags.get(name, "the default"),
                why,
                "Set it.",
            )
    if any(model.labels for model in server.models()) and not server.on("allow_version_labels_for_unavailable_models"):
        yield finding(
            server,
            "flag-labels",
            "--allow_version_labels_for_unavailable_models=true, since the config has labels",
            "off",
            "Labels in the first config point to versions that are not loaded yet: the server does not start.",
            "Set it.",
        )
    if "batching_parameters_file" in server.flags and not server.on("enable_batching"):
        yield finding(
            server,
            "flag-batching",
            "--enable_batching=true with --batching_parameters_file",
            "off",
            "The server refuses to start.",
            "Set both or neither.",
        )
    if server.on("enable_batching") and "batching_parameters_file" not in server.flags:
        yield finding(
            server,
            "flag-batching",
            "--batching_parameters_file with --enable_batching",
            "none",
            "The scheduler's defaults: batches of 1000 rows in any size, none of them warmed up.",
            "Name the file.",
        )
    if "monitoring_config_file" not in server.flags:
        yield finding(
            server,
            "flag-monitoring",
            "--monitoring_config_file",
            "none",
            "There is no metrics page: alerts stay silent.",
            "Name the file.",
        )
    if "model_config_file" in server.flags and {"model_name", "model_base_path"} & server.flags.keys():
        yield finding(
            server,
            "flag-ignored",
            "no --model_name or --model_base_path beside --model_config_file",
            "both",
            "The config file wins, whatever they say.",
            "Remove them.",
        )


def _polls(server: Server) -> Iterator[Finding]:
    if "model_config_file" in server.flags and (server.number("model_config_file_poll_wait_seconds") or 0) < 1:
        yield finding(
            server,
            "flag-config-poll",
            "--model_config_file_poll_wait_seconds of at least 1",
            str(server.number("model_config_file_poll_wait_seconds")),
            "The file is read once: a rollout never arrives.",
            "Set 30.",
        )
    if (server.number("file_system_poll_wait_seconds") or 0) < 1:
        yield finding(
            server,
            "flag-poll",
            "--file_system_poll_wait_seconds of at least 1",
            str(server.number("file_system_poll_wait_seconds")),
            "New versions are never found, and a reload hangs.",
            "Set 10.",
        )
    retries = server.number("max_num_load_retries") or 0
    wait = (server.number("load_retry_interval_micros") or 0) / 1e6
    if (server.number("num_load_threads") or 0) < 1:
        yield finding(
            server,
            "flag-load-threads",
            "--num_load_threads of at least 1",
            str(server.number("num_load_threads")),
            "A version that fails to load blocks every other load, also the way back, while it is tried again.",
            "Set 2.",
        )
    if retries * wait > 60:
        yield finding(
            server,
            "flag-retries",
            "load retries of a minute in all at most",
            f"{retries} x {wait:g} s",
            "A broken version is known as failed only after all of them: a rollout waits for nothing.",
            "Set --max_num_load_retries=2 --load_retry_interval_micros=5000000.",
        )


def _files(server: Server) -> Iterator[Finding]:
    for flag in _FILES:
        file = server.file(flag)
        if file is None:
            continue
        if file.text is None and not server.manifests.external("ConfigMap", file.where.partition("/")[2]):
            mounts = ", ".join(text(mount.get("mountPath")) for mount in server.container.mounts) or "none"
            yield finding(
                server,
                "flag-file",
                f"--{flag} to be a file of a mounted ConfigMap (mounts: {mounts})",
                f"{file.path} ({file.where} {file.field})".replace(" )", ")"),
                "The server does not start.",
                "Correct the path, the mount or the ConfigMap's key.",
            )
        for mount in server.container.mounts:
            part = mount.get("subPath") or mount.get("subPathExpr")
            if flag == "model_config_file" and part and file.path.startswith(text(mount.get("mountPath"))):
                yield Finding(
                    "subpath",
                    server.object,
                    f"{server.container.path}.volumeMounts[{mount.get('name')}].subPath",
                    "the ConfigMap mounted as a folder",
                    f"subPath {part!r}",
                    "A subPath mount never follows its ConfigMap: a rollout never arrives.",
                    "Mount the folder.",
                )
