"""The command line of the doctor."""

import argparse
import dataclasses
import difflib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from duoserve.arguments import positive, sizes
from duoserve.artifact.releases import ReleaseError
from duoserve.console import guarded, say
from serving.check import RULES, Finding, Manifests, catalog, check
from serving.check.manifests.files import local_file
from serving.check.manifests.load import LoadError, load, read
from serving.check.rules.server import configs
from serving.check.rules.workloads import images

_EPILOG = """\
examples:
  python -m serving.check k8s/overlays/production
  kubectl kustomize k8s/overlays/production | python -m serving.check -
  python -m serving.check --models serving/config/models.config
  python -m serving.check --for-apply --json k8s/overlays/production
  python -m serving.check --explain grace-short

What the schemas don't show of one object is left to the API server: kubectl apply --dry-run=server.
An annotation on an object silences a rule for it: duoserve.dev/ignore-RULE: "the reason".

exit codes: 0 nothing found, 1 findings, 2 wrong usage or unreadable input
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the checks of the command line; returns the exit code."""
    return guarded(lambda: _run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving.check",
        description="Finds mistakes in Kubernetes manifests and serving config.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "source", nargs="*", help="a YAML file, a kustomize folder, or - for standard input; several count as one set"
    )
    parser.add_argument("--list", action="store_true", help="print all rules and exit")
    parser.add_argument("--explain", type=_rule, metavar="RULE", help="explain a rule and exit")
    parser.add_argument(
        "--ignore", type=_rule, action="append", default=[], metavar="RULE", help="leave a rule out; may be repeated"
    )
    parser.add_argument(
        "--models", type=Path, action="append", default=[], metavar="FILE", help="also a models.config to check"
    )
    parser.add_argument(
        "--batching", type=Path, action="append", default=[], metavar="FILE", help="also a batching.config to check"
    )
    parser.add_argument(
        "--for-apply", action="store_true", help="also refuse the overlays' placeholders: images, storage class"
    )
    parser.add_argument(
        "--kubernetes",
        type=_version,
        metavar="VERSION",
        help="version of the schemas, from 1.30 on (default: the newest)",
    )
    parser.add_argument(
        "--warmup-sizes",
        type=sizes,
        default=configs.WARMED_UP,
        metavar="N,N",
        help="batch sizes that exports warm up",
    )
    parser.add_argument("--client-batch", type=positive, metavar="N", help="most rows of a client's request")
    parser.add_argument("--json", action="store_true", help="print the findings as a JSON list")
    return parser


def _run(arguments: Sequence[str] | None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.list or options.explain:
        say(catalog.explained(RULES[options.explain]) if options.explain else catalog.listed())
        return 0
    if not (options.source or options.models or options.batching):
        parser.error("expected a source, --models or --batching")
    try:
        sources = [load(source) for source in options.source]  # several count as one set
        manifests = Manifests(found.data for source in sources for found in source.objects)
        every = _findings(options, manifests)
    except (LoadError, OSError, ReleaseError, UnicodeDecodeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    shipped = set() if options.for_apply else {found.received for found in images.check_placeholders(manifests)}
    if shipped:
        print(
            f"note: placeholders: {', '.join(sorted(shipped))}. Before you apply, set your own, images by digest "
            '(k8s/RUNBOOK.md, "Set up") and check with --for-apply, which refuses these',
            file=sys.stderr,
        )
    for silenced in [finding for finding in every if finding.ignored is not None]:
        print(f"note: ignored: {silenced.rule} of {silenced.object}: {silenced.ignored}", file=sys.stderr)
    found = [finding for finding in every if finding.ignored is None]
    if options.json:
        shown = [{key: value for key, value in dataclasses.asdict(f).items() if key != "ignored"} for f in found]
        say(json.dumps(shown, indent=2, ensure_ascii=False))
    else:
        for finding in found:
            say(f"{finding}\n")
        say(f"{len(found)} finding{'' if len(found) == 1 else 's'}" if found else "nothing found")
    return 1 if found else 0


def _findings(options: argparse.Namespace, manifests: Manifests) -> list[Finding]:
    found = check(
        manifests,
        for_apply=options.for_apply,
        warmed_up=options.warmup_sizes,
        client_batch=options.client_batch,
        kubernetes=options.kubernetes,
        with_ignored=True,
    )
    for path in options.models:
        found += configs.check_models_file(local_file(str(path), read(path), "line"))
    for path in options.batching:
        file = local_file(str(path), read(path), "line")
        found += configs.check_batching_file(file, options.warmup_sizes, options.client_batch, None)
    return [finding for finding in found if finding.rule not in options.ignore]


def _rule(text: str) -> str:
    if text not in RULES:
        near = difflib.get_close_matches(text, RULES, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise argparse.ArgumentTypeError(f"expected the id of a rule (--list shows them), received {text!r}{hint}")
    return text


def _version(text: str) -> str:
    from serving.check.manifests import schemas  # jsonschema takes half of the start of --help

    if text not in schemas.versions():
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(schemas.versions())}, received {text!r}")
    return text
