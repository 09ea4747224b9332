"""Files that a container has from a ConfigMap."""

import dataclasses
import posixpath
from typing import Any

from serving.check.manifests.objects import Container, Object
from serving.check.manifests.values import items, mapping, text


@dataclasses.dataclass(frozen=True, slots=True)
class ConfigFile:
    """A file that a flag or a command names.

    Attributes:
        name: Its path in the container.
        text: Its content; None when it is not among the manifests.
        object: The ConfigMap that has it, or the file itself.
        path: Its key there, as "data.models.config".
    """

    name: str
    text: str | None
    object: Object
    path: str

    @property
    def source(self) -> str:
        """The ConfigMap's name; "" for another file."""
        return self.object.name if self.object.kind == "ConfigMap" else ""


def local_file(name: str, content: str | None, path: str = "") -> ConfigFile:
    """A file that is not in a ConfigMap, or is checked alone."""
    return ConfigFile(name, content, Object({"metadata": {"name": name}}), path)


def mount_of(container: Container, path: str) -> dict[str, Any] | None:
    """The mount that a path is in: the deepest one."""
    above = [folder for folder in container.folders if folder and f"{path}/".startswith(f"{folder}/")]
    return container.folders[max(above, key=len)] if above else None


def location_in_volume(mount: dict[str, Any], path: str) -> str | None:
    """The path inside the mounted volume, as "folder/file"; None if it can't be known."""
    if mount.get("subPathExpr"):
        return None
    below = posixpath.relpath(path, text(mount, "mountPath"))
    return posixpath.normpath(posixpath.join(text(mount, "subPath"), below))


def mounted(container: Container, path: str) -> ConfigFile | None:
    """The file at a path of a mounted ConfigMap; None elsewhere."""
    mount = mount_of(container, path)
    if mount is None:
        return None
    written = text(mount, "subPath") or text(mount, "subPathExpr") or posixpath.relpath(path, text(mount, "mountPath"))
    files = []
    for source in config_maps(container.pod.volumes.get(text(mount, "name"))):
        name, key, chosen = text(source, "name"), written, items(source, "items")
        if chosen:  # only these exist, under their own paths
            key = next((text(item, "key") for item in chosen if item.get("path") == written), "")
        found = container.pod.manifests.find("ConfigMap", name, container.pod.namespace)
        content = mapping(found.data, "data").get(key) if found else None
        missing = Object({"kind": "ConfigMap", "metadata": {"name": name}})
        files.append(ConfigFile(path, content if isinstance(content, str) else None, found or missing, f"data.{key}"))
    return next((file for file in files if file.text is not None), files[0] if files else None)


def config_maps(volume: Any) -> list[dict[str, Any]]:
    """The references to ConfigMaps in a volume, alone or projected."""
    sources = [mapping(source, "configMap") for source in [volume, *items(volume, "projected.sources")]]
    return [source for source in sources if text(source, "name")]
