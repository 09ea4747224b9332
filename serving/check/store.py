"""The model store: export jobs write what the servers read, in one volume, one folder and under one name."""

from __future__ import annotations

import dataclasses
import posixpath
from collections.abc import Iterator
from typing import Any

from serving.check._data import dig, integer, mapping, strings, text
from serving.check._exports import Export, exports
from serving.check._files import inside, mount_of
from serving.check._manifests import Container, Finding, Manifests, Object, Pod
from serving.check._server import Server, servers
from serving.check.tools import module

__all__ = ["check"]

_WAITS = "The servers wait for a version that never comes, with closed ports."


def check(manifests: Manifests) -> Iterator[Finding]:
    found = list(exports(manifests))
    for export in found:
        yield from _export(manifests, export)
    exporting = {export.container.pod for export in found}
    for claim in manifests.of("PersistentVolumeClaim"):
        pods = _mounting(manifests, claim)
        yield from _access(manifests, claim, pods)
        yield from _read_only(claim, pods, exporting)
        yield from _block(claim, pods)


@dataclasses.dataclass(frozen=True, slots=True)
class _Place:
    """A folder of a container, as its volume sees it.

    Attributes:
        mount: The mount; empty outside of every mount.
        volume: The pod's volume.
        claim: The name of its claim; "" for another volume.
        folder: Where in the volume; None where it can't be told.
    """

    mount: dict[str, Any]
    volume: dict[str, Any]
    claim: str
    folder: str | None


def _place(container: Container, path: str) -> _Place:
    mount = mount_of(container, path)
    if mount is None:
        return _Place({}, {}, "", None)
    name = text(mount.get("name"))
    volume = mapping(container.pod.volumes.get(name))
    claim = text(dig(volume, "persistentVolumeClaim", "claimName"))
    if name in container.pod.claim_templates:
        claim = f"{name} of each pod"
    return _Place(mount, volume, claim, inside(mount, path))


def _export(manifests: Manifests, export: Export) -> Iterator[Finding]:
    container = export.container
    serving = [s for s in servers(manifests) if s.container.pod.owner.namespace == container.pod.owner.namespace]
    names = {name for server in serving for name in server.names()}
    if export.model and names and export.model not in names:
        yield Finding(
            "export-model",
            export.where,
            export.field,
            f"a model that the servers have ({', '.join(sorted(names))})",
            repr(export.model),
            f"It publishes beside the model that models.config names. {_WAITS}",
            "Make --name of the export and `name` of models.config the same.",
        )
    if not export.store.startswith("/"):
        return
    place = _place(container, export.store)
    if not place.claim and (not place.volume or "emptyDir" in place.volume):
        shown = "no mount" if not place.volume else f"the emptyDir {place.volume.get('name')!r}"
        mounts = ", ".join(text(mount.get("mountPath")) for mount in container.mounts) or "none"
        yield Finding(
            "export-store",
            container.object,
            f"{container.path}.volumeMounts",
            f"a mount of the store at {export.store}, where {export.where} publishes",
            f"{shown} (mounts: {mounts})",
            f"The version goes with the pod, or can't be written at all. {_WAITS}",
            "Mount the claim of the servers there.",
        )
        return
    yield from _writable(export, place)
    yield from _user(serving, export)
    yield from _same(serving, export, place)


def _writable(export: Export, place: _Place) -> Iterator[Finding]:
    name = place.mount.get("name")
    at = {
        f"{export.container.path}.volumeMounts[{name}].readOnly": place.mount,
        f"{export.container.pod.path}.volumes[{name}].persistentVolumeClaim.readOnly": mapping(
            place.volume.get("persistentVolumeClaim")
        ),
    }
    for field, data in at.items():
        if data.get("readOnly") is True:
            yield Finding(
                "claim-writer",
                export.container.object,
                field,
                f"false, since the job publishes into {export.store}",
                "true",
                f"The export fails after its training. {_WAITS}",
                "Remove it: the servers alone mount the store read-only.",
            )


def _user(serving: list[Server], export: Export) -> Iterator[Finding]:
    pod = export.container.pod
    context = mapping(pod.spec.get("securityContext"))
    if context.get("fsGroup") is not None or context.get("supplementalGroups"):
        return
    user = _runs_as(export.container)
    others = {_runs_as(server.container) for server in serving} - {None}
    if user and others and user not in others:
        yield Finding(
            "export-user",
            export.container.object,
            f"{pod.path}.securityContext.fsGroup",
            "the group that owns the store, as the servers' pods have it",
            f"none, with user {user} (the servers: {', '.join(map(str, sorted(filter(None, others))))})",
            f"A volume belongs to root or to another user: Permission denied. {_WAITS}",
            "Set fsGroup.",
        )


