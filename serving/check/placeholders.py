"""What the overlays ship with and is nobody's: images and a storage class, to be set before an apply."""

from __future__ import annotations

import re
from collections.abc import Iterator

from serving.check._manifests import Finding, Manifests, Object
from serving.check.images import PIN, named

__all__ = ["check", "placeholders"]

_IMAGE = re.compile(r"registry\.example\.com|@sha256:0{64}$")
_CLASS = "shared-files"


def placeholders(manifests: Manifests) -> list[str]:
    """The placeholders of a set, each once."""
    found = {image for *_, image, _ in named(manifests) if _IMAGE.search(image)}
    return [*sorted(found), *(["storageClassName " + _CLASS] if any(_claims(manifests)) else [])]


def _claims(manifests: Manifests) -> Iterator[Object]:
    made = any(found.name == _CLASS for found in manifests.of("StorageClass"))
    for claim in manifests.of("PersistentVolumeClaim"):
        external = manifests.external("StorageClass", _CLASS)
        if claim.spec.get("storageClassName") == _CLASS and not (made or external):
            yield claim


def check(manifests: Manifests) -> Iterator[Finding]:
    """What nobody can apply as it is."""
    for owner, field, image, _ in named(manifests):
        if _IMAGE.search(image):
            why = "There is no such image: ImagePullBackOff."
            yield Finding("placeholder", owner, field, "your image, by its digest", repr(image), why, PIN)
    for claim in _claims(manifests):
        yield Finding(
            "placeholder",
            str(claim),
            "spec.storageClassName",
            "a class of your cluster that many nodes can mount",
            repr(_CLASS),
            "It is the overlay's example: without such a class the claim and all pods stay Pending.",
            "`kubectl get storageclass` shows yours; write it into the patch of the overlay's kustomization.yaml. If "
            "yours has this very name, annotate the claim with duoserve.dev/external: StorageClass/shared-files.",
        )
