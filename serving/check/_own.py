"""Which pods are Duoserve's own: rules about what it needs say nothing about a neighbour."""

from __future__ import annotations

from serving.check._manifests import Container, Manifests, Pod
from serving.check._server import servers
from serving.check.tools import COMMANDS, module

__all__ = ["own_container", "own_pod"]


def own_container(manifests: Manifests, container: Container) -> bool:
    """The model server, a command of this repository, or an image of its name."""
    image = str(container.data.get("image", "")).partition("@")[0].rpartition("/")[2]
    serves = any(server.container.path == container.path for server in servers(manifests, container.pod))
    return serves or module(container)[0] in COMMANDS or image.startswith("duoserve")


def own_pod(manifests: Manifests, pod: Pod) -> bool:
    """By its label, or by a container. The label duoserve.dev/client is a caller's."""
    named = pod.labels.get("app.kubernetes.io/name") == "duoserve" or "duoserve.dev/track" in pod.labels
    return named or any(own_container(manifests, container) for container in pod.containers())
