"""Mistakes that the API server refuses: against Kubernetes' schemas, and the few beside them that are easily made."""

import difflib
from collections.abc import Iterator

from serving.check.findings import Finding, finding
from serving.check.manifests import schemas
from serving.check.manifests.objects import Manifests, Object
from serving.check.manifests.values import dig, mapping

_LONGEST = {"CronJob": 52, "Job": 63}
_MOST_DATA = 2**20
_GROUPS = (None, "", "rbac.authorization.k8s.io")


def check(manifests: Manifests, kubernetes: str | None) -> Iterator[Finding]:
    version = kubernetes or schemas.newest()
    groups = {api_version.rpartition("/")[0] for api_version, _ in schemas.kinds(version)}
    for found in manifests.objects:
        if found.api_version.rpartition("/")[0] not in groups:
            continue  # a custom resource: its schema is in the cluster
        if (found.api_version, found.kind) not in schemas.kinds(version):
            yield _unknown(found, version)
        for field, expected, received, fix in schemas.refusals(found.data, version):
            yield finding("schema", found, field, received, expected=expected, version=version, fix=fix)
        yield from _size(found)
        modes, group = found.spec.get("accessModes"), dig(found.data, "roleRef.apiGroup")
        if found.kind == "PersistentVolumeClaim" and not modes:
            yield finding("access-modes", found, "spec.accessModes", modes)
        if group not in _GROUPS:
            yield finding("role-group", found, "roleRef.apiGroup", repr(group))


def _unknown(found: Object, version: str) -> Finding:
    every = schemas.kinds(version)
    apis = sorted({api for api, kind in every if kind == found.kind})
    same = [kind for api, kind in every if api == found.api_version]
    near = difflib.get_close_matches(found.kind, same, 1, cutoff=0.6)
    known = " or ".join(f"{api} {found.kind}" for api in apis) or f"{near[0] if near else 'Deployment'}"
    fix = f"Write apiVersion: {apis[0]}." if apis else f"Write kind: {near[0]}." if near else "Correct the kind."
    field, shown = "apiVersion" if apis else "kind", f"{found.api_version} {found.kind}"
    return finding("unknown-kind", found, field, shown, known=known, version=version, fix=fix)


def _size(found: Object) -> Iterator[Finding]:
    longest = _LONGEST.get(found.kind, 253)
    if len(found.name) > longest:
        yield finding("api-size", found, "metadata.name", f"{len(found.name)}", most=f"{longest} characters")
    data = {**mapping(found.data, "data"), **mapping(found.data, "binaryData")}
    size = sum(len(str(value).encode(errors="replace")) for value in data.values())
    if found.kind in ("ConfigMap", "Secret") and size > _MOST_DATA:
        yield finding("api-size", found, "data", f"{size} bytes", most="1 MiB of data")
