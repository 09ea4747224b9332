"""models.config: labels, versions, and a store that is where it says."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from serving.check._data import text
from serving.check._files import ConfigFile
from serving.check._manifests import Finding, Manifests
from serving.check._server import Server, servers
from serving.models_config import modelfile, textproto

__all__ = ["check", "models"]


def check(manifests: Manifests) -> Iterator[Finding]:
    seen: set[tuple[str, str]] = set()
    for server in servers(manifests):
        file = server.file("model_config_file")
        if file is not None and file.text is not None:
            if (file.where, file.text) not in seen:
                yield from models(file.text, file.where, file.field)
            seen.add((file.where, file.text))
            yield from _paths(server, file)
            yield from _hashes(server, file)
            yield from _frozen(server, file)


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
    yield from _labels_twice(content, where, field)
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
        elif model.base_path.rstrip("/").rpartition("/")[2].isdecimal():
            yield Finding(
                "models-path",
                where,
                place,
                "the folder of the model, which has a folder for each version",
                repr(model.base_path),
                "It looks like one version: the server finds no version in it and waits for ever, with closed ports.",
                f"Write {model.base_path.rstrip('/').rpartition('/')[0]}.",
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


def _labels_twice(content: str, where: str, field: str) -> Iterator[Finding]:
    for listed, config in textproto.parse(content).messages("model_config_list"):
        for _, model in config.messages("config"):
            labels = Counter(label.text("key") for _, label in model.messages("version_labels"))
            for label, count in labels.items():
                if count > 1:
                    yield Finding(
                        "label-twice",
                        where,
                        f"{field}:{listed.line}",
                        "each label once",
                        f"{label!r} {count} times",
                        "The last one counts: the label may name another version than the one you look at.",
                        "Remove the others.",
                    )


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
        if not label:
            yield Finding(
                "label-name",
                where,
                place,
                "a name for each label",
                "an empty one",
                "No client can ask for it.",
                "Name it, as `stable`.",
            )
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


def _frozen(server: Server, models_file: ConfigFile) -> Iterator[Finding]:
    name = models_file.where.removeprefix("ConfigMap/")
    found = server.manifests.find("ConfigMap", name, server.container.pod.owner.namespace)
    if found is not None and found.data.get("immutable") is True:
        yield Finding(
            "models-immutable",
            models_file.where,
            "immutable",
            "false",
            "true",
            "No rollout can change it, and the kubelet does not look at it again.",
            "Remove it.",
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
