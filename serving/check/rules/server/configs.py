"""The config files of the server: labels, versions and the store's path; batches that fit warmup, clients and CPUs."""

import re
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Final

from serving.check.findings import Finding, broken, finding, refused
from serving.check.manifests.files import ConfigFile, mount_of
from serving.check.manifests.objects import Manifests
from serving.check.manifests.servers import Server, servers
from serving.check.manifests.values import strings, text
from serving.models_config import modelfile, textproto

_HASH = re.compile(r"-[bcdfghkmt2456789]{10}")
_READ_ONCE = ("batching_parameters_file", "monitoring_config_file")
WARMED_UP: Final = (1, 2, 4, 8, 16, 32)
"""Batch sizes that an export warms up by default (`python -m export export --batch-sizes`)."""

_WRAPPED = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")
_FIELDS = {*_WRAPPED, "thread_pool_name", "allowed_batch_sizes", "pad_variable_length_inputs",
           "enable_large_batch_splitting", "max_execution_batch_size"}  # fmt: skip


def check(manifests: Manifests) -> Iterator[Finding]:
    for server in servers(manifests):
        file = server.file("model_config_file")
        if file is not None and file.text is not None:
            yield from check_models_file(file)
            yield from _hashes(server, file)
            yield from refused(file.object, file.object.data, [("models-immutable", "immutable", (None, False))])
        for base, versions in _base_paths(server):
            yield from _store(server, base, versions)


def check_models_file(file: ConfigFile) -> Iterator[Finding]:
    """Mistakes in a models.config."""
    try:
        found = modelfile.parse(file.text or "")
    except textproto.TextProtoError as error:
        yield finding("models-syntax", file, "", error)
        return
    if not found:
        yield finding("models-empty", file, "", "none")
    yield from _labels_twice(file)
    names = Counter(model.name for model in found)
    for name in [name for name, count in names.items() if count > 1 or not name]:
        yield finding("models-name", file, "", repr(name))
    for model in found:
        at, base = f":{model.line}", model.base_path.rstrip("/")
        parent, _, last = base.rpartition("/")
        if not base.startswith("/") and "://" not in base:
            yield finding("models-path", file, at, repr(model.base_path))
        elif last.isdecimal():
            yield finding("models-path-version", file, at, repr(model.base_path), parent=parent)
        if model.platform != "tensorflow":
            yield finding("models-platform", file, at, repr(model.platform))
        yield from _versions(file, at, model)


def _labels_twice(file: ConfigFile) -> Iterator[Finding]:
    for listed, config in textproto.parse(file.text or "").messages("model_config_list"):
        for _, model in config.messages("config"):
            labels = Counter(label.text("key") for _, label in model.messages("version_labels"))
            for label, count in labels.items():
                if count > 1:
                    yield finding("label-twice", file, f":{listed.line}", f"{label!r} {count} times")


def _versions(file: ConfigFile, at: str, model: modelfile.ModelConfig) -> Iterator[Finding]:
    if not isinstance(model.policy, modelfile.Specific):
        if model.labels:
            yield finding("labels-policy", file, at, type(model.policy).__name__.lower())
        return
    versions = list(model.policy.versions)
    if not versions or min(versions) < 1 or len(set(versions)) != len(versions):
        yield finding("versions", file, at, versions)
    for label, version in model.labels.items():
        if not label:
            yield finding("label-name", file, at, "an empty one")
        if version not in versions:
            yield finding("label-version", file, at, version, label=label, versions=versions)


def _hashes(server: Server, models_file: ConfigFile) -> Iterator[Finding]:
    """A file that is read again keeps its ConfigMap's name; one that is read once gets a new name with each change."""
    if _HASH.search(models_file.source):
        yield finding("models-hash", server.pod, "volumes", models_file.object)
    files = [server.file(flag) for flag in _READ_ONCE]
    for file in [] if "checksum" in " ".join(map(str, server.pod.annotations)) else files:
        if file is not None and file.source and not _HASH.search(file.source):
            yield finding("config-hash", server.pod, "volumes", file.object)


