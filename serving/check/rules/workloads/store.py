"""The model store: export jobs write to the volume, folder and name that the servers read."""

from __future__ import annotations

import dataclasses
import posixpath
from collections.abc import Iterator
from typing import Any

from serving.check.findings import Finding, finding
from serving.check.manifests.exports import Export, exports
from serving.check.manifests.files import location_in_volume, mount_of
from serving.check.manifests.objects import Container, Manifests, Object, Pod
from serving.check.manifests.programs import python_module
from serving.check.manifests.servers import Server, servers
from serving.check.manifests.values import dig, integer, mapping, strings, text

__all__ = ["check"]


def check(manifests: Manifests) -> Iterator[Finding]:
    found = list(exports(manifests))
    for export in found:
        yield from _export(manifests, export)
    exporting = {export.container.pod for export in found}
    for claim in manifests.of("PersistentVolumeClaim"):
        pods = _mounting(manifests, claim)
        yield from _access(claim, pods)
        yield from _read_only(claim, pods, exporting)
        if claim.spec.get("volumeMode") == "Block" and pods:
            yield finding("claim-block", claim, "spec.volumeMode", "Block", object=pods[0][0].object)


@dataclasses.dataclass(frozen=True, slots=True)
class _Location:
    """A folder of a container, as its volume has it.

    Attributes:
        mount: The mount; empty outside of every mount.
        volume: The pod's volume.
        claim: The name of its claim; "" for another volume.
        folder: Where in the volume; None where it can't be known.
    """

    mount: dict[str, Any]
    volume: dict[str, Any]
    claim: str
    folder: str | None


def _locate(container: Container, path: str) -> _Location:
    mount = mount_of(container, path)
    if mount is None:
        return _Location({}, {}, "", None)
    name = text(mount, "name")
    volume = mapping(container.pod.volumes.get(name))
    claim = text(volume, "persistentVolumeClaim.claimName")
    if name in container.pod.claim_templates:
        claim = f"{name} of each pod"
    return _Location(mount, volume, claim, location_in_volume(mount, path))


def _export(manifests: Manifests, export: Export) -> Iterator[Finding]:
    container = export.container
    serving = [server for server in servers(manifests) if server.pod.namespace == container.pod.namespace]
    names = {name for server in serving for name in server.names()}
    if export.model and names and export.model not in names:
        field = "args" if export.written is container else ""
        yield finding("export-model", export.written, field, repr(export.model), known=", ".join(sorted(names)))
    if not export.store.startswith("/"):
        return
    location = _locate(container, export.store)
    if not location.claim and (not location.volume or "emptyDir" in location.volume):
        shown = f"the emptyDir {location.volume.get('name')!r}" if location.volume else "no mount"
        mounts = ", ".join(text(mount, "mountPath") for mount in container.mounts) or "none"
        values = {"store": export.store, "written": export.written.object}
        yield finding("export-store", container, "volumeMounts", f"{shown} (mounts: {mounts})", **values)
        return
    name = location.mount.get("name")
    if location.mount.get("readOnly") is True:
        yield finding("claim-writer", container, f"volumeMounts[{name}].readOnly", "true")
    if dig(location.volume, "persistentVolumeClaim.readOnly") is True:
        yield finding("claim-writer", container.pod, f"volumes[{name}].persistentVolumeClaim.readOnly", "true")
    yield from _user(serving, export)
    yield from _same_folder(serving, export, location)


def _user(serving: list[Server], export: Export) -> Iterator[Finding]:
    context = mapping(export.container.pod.spec, "securityContext")
    user, others = _runs_as(export.container), {_runs_as(server) for server in serving} - {None}
    owns = context.get("fsGroup") is not None or context.get("supplementalGroups")
    if not owns and user and others and user not in others:
        shown = ", ".join(map(str, sorted(filter(None, others))))
        yield finding(
            "export-user",
            export.container.pod,
            "securityContext.fsGroup",
            f"none, with user {user} (the servers: {shown})",
        )


def _runs_as(container: Container) -> int | None:
    inner = integer(container.data, "securityContext.runAsUser")
    return inner if inner is not None else integer(container.pod.spec, "securityContext.runAsUser")


def _same_folder(serving: list[Server], export: Export, location: _Location) -> Iterator[Finding]:
    """Whether a server reads the folder that the export writes."""
    read = [
        (server, found)
        for server in serving
        for model in server.models()
        if model.name == export.model and (found := _locate(server, model.base_path)).claim
    ]
    if not read or location.folder is None or any(found.folder is None for _, found in read):
        return
    folder = posixpath.normpath(posixpath.join(location.folder, export.model))
    if not any((found.claim, found.folder) == (location.claim, folder) for _, found in read):
        server, found = read[0]
        name = location.mount.get("name")
        values = {"folder": found.folder, "claim": found.claim, "server": server.object, "model": export.model}
        yield finding(
            "export-folder",
            export.container,
            f"volumeMounts[{name}]",
            f"{folder} of {location.claim or name!r}",
            **values,
        )


def _mounting(manifests: Manifests, claim: Object) -> list[tuple[Pod, bool]]:
    """The pods that mount a claim, and whether they write to it."""
    found = []
    for pod in manifests.pods_of(claim.namespace):
        for name, volume in pod.volumes.items():
            reference = mapping(volume, "persistentVolumeClaim")
            if reference.get("claimName") == claim.name:
                mounts = [m for c in pod.containers() for m in c.mounts if m.get("name") == name]
                writes = reference.get("readOnly") is not True and any(m.get("readOnly") is not True for m in mounts)
                found.append((pod, writes))
    return found


def _read_only(claim: Object, pods: list[tuple[Pod, bool]], exporting: set[Pod]) -> Iterator[Finding]:
    """A store that no job can fill, unless a job of another program does."""
    reads = {c.pod for pod, _ in pods for c in pod.containers() if python_module(c)[0] == "serving.rollout"}
    jobs = [(pod, writes) for pod, writes in pods if not pod.is_service and pod not in reads]
    if jobs and strings(claim.spec, "accessModes") == ["ReadOnlyMany"]:
        yield finding("claim-writer", claim, "spec.accessModes", "ReadOnlyMany")
    elif jobs and not any(writes or pod in exporting for pod, writes in jobs):
        yield finding("claim-writer", jobs[0][0], "volumes", "readOnly: true in every job")


def _access(claim: Object, pods: list[tuple[Pod, bool]]) -> Iterator[Finding]:
    """A disk of a single node for pods on several nodes."""
    modes = strings(claim.spec, "accessModes")
    one_node = claim.annotations.get("duoserve.dev/single-node") == "true"
    many = any(servers(pod) and pod.object.kind != "Pod" for pod, _ in pods)
    if many and modes in (["ReadWriteOnce"], ["ReadWriteOncePod"]) and not one_node:
        yield finding("claim-access", claim, "spec.accessModes", claim.spec["accessModes"])
