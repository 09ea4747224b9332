"""models.config: labels, versions, and the path of the store."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from serving.check.findings import Finding, finding, refused
from serving.check.manifests.files import ConfigFile, mount_of
from serving.check.manifests.objects import Manifests
from serving.check.manifests.servers import Server, servers
from serving.check.manifests.values import strings, text
from serving.models_config import modelfile, textproto

__all__ = ["check", "check_file"]


_HASH = re.compile(r"-[bcdfghkmt2456789]{10}")
_READ_ONCE = ("batching_parameters_file", "monitoring_config_file")


def check(manifests: Manifests) -> Iterator[Finding]:
    seen: set[tuple[str, str]] = set()
    for server in servers(manifests):
        file = server.file("model_config_file")
        if file is not None and file.text is not None:
            if (str(file.object), file.text) not in seen:
                yield from check_file(file)
            seen.add((str(file.object), file.text))
            yield from _hashes(server, file)
            yield from refused(file.object, file.object.data, [("models-immutable", "immutable", (None, False))])
        for base, versions in _base_paths(server):
            yield from _store(server, base, versions)


def check_file(file: ConfigFile) -> Iterator[Finding]:
    """Mistakes in a models.config."""
    try:
        found = modelfile.parse(file.text or "")
    except modelfile.TextProtoError as error:
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
    mounts = {text(mount, "mountPath").rstrip("/"): mount for mount in server.mounts}
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
