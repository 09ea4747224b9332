"""Images: which build runs is written down, and can be pulled."""

from __future__ import annotations

import re
from collections.abc import Iterator

from serving.check._data import dig, items, text
from serving.check._manifests import Finding, Manifests

__all__ = ["PIN", "check", "named"]

_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"(?:[a-zA-Z0-9.-]+(?::\d+)?/)?{_PART}(?:/{_PART})*"
    r"(?::(?P<tag>[\w][\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?",
    re.ASCII,
)
PIN = "`docker buildx imagetools inspect IMAGE:TAG --format '{{.Manifest.Digest}}'` shows the digest; write it into "
PIN += '`images` of the overlay\'s kustomization.yaml (k8s/RUNBOOK.md, "Set up").'


def named(manifests: Manifests) -> Iterator[tuple[str, str, str, str]]:
    """Every image: its object, field, name, and when it is pulled."""
    for pod in manifests.pods:
        for container in pod.containers():
            policy = text(container.data.get("imagePullPolicy"))
            yield container.object, f"{container.path}.image", text(container.data.get("image")), policy
        for volume in items(pod.spec.get("volumes")):
            reference, policy = dig(volume, "image", "reference"), text(dig(volume, "image", "pullPolicy"))
            if reference is not None:
                field = f"{pod.path}.volumes[{volume.get('name')}].image.reference"
                yield str(pod.owner), field, text(reference), policy


def check(manifests: Manifests) -> Iterator[Finding]:
    for owner, field, image, policy in named(manifests):
        match = _IMAGE.fullmatch(image)
        if match is None:
            expected = "REGISTRY/NAME@sha256:DIGEST, in lower case, the digest of 64 digits"
            why = "InvalidImageName: no pod starts."
            yield Finding("image-name", owner, field, expected, repr(image), why, "Correct the name. " + PIN)
            continue
        tag, digest, (host, slash, _) = match["tag"], match["digest"], image.partition("/")
        remote = bool(slash) and ("." in host or ":" in host)
        if digest is None and (remote or tag in (None, "latest")):
            yield Finding(
                "image-tag",
                owner,
                field,
                "a digest" if remote else "a digest, or at least a tag that names a build",
                repr(image),
                "The image changes under you: two pods of one Deployment may run two builds.",
                PIN,
            )
        if policy == "Never" and remote:
            yield Finding(
                "image-pull",
                owner,
                field.replace("image.reference", "image.pullPolicy").replace(".image", ".imagePullPolicy"),
                "IfNotPresent, for an image of a registry",
                "Never",
                "ErrImageNeverPull on every node that does not happen to have it.",
                "Write IfNotPresent.",
            )
