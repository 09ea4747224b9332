"""Files that a container has from a ConfigMap, and scripts that its command names."""

from __future__ import annotations

import dataclasses
import posixpath
from collections.abc import Iterator
from typing import Any

from serving.check._data import dig, items, mapping, text
from serving.check._manifests import Container, Manifests

__all__ = ["ConfigFile", "inside", "mount_of", "mounted", "script"]

_SHELLS = ("sh", "bash", "dash", "ash")


@dataclasses.dataclass(frozen=True, slots=True)
class ConfigFile:
    """A file that a flag or a command names.

    Attributes:
        path: In the container.
        text: Its content; None when it is not among the manifests.
        where: "ConfigMap/name", or the path.
        field: Its key there.
    """

    path: str
    text: str | None
    where: str
    field: str


def mount_of(container: Container, path: str) -> dict[str, Any] | None:
    """The mount that a path is in: the deepest one."""
    above = [mount for mount in container.mounts if _beneath(path, text(mount.get("mountPath")))]
    return max(above, key=lambda mount: len(text(mount.get("mountPath")).rstrip("/")), default=None)


def _beneath(path: str, folder: str) -> bool:
    base = folder.rstrip("/")
    return bool(base) and (path.rstrip("/") == base or path.startswith(base + "/"))


def inside(mount: dict[str, Any], path: str) -> str | None:
    """Where a path of the container is in the mounted volume, as "folder/file"; None where it can't be told."""
    if mount.get("subPathExpr"):
        return None
    below = posixpath.relpath(path, text(mount.get("mountPath")))
    return posixpath.normpath(posixpath.join(text(mount.get("subPath")), below))


def mounted(manifests: Manifests, container: Container, path: str) -> ConfigFile | None:
    """The file at a path that a ConfigMap is mounted over; None when none is."""
    mount = mount_of(container, path)
    sources = list(_sources(mapping(container.pod.volumes.get(text(mount.get("name")))))) if mount else []
    if mount is None or not sources:
        return None
    part = text(mount.get("subPath")) or text(mount.get("subPathExpr"))
    written = part or posixpath.relpath(path, text(mount.get("mountPath")))
    first = None
    for source in sources:
        name, key, chosen = text(source.get("name")), written, items(source.get("items"))
        if chosen:  # these and no others are there, under their own paths
            key = next((text(item.get("key")) for item in chosen if item.get("path") == written), "")
        found = manifests.find("ConfigMap", name, container.pod.owner.namespace)
        content = dig(found.data, "data", key) if found else None
        file = ConfigFile(path, content if isinstance(content, str) else None, f"ConfigMap/{name}", f"data.{key}")
        if file.text is not None:
            return file
        first = first or file
    return first


def _sources(volume: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The ConfigMaps of a volume, alone or projected."""
    for part in (volume, *items(dig(volume, "projected", "sources"))):
        source = mapping(part.get("configMap"))
        if text(source.get("name")):
            yield source


def script(manifests: Manifests, container: Container) -> ConfigFile | None:
    """The script that a command runs, from a ConfigMap or written into the command (`sh -c`)."""
    arguments = container.arguments
    program = arguments[0].rpartition("/")[2] if arguments else ""
    if program not in (*_SHELLS, "python", "python3"):
        return mounted(manifests, container, arguments[0]) if arguments and arguments[0].startswith("/") else None
    for at, argument in enumerate(arguments[1:], 1):
        if program in _SHELLS and argument.startswith("-") and argument.endswith("c") and at + 1 < len(arguments):
            return ConfigFile("-c", arguments[at + 1], container.object, f"{container.path}.command")
        if argument == "-m":
            return None
        if not argument.startswith("-"):
            return mounted(manifests, container, argument)
    return None