def _runs_as(container: Container) -> int | None:
    inner = integer(dig(container.data, "securityContext", "runAsUser"))
    return inner if inner is not None else integer(dig(container.pod.spec, "securityContext", "runAsUser"))


def _same(serving: list[Server], export: Export, place: _Place) -> Iterator[Finding]:
    """Whether a server reads the folder that the export writes."""
    read = [
        (server, _place(server.container, model.base_path))
        for server in serving
        for model in server.models()
        if model.name == export.model
    ]
    read = [(server, found) for server, found in read if found.claim]
    if not read or place.folder is None or any(found.folder is None for _, found in read):
        return
    folder = posixpath.normpath(posixpath.join(place.folder, export.model))
    if any((found.claim, found.folder) == (place.claim, folder) for _, found in read):
        return
    server, found = read[0]
    yield Finding(
        "export-folder",
        export.container.object,
        f"{export.container.path}.volumeMounts[{place.mount.get('name')}]",
        f"{found.folder} of the claim {found.claim!r}, which {server.object} reads for {export.model!r}",
        f"{folder} of {place.claim or place.mount.get('name')!r}",
        f"The export publishes where no server looks. {_WAITS}",
        "Make claim, subPath and mountPath of both the same, and base_path the store and the model's name.",
    )


def _mounting(manifests: Manifests, claim: Object) -> list[tuple[Pod, bool]]:
    """The pods that mount a claim, and whether they write to it."""
    found = []
    for pod in manifests.pods_of(claim.namespace):
        for name, volume in pod.volumes.items():
            reference = mapping(volume.get("persistentVolumeClaim"))
            if reference.get("claimName") == claim.name:
                mounts = [m for c in pod.containers() for m in c.mounts if m.get("name") == name]
                writes = reference.get("readOnly") is not True and any(m.get("readOnly") is not True for m in mounts)
                found.append((pod, writes))
    return found


def _read_only(claim: Object, pods: list[tuple[Pod, bool]], exporting: set[Pod]) -> Iterator[Finding]:
    """A store that is to be filled by a job, which can't; a job of a program that is not ours may be the one."""
    reads = {c.pod for pod, _ in pods for c in pod.containers() if module(c)[0] == "serving.rollout"}
    jobs = [(pod, writes) for pod, writes in pods if not pod.runs_for_ever and pod not in reads]
    never = strings(claim.spec.get("accessModes")) == ["ReadOnlyMany"]
    said = any(pod in exporting for pod, _ in jobs)
    if jobs and (never or not (said or any(writes for _, writes in jobs))):
        yield Finding(
            "claim-writer",
            str(claim) if never else str(jobs[0][0].owner),
            "spec.accessModes" if never else f"{jobs[0][0].path}.volumes",
            "the job that fills the store to mount it for writing",
            "ReadOnlyMany" if never else "readOnly: true in every job",
            f"The export fails. {_WAITS}",
            "Let the job alone write.",
        )


def _access(manifests: Manifests, claim: Object, pods: list[tuple[Pod, bool]]) -> Iterator[Finding]:
    """A disk of one node for pods on many."""
    if strings(claim.spec.get("accessModes")) not in (["ReadWriteOnce"], ["ReadWriteOncePod"]):
        return
    if dig(claim.data, "metadata", "annotations", "duoserve.dev/single-node") == "true":
        return
    serving = {server.container.pod for server in servers(manifests)}
    if any(pod in serving for pod, _ in pods):
        yield Finding(
            "claim-access",
            str(claim),
            "spec.accessModes",
            "ReadWriteMany or ReadOnlyMany, since the servers are spread over nodes",
            str(claim.spec["accessModes"]),
            "Servers on a second node stay in ContainerCreating.",
            "Take a class that many nodes can mount, or image volumes; on a one-node cluster annotate the claim "
            'with duoserve.dev/single-node: "true".',
        )


def _block(claim: Object, pods: list[tuple[Pod, bool]]) -> Iterator[Finding]:
    """A device where a folder is mounted."""
    if claim.spec.get("volumeMode") == "Block" and pods:
        yield Finding(
            "claim-block",
            str(claim),
            "spec.volumeMode",
            f"Filesystem, since {pods[0][0].owner} mounts it as a folder",
            "Block",
            "The kubelet mounts no device under volumeMounts: the pods stay in ContainerCreating.",
            "Remove it.",
        )
