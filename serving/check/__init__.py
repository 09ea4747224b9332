"""The doctor: mistakes in manifests and serving config that schema tools do not find.

    from serving.check import check, load
    for finding in check(load("k8s/overlays/production")):
        print(finding)

`findings` defines rules and findings, `manifests` reads, `rules` has them by topic; RULES.md lists them.
Needs no cluster and no TensorFlow.
"""

from collections.abc import Collection, Iterable

from serving.check.findings import RULES, Finding, Rule, finding
from serving.check.manifests.files import local_file
from serving.check.manifests.load import LoadError, load, parse
from serving.check.manifests.objects import IGNORE, Manifests
from serving.check.manifests.servers import servers
from serving.check.rules.cluster import network, references, services
from serving.check.rules.operations import contents, monitoring, rollout
from serving.check.rules.server import commands, configs, flags, lifecycle
from serving.check.rules.workloads import deployments, images, resources, scaling, security, store

__all__ = ["RULES", "Finding", "LoadError", "Manifests", "Rule", "check", "load", "parse"]

_RULES = (references, services, network, scaling, deployments, lifecycle, flags, configs, contents, monitoring, store,
          commands, rollout, security, images, resources)  # fmt: skip


def check(
    manifests: Manifests,
    *,
    for_apply: bool = False,
    warmed_up: Iterable[int] = configs.WARMED_UP,
    client_batch: int | None = None,
    kubernetes: str | None = None,
    ignore: Collection[str] = (),
    with_ignored: bool = False,
) -> list[Finding]:
    """Every finding, in the order of the families; none for clean manifests.

    Args:
        manifests: One rendering.
        for_apply: Also refuse the placeholders that the overlays ship with.
        warmed_up: Batch sizes that the exports warm up.
        client_batch: Most rows that clients send in one request, when known.
        kubernetes: The version whose schemas apply, as "1.34"; None for the newest.
        ignore: Ids of rules to leave out.
        with_ignored: Also the findings that an annotation silences, with its reason in `ignored`.
    """
    from serving.check.rules import api  # jsonschema takes half of the start of --help

    found = [*api.check(manifests, kubernetes)]
    for rules in _RULES:
        found += rules.check(manifests)
    found += configs.check_batching(manifests, tuple(warmed_up), client_batch)
    found += images.check_placeholders(manifests) if for_apply else ()
    for each in manifests.objects:
        for name, reason in each.annotations.items():  # those that silence no rule
            rule = str(name).removeprefix(IGNORE)
            if rule != name and (rule not in RULES or not str(reason or "").strip()):
                found.append(finding("ignore-annotation", each, f"metadata.annotations[{name}]", repr(reason)))
    if not servers(manifests) and manifests.objects:
        found.append(finding("no-server", local_file("manifests", None, "kind"), "", "none"))
    counted = (each for each in found if each.rule not in ignore and (with_ignored or each.ignored is None))
    return list(dict.fromkeys(counted))