def _base_paths(server: Server) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The local base paths that have to be mounted, with the versions that have to be there."""
    for model in server.models():
        specific = model.policy.versions if isinstance(model.policy, modelfile.Specific) else ()
        if "://" not in model.base_path:
            yield model.base_path.rstrip("/"), specific
    base = server.flags.get("model_base_path", "")
    if "model_config_file" not in server.flags and server.unchanged_image and "://" not in base:
        yield base.rstrip("/"), ()


def _store(server: Server, base: str, versions: tuple[int, ...]) -> Iterator[Finding]:
    mounts = server.folders
    above = mount_of(server, base)
    beneath = [path for path in mounts if path.startswith(f"{base}/")]
    missing = [version for version in versions if f"{base}/{version}" not in beneath] if beneath and not above else []
    if (not above and not beneath) or missing:
        shown = f", versions {missing}" if missing else ""
        yield finding("store-mount", server, "volumeMounts", f"{base!r}{shown}; mounts {sorted(mounts)}")
    for mount in [*([above] if above else []), *(mounts[path] for path in beneath)]:
        name = text(mount, "name")
        volume = server.pod.volumes.get(name, {})
        claim = text(volume, "persistentVolumeClaim.claimName")
        found = server.pod.manifests.find("PersistentVolumeClaim", claim, server.pod.namespace)
        read_only = found is not None and strings(found.spec, "accessModes") == ["ReadOnlyMany"]
        if mount.get("readOnly") is not True and not (read_only or volume.keys() & {"emptyDir", "image"}):
            yield finding("store-writable", server, f"volumeMounts[{name}].readOnly", mount.get("readOnly"))


def check_batching(manifests: Manifests, warmed_up: Collection[int], client_batch: int | None) -> Iterator[Finding]:
    for server in servers(manifests):
        file = server.file("batching_parameters_file")
        if server.on("enable_batching") and file is not None and file.text is not None:
            yield from check_batching_file(file, warmed_up, client_batch, server.limit("cpu"))


def check_batching_file(
    file: ConfigFile, warmed_up: Collection[int], client_batch: int | None, cpus: float | None
) -> Iterator[Finding]:
    """Mistakes in a batching.config: against the export's warmup, the client's batches and the CPUs."""
    try:
        root = textproto.parse(file.text or "")
        values = {name: found[1].integer("value", 0) if (found := root.message(name)) else None for name in _WRAPPED}
        sizes = [textproto.integer(entry) for entry in root.all("allowed_batch_sizes")]
    except textproto.TextProtoError as error:
        yield finding("batching-syntax", file, "", error)
        return
    for entry in root.fields:
        if entry.name not in _FIELDS:
            yield finding("batching-field", file, f":{entry.line}", entry.name)
    for name, value in values.items():
        if value is None or value < (0 if name == "batch_timeout_micros" else 1):
            yield finding("batching-value", file, "", value, name=name)
    largest, threads, most = values["max_batch_size"], values["num_batch_threads"], max(1, int(cpus or 0))
    queue, timeout = values["max_enqueued_batches"], values["batch_timeout_micros"]
    cold = sorted(set(sizes) - set(warmed_up))
    padded = [entry.value for entry in root.all("pad_variable_length_inputs")][-1:]
    pads = any(isinstance(v, textproto.Scalar) and str(v.value).lower() in ("true", "t", "1") for v in padded)
    rows = [
        ("batching-sizes", sizes and (sizes != sorted(set(sizes)) or largest not in (None, sizes[-1])), sizes),
        ("batching-warmup", cold or not sizes, cold or "none, so every size"),
        ("batching-client", client_batch is not None and client_batch > (largest or client_batch), largest),
        ("batching-threads", cpus is not None and (threads or 0) > most, threads),
        ("batching-queue", (queue or 0) > 1000, queue),
        ("batching-timeout", (timeout or 0) > 100_000, timeout),
        ("batching-padding", pads, True),
    ]
    shown = {"largest": largest, "warmed_up": tuple(warmed_up), "client_batch": client_batch, "most": most}
    yield from broken(file, "", rows, **shown)
