"""The model store: export jobs write to the volume, folder and name that the servers read."""

import dataclasses
import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

from serving.check.findings import Finding, Place, finding
from serving.check.manifests import programs
from serving.check.manifests.files import location_in_volume, mount_of
from serving.check.manifests.objects import Container, Manifests, Object, Pod
from serving.check.manifests.servers import Server, servers
from serving.check.manifests.values import dig, integer, mapping, strings, text


@dataclasses.dataclass(frozen=True, slots=True)
class _Export:
    """One export that a job runs, and where its options are written; "" is what can't be known."""

    container: Container
    store: str
    model: str
    written: Place


@dataclasses.dataclass(frozen=True, slots=True)
class _Location:
    """A folder of a container: its mount, the volume, the claim, and the place in it; empty or None where unknown."""

    mount: dict[str, Any]
    volume: dict[str, Any]
    claim: str
    folder: str | None


def check(manifests: Manifests) -> Iterator[Finding]:
    exports = list(_exports(manifests))
    for export in exports:
        yield from _export(manifests, export)
    exporting = {export.container.pod for export in exports}
    for claim in manifests.of("PersistentVolumeClaim"):
        yield from _claim(claim, _mounting(manifests, claim), exporting)


def _exports(manifests: Manifests) -> Iterator[_Export]:
    """The exports of all jobs, from their command line or script."""
    for container in [c for c in manifests.containers() if not c.pod.is_service]:
        name, arguments = programs.python_module(container)
        if name == "export" and arguments[:1] == ["export"]:
            yield _read(container, arguments, {}, container)
        file = programs.script(container)
        content = file.text if file else None
        for words in programs.commands(content or ""):
            at = words.index("-m") + 1 if "-m" in words else 0
            if file and content and at and words[at : at + 2] == ["export", "export"]:
                yield _read(container, words[at + 1 :], programs.assigned(content, container), file)


def _read(container: Container, words: list[str], values: Mapping[str, str], written: Place) -> _Export:
    given = programs.options(words, "--store", "--name")
    store, name = (programs.filled(value, values) or "" for value in given.values())
    return _Export(container, store, name, written)


def _locate(container: Container, path: str) -> _Location:
    mount = mount_of(container, path)
    if mount is None:
        return _Location({}, {}, "", None)
    name = text(mount, "name")
    volume = mapping(container.pod.volumes.get(name))
    each = f"{name} of each pod" if name in container.pod.claim_templates else ""
    claim = each or text(volume, "persistentVolumeClaim.claimName")
    return _Location(mount, volume, claim, location_in_volume(mount, path))


def _export(manifests: Manifests, export: _Export) -> Iterator[Finding]:
    container = export.container
    serving = [server for server in servers(manifests) if server.pod.namespace == container.pod.namespace]
    names = {name for server in serving for name in server.names()}
    if export.model and names and export.model not in names:
        field = "args" if export.written is container else ""
        yield finding("export-model", export.written, field, repr(export.model), known=names)
    if not export.store.startswith("/"):
        return
    location = _locate(container, export.store)
    if not location.claim and (not location.volume or "emptyDir" in location.volume):
        shown = f"the emptyDir {location.volume.get('name')!r}" if location.volume else "no mount"
        values = {"store": export.store, "written": export.written.object, "mounts": container.folders.keys()}
        yield finding("export-store", container, "volumeMounts", shown, **values)
        return
    name = location.mount.get("name")
    if location.mount.get("readOnly") is True:
        yield finding("claim-writer", container, f"volumeMounts[{name}].readOnly", True)
    if dig(location.volume, "persistentVolumeClaim.readOnly") is True:
        yield finding("claim-writer", container.pod, f"volumes[{name}].persistentVolumeClaim.readOnly", True)
    yield from _user(serving, export)
    yield from _same_folder(serving, export, location)


def _user(serving: list[Server], export: _Export) -> Iterator[Finding]:
    context, others = export.container.security, {integer(server.security, "runAsUser") for server in serving} - {None}
    owns, user = context.get("fsGroup") is not None or context.get("supplementalGroups"), integer(context, "runAsUser")
    if not owns and user and others and user not in others:
        shown = f"none, with user {user}"
        yield finding("export-user", export.container.pod, "securityContext.fsGroup", shown, users=others)


def _same_folder(serving: list[Server], export: _Export, location: _Location) -> Iterator[Finding]:
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
        shown = f"{folder} of {location.claim or name!r}"
        yield finding("export-folder", export.container, f"volumeMounts[{name}]", shown, **values)


def _mounting(manifests: Manifests, claim: Object) -> dict[Pod, bool]:
    """The pods that mount a claim, and whether they write to it."""
    found = {}
    for pod in manifests.pods_of(claim.namespace):
        for name, volume in pod.volumes.items():
            reference = mapping(volume, "persistentVolumeClaim")
            if reference.get("claimName") == claim.name:
                mounts = [m for c in pod.containers() for m in c.mounts if m.get("name") == name]
                writing = [mount for mount in mounts if mount.get("readOnly") is not True]
                found[pod] = reference.get("readOnly") is not True and bool(writing)
    return found


def _claim(claim: Object, pods: dict[Pod, bool], exporting: set[Pod]) -> Iterator[Finding]:
    modes = strings(claim.spec, "accessModes")
    # A disk of a single node, for pods on several nodes.
    one_node = claim.annotations.get("duoserve.dev/single-node") == "true"
    many = any(servers(pod) and pod.object.kind != "Pod" for pod in pods)
    if many and modes in (["ReadWriteOnce"], ["ReadWriteOncePod"]) and not one_node:
        yield finding("claim-access", claim, "spec.accessModes", modes)
    # A store that no job can fill, unless a job of another program does.
    reads = {c.pod for pod in pods for c in pod.containers() if programs.python_module(c)[0] == "serving.rollout"}
    jobs = [pod for pod in pods if not pod.is_service and pod not in reads]
    if jobs and modes == ["ReadOnlyMany"]:
        yield finding("claim-writer", claim, "spec.accessModes", "ReadOnlyMany")
    elif jobs and not any(pods[pod] or pod in exporting for pod in jobs):
        yield finding("claim-writer", jobs[0], "volumes", "readOnly: true in every job")
    if pods and claim.spec.get("volumeMode") == "Block":
        yield finding("claim-block", claim, "spec.volumeMode", "Block", object=next(iter(pods)).object)
