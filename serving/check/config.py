"""The server's config files: labels, versions, batching, metrics."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from serving import _textproto, modelfile
from serving.check._data import items, matches, text
from serving.check._manifests import Finding, Manifests
from serving.check._server import ConfigFile, Server, servers

__all__ = ["WARMED_UP", "batching", "check", "models"]

WARMED_UP = (1, 2, 4, 8, 16, 32)
"""Batch sizes that an export warms up unless told otherwise (`python -m export export --batch-sizes`)."""

_BATCHING = {
    "max_batch_size",
    "batch_timeout_micros",
    "max_enqueued_batches",
    "num_batch_threads",
    "thread_pool_name",
    "allowed_batch_sizes",
    "pad_variable_length_inputs",
    "enable_large_batch_splitting",
    "max_execution_batch_size",
}


def check(
    manifests: Manifests, warmed_up: Iterable[int] = WARMED_UP, client_batch: int | None = None
) -> Iterator[Finding]:
    seen: set[tuple[str, str]] = set()
    for server in servers(manifests):
        file = server.file("model_config_file")
        if file is not None and file.text is not None:
            if (file.where, file.text) not in seen:
                yield from models(file.text, file.where, file.field)
            seen.add((file.where, file.text))
            yield from _paths(server, file)
            yield from _hashes(server, file)
        file = server.file("batching_parameters_file")
        if server.on("enable_batching") and file is not None and file.text is not None:
            cpus = server.container.limit("cpu")
            yield from batching(file.text, file.where, file.field, warmed_up, client_batch, cpus)
        yield from _metrics(server)


def models(content: str, where: str, field: str) -> Iterator[Finding]:
    """What is wrong with a models.config."""
    try:
        found = modelfile.parse(content)
    except modelfile.TextProtoError as error:
        yield Finding(
            "models-syntax",
            where,
            field,
            "a ModelServerConfig in text form",
            str(error),
            "A server that starts with it ends; one that runs keeps the old config and ignores the rollout.",
            "Correct the line.",
        )
        return
    if not found:
        yield Finding(
            "models-empty",
            where,
            field,
            "at least one model",
            "none",
            "The servers unload everything.",
            "Add a config.",
        )
    for name, count in Counter(model.name for model in found).items():
        if count > 1 or not name:
            yield Finding(
                "models-name",
                where,
                field,
                "a name for each model, each another",
                repr(name),
                "The server refuses the config.",
                "Rename it.",
            )
    for model in found:
        place = f"{field}:{model.line}"
        if not model.base_path.startswith("/"):
            yield Finding(
                "models-path",
                where,
                place,
                "an absolute base_path",
                repr(model.base_path),
                "The server refuses the config.",
                "Write /models/NAME.",
            )
        if model.platform != "tensorflow":
            yield Finding(
                "models-platform",
                where,
                place,
                'model_platform: "tensorflow"',
                repr(model.platform),
                "The server refuses the config.",
                "Set it.",
            )
        yield from _versions(model, where, place)


def _versions(model: modelfile.ModelConfig, where: str, place: str) -> Iterator[Finding]:
    if not isinstance(model.policy, modelfile.Specific):
        if model.labels:
            yield Finding(
                "labels-policy",
                where,
                place,
                "versions by name (specific), since there are labels",
                type(model.policy).__name__.lower(),
                "A new export takes the labelled version's place as soon as it is published, label or not.",
                "Use model_version_policy { specific { versions: N } }.",
            )
        return
    versions = model.policy.versions
    if not versions or min(versions) < 1 or len(set(versions)) != len(versions):
        yield Finding(
            "versions",
            where,
            place,
            "versions of at least 1, each once, at least one",
            str(list(versions)),
            "No versions unload the model; 0 is no version.",
            "Name the versions to serve.",
        )
    for label, version in model.labels.items():
        if version not in versions:
            yield Finding(
                "label-version",
                where,
                place,
                f"label {label!r} to name a version of {list(versions)}",
                str(version),
                "The label names a version that is not loaded: calls by it fail, and the server refuses the edit.",
                "Add the version first, wait until it is AVAILABLE, then move the label.",
            )


_HASH = re.compile(r"-[bcdfghkmt2456789]{10}")


def _hashes(server: Server, models_file: ConfigFile) -> Iterator[Finding]:
    """What is read again keeps its name; what is read once takes a new one, so that the pods follow."""
    if _HASH.search(models_file.where):
        yield Finding(
            "models-hash",
            server.object,
            f"{server.container.pod.path}.volumes",
            "models.config in a ConfigMap without a hash in its name",
            models_file.where,
            "A rollout replaces every pod instead of changing a file that they read.",
            "Set disableNameSuffixHash: true for this one.",
        )
    annotations = " ".join(server.container.pod.annotations)
    for flag in ("batching_parameters_file", "monitoring_config_file"):
        file = server.file(flag)
        if file is None or not file.where.startswith("ConfigMap/") or "checksum" in annotations:
            continue
        if not _HASH.search(file.where):
            yield Finding(
                "config-hash",
                server.object,
                f"{server.container.pod.path}.volumes",
                "a ConfigMap with a hash in its name, or a checksum annotation on the pod template",
                file.where,
                "The file is read once: a change reaches a pod only when it happens to restart.",
                "Let kustomize add the hash (no disableNameSuffixHash), in a ConfigMap apart from models.config.",
            )


def _paths(server: Server, file: ConfigFile) -> Iterator[Finding]:
    mounts = {text(mount.get("mountPath")).rstrip("/"): mount for mount in server.container.mounts}
    for model in server.models():
        base = model.base_path.rstrip("/")
        above = [path for path in mounts if path and (base == path or base.startswith(path + "/"))]
        beneath = [path for path in mounts if path.startswith(base + "/")]
        missing = (
            [v for v in model.policy.versions if f"{base}/{v}" not in beneath]
            if beneath and not above and isinstance(model.policy, modelfile.Specific)
            else []
        )
        if (not above and not beneath) or missing:
            versions = f", versions {missing}" if missing else ""
            yield Finding(
                "store-mount",
                server.object,
                f"{server.container.path}.volumeMounts",
                f"a mount that has the base_path of {file.where}",
                f"{base!r}{versions}; mounts {sorted(mounts)}",
                "The server waits for ever, with closed ports (unless the image has the models baked in).",
                "Mount the store there, or correct base_path.",
            )
        for path in above + beneath:
            name = text(mounts[path].get("name"))
            if mounts[path].get("readOnly") is not True and "emptyDir" not in server.container.pod.volumes.get(
                name, {}
            ):
                yield Finding(
                    "store-writable",
                    server.object,
                    f"{server.container.path}.volumeMounts[{name}].readOnly",
                    "true",
                    str(mounts[path].get("readOnly")),
                    "A server that is broken into can change or delete the versions that all others load.",
                    "Mount the store read-only.",
                )


def batching(
    content: str, where: str, field: str, warmed_up: Iterable[int], client_batch: int | None, cpus: float | None
) -> Iterator[Finding]:
    """What is wrong with a batching.config, for an export's warmup, the client's batches and the CPUs."""
    try:
        root = _textproto.parse(content)
        wrapped = {
            name: _wrapped(root, name)
            for name in ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")
        }
        sizes = [_textproto.integer(entry) for entry in root.all("allowed_batch_sizes")]
    except _textproto.TextProtoError as error:
        yield _batching(
            where,
            field,
            "syntax",
            "BatchingParameters in text form",
            str(error),
            "The server does not start.",
            "Correct the line.",
        )
        return
    for entry in root.fields:
        if entry.name not in _BATCHING:
            yield _batching(
                where,
                f"{field}:{entry.line}",
                "field",
                "a field of BatchingParameters",
                entry.name,
                "The server does not start.",
                "Correct its name.",
            )
    largest, threads = wrapped["max_batch_size"], wrapped["num_batch_threads"]
    for name, value in wrapped.items():
        if value is None or value < (0 if name == "batch_timeout_micros" else 1):
            yield _batching(
                where,
                field,
                "value",
                f"{name} {{ value: N }}",
                str(value),
                "The scheduler's default fits no CPU limit and no deadline.",
                "Set it.",
            )
    if sizes and (sizes != sorted(set(sizes)) or (largest is not None and sizes[-1] != largest)):
        yield _batching(
            where,
            field,
            "sizes",
            f"allowed_batch_sizes ascending, the last {largest} (max_batch_size)",
            str(sizes),
            "The server does not load the model.",
            "Correct the sizes.",
        )
    cold = sorted(set(sizes) - set(warmed_up))
    if cold or not sizes:
        yield _batching(
            where,
            field,
            "warmup",
            f"allowed_batch_sizes that an export warms up {tuple(warmed_up)}",
            str(cold or "none, so every size"),
            "The first batch of such a size is slow for all in it.",
            "Take those sizes, or export with --batch-sizes.",
        )
    if client_batch is not None and largest is not None and client_batch > largest:
        yield _batching(
            where,
            field,
            "client",
            f"max_batch_size of at least {client_batch}, the client's batches",
            str(largest),
            "Larger requests are INVALID_ARGUMENT.",
            "Raise it.",
        )
    if threads is not None and cpus is not None and threads > max(1.0, cpus):
        yield _batching(
            where,
            field,
            "threads",
            f"num_batch_threads of at most {max(1, int(cpus))}, the CPU limit",
            str(threads),
            "Batches run against each other, and every one is slower.",
            "Lower it.",
        )
    timeout = wrapped["batch_timeout_micros"]
    if timeout is not None and timeout > 100_000:
        yield _batching(
            where,
            field,
            "timeout",
            "batch_timeout_micros of at most 100000 (0.1 s)",
            str(timeout),
            "Without load every call waits so long.",
            "Near the time of one run.",
        )
    padded = [entry for entry in root.all("pad_variable_length_inputs") if isinstance(entry.value, _textproto.Scalar)]
    if padded and str(padded[-1].value.value).lower() in ("true", "t", "1"):  # type: ignore[union-attr]
        yield _batching(
            where,
            field,
            "padding",
            "pad_variable_length_inputs: false",
            "true",
            "Short token rows are filled with their own first token: wrong answers, no error.",
            "Remove it; clients pad.",
        )


def _batching(where: str, field: str, rule: str, expected: str, received: str, why: str, fix: str) -> Finding:
    return Finding(f"batching-{rule}", where, field, expected, received, why, fix)


def _wrapped(root: _textproto.Message, name: str) -> int | None:
    found = root.message(name)
    return None if found is None else found[1].integer("value", 0)


def _metrics(server: Server) -> Iterator[Finding]:
    file = server.file("monitoring_config_file")
    if file is None or file.text is None:
        return
    try:
        found = _textproto.parse(file.text).message("prometheus_config")
        path = (found[1].text("path") if found else "") or "/monitoring/prometheus/metrics"
        enabled = found is not None and any(
            isinstance(entry.value, _textproto.Scalar) and entry.value.value in ("true", "True", "t", 1)
            for entry in found[1].all("enable")
        )
    except _textproto.TextProtoError as error:
        path, enabled, shown = "", False, str(error)
    else:
        shown = "off"
    if not enabled:
        yield Finding(
            "monitoring",
            file.where,
            file.field,
            "prometheus_config { enable: true }",
            shown,
            "There is no metrics page: alerts stay silent.",
            "Switch it on.",
        )
        return
    for monitor in server.manifests.of("PodMonitor"):
        chosen = server.manifests.selected(
            monitor.namespace, lambda labels, m=monitor: matches(m.spec.get("selector"), labels)
        )
        for endpoint in items(monitor.spec.get("podMetricsEndpoints")):
            scraped = text(endpoint.get("path")) or "/metrics"
            if server.container.pod in chosen and scraped != path:
                yield Finding(
                    "monitoring-path",
                    str(monitor),
                    "spec.podMetricsEndpoints.path",
                    f"{path!r}, as in {file.where}",
                    repr(scraped),
                    "Every scrape is 404: alerts stay silent.",
                    "Make both the same.",
                )
