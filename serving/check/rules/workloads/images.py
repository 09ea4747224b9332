"""Images: the build is pinned, it can be pulled, and the overlays' placeholders are replaced."""

import re
from collections.abc import Iterator

from duoserve.artifact.releases import SERVER_VERSION, too_new
from serving.check.findings import Finding, Place, finding
from serving.check.manifests.objects import Manifests
from serving.check.manifests.values import dig, text

_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"(?:[a-zA-Z0-9.-]+(?::\d+)?/)?{_PART}(?:/{_PART})*"
    r"(?::(?P<tag>[\w][\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?",
    re.ASCII,
)
_STOCK = re.compile(r"(?:(?:index\.)?docker\.io/)?tensorflow/serving:([0-9]+\.[0-9]+)")
_PLACEHOLDER = re.compile(r"registry\.example\.com|@sha256:0{64}$")
_CLASS = "shared-files"


def _images(manifests: Manifests) -> Iterator[tuple[Place, str, str, str, str]]:
    """Every image: its place, field and name, and when it is pulled, with that field."""
    for pod in manifests.pods:
        for container in pod.containers():
            image, policy = text(container.data, "image"), text(container.data, "imagePullPolicy")
            yield container, "image", image, "imagePullPolicy", policy
        for name, volume in pod.volumes.items():
            reference, at = dig(volume, "image.reference"), f"volumes[{name}].image"
            if reference is not None:
                policy = text(volume, "image.pullPolicy")
                yield pod, f"{at}.reference", text(reference), f"{at}.pullPolicy", policy


def check(manifests: Manifests) -> Iterator[Finding]:
    for place, field, image, policy_field, policy in _images(manifests):
        match = _IMAGE.fullmatch(image)
        if match is None:
            yield finding("image-name", place, field, repr(image))
            continue
        host, slash, _ = image.partition("/")
        remote = bool(slash) and ("." in host or ":" in host)
        if match["digest"] is None and (remote or match["tag"] in (None, "latest")):
            yield finding("image-tag", place, field, repr(image))
        stock = _STOCK.match(image)
        if stock is not None and too_new(SERVER_VERSION, stock[1]):
            yield finding("image-server", place, field, repr(image), version=SERVER_VERSION)
        if policy == "Never" and remote:
            yield finding("image-pull", place, policy_field, "Never")


def check_placeholders(manifests: Manifests) -> Iterator[Finding]:
    """Placeholders of the overlays, which can't be applied."""
    for place, field, image, _, _ in _images(manifests):
        if _PLACEHOLDER.search(image):
            yield finding("placeholder", place, field, image)
    made = any(found.name == _CLASS for found in manifests.of("StorageClass"))
    for claim in [] if made or manifests.external("StorageClass", _CLASS) else manifests.of("PersistentVolumeClaim"):
        if claim.spec.get("storageClassName") == _CLASS:
            yield finding("placeholder-class", claim, "spec.storageClassName", _CLASS)
