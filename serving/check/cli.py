"""The command line of the doctor."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from serving.check import Finding, check
from serving.check._load import LoadError, load
from serving.check.config import WARMED_UP, batching, models

__all__ = ["main"]

_EPILOG = """\
examples:
  python -m serving.check k8s/overlays/production
  kubectl kustomize k8s/overlays/production | python -m serving.check -
  python -m serving.check --models serving/config/models.config
  python -m serving.check --for-apply --json k8s/overlays/production

exit codes: 0 nothing found, 1 findings, 2 wrong usage or unreadable input
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Checks what the command line names; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.check",
        description="Finds mistakes in Kubernetes manifests and serving config that schema tools do not see.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "source", nargs="*", help="a YAML file, a kustomize folder, or - for standard input; several count as one set"
    )
    parser.add_argument("--models", type=Path, action="append", default=[], metavar="FILE", help="also a models.config")
    parser.add_argument(
        "--batching", type=Path, action="append", default=[], metavar="FILE", help="also a batching.config"
    )
    parser.add_argument("--for-apply", action="store_true", help="also refuse images that are still placeholders")
    parser.add_argument(
        "--warmup-sizes", type=_sizes, default=WARMED_UP, metavar="N,N", help="batch sizes that exports warm up"
    )
    parser.add_argument("--client-batch", type=int, metavar="N", help="most rows that clients send in one request")
    parser.add_argument("--json", action="store_true", help="print the findings as a JSON list")
    options = parser.parse_args(arguments)
    if not (options.source or options.models or options.batching):
        parser.error("expected a source, --models or --batching")
    try:
        found = _findings(options)
    except (LoadError, OSError, UnicodeDecodeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps([dataclasses.asdict(finding) for finding in found], indent=2, ensure_ascii=False))
    else:
        for finding in found:
            print(f"{finding}\n")
        print(f"{len(found)} finding{'' if len(found) == 1 else 's'}" if found else "nothing found")
    return 1 if found else 0


def _findings(options: argparse.Namespace) -> list[Finding]:
    found: list[Finding] = []
    if options.source:
        manifests = load(options.source[0])
        for source in options.source[1:]:
            more = load(source)
            manifests.objects += more.objects
            manifests.pods += more.pods
        found += check(
            manifests,
            for_apply=options.for_apply,
            warmed_up=options.warmup_sizes,
            client_batch=options.client_batch,
        )
    for path in options.models:
        found += models(path.read_text(encoding="utf-8"), str(path), "line")
    for path in options.batching:
        found += batching(
            path.read_text(encoding="utf-8"), str(path), "line", options.warmup_sizes, options.client_batch, None
        )
    return found


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected numbers with commas, received {text!r}") from error
