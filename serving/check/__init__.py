"""The doctor: mistakes in manifests and serving config that schema tools do not see.

    from serving.check import check, load
    for finding in check(load("k8s/overlays/production")):
        print(finding)

One module a family of rules. Needs no cluster and no TensorFlow.
"""

from __future__ import annotations

from collections.abc import Iterable

from serving.check import (
    batching,
    config,
    contents,
    flags,
    handlers,
    images,
    listening,
    monitors,
    network,
    peers,
    placeholders,
    placing,
    probes,
    promql,
    quotas,
    rbac,
    references,
    resources,
    routes,
    scaling,
    security,
    selectors,
    shutdown,
    store,
    tools,
    values,
    workloads,
)
from serving.check._load import LoadError, load, parse
from serving.check._manifests import Finding, Manifests
from serving.check._server import servers

__all__ = ["Finding", "LoadError", "Manifests", "check", "load", "parse"]


def check(
    manifests: Manifests,
    *,
    for_apply: bool = False,
    warmed_up: Iterable[int] = batching.WARMED_UP,
    client_batch: int | None = None,
) -> list[Finding]:
    """Every finding, in the order of the families; none for clean manifests.

    Args:
        manifests: One rendering.
        for_apply: Also refuse the placeholders that the overlays ship with.
        warmed_up: Batch sizes that the exports warm up.
        client_batch: Most rows that clients send in one request, when known.
    """
    found = [
        *values.check(manifests),
        *references.check(manifests),
        *selectors.check(manifests),
        *network.check(manifests),
        *peers.check(manifests),
        *routes.check(manifests),
        *scaling.check(manifests),
        *workloads.check(manifests),
        *placing.check(manifests),
        *handlers.check(manifests),
        *probes.check(manifests),
        *shutdown.check(manifests),
        *flags.check(manifests),
        *listening.check(manifests),
        *config.check(manifests),
        *contents.check(manifests),
        *batching.check(manifests, tuple(warmed_up), client_batch),
        *monitors.check(manifests),
        *promql.check(manifests),
        *store.check(manifests),
        *tools.check(manifests),
        *rbac.check(manifests),
        *security.check(manifests),
        *images.check(manifests),
        *(placeholders.check(manifests) if for_apply else ()),
        *resources.check(manifests),
        *quotas.check(manifests),
    ]
    if not any(True for _ in servers(manifests)):
        found.append(
            Finding(
                "no-server",
                "manifests",
                "kind",
                "a workload that runs the model server by its flags",
                "none",
                "Nothing here could be checked against the server.",
                "Check the whole overlay, not a part of it.",
            )
        )
    return list(dict.fromkeys(found))
