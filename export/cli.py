"""The command line: data, train, compare, export, check, list, prune.

Exit codes: 0 done, 1 refused (bad data, a gate that did not pass, a store that can't be
written), 2 wrong usage, 130 interrupted, 141 stdout was closed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from duoserve.arguments import count, positive, sizes
from duoserve.artifact.releases import SERVER_VERSION
from duoserve.console import guarded, say
from export.defaults import BATCH_SIZES, WEIGHTS
from export.options import add_command, add_json, release
from export.own.settings import add_arguments, own_model
from export.selection.cli import add_compare
from export.training.cli import add_train

if TYPE_CHECKING:
    from export.publish.gate import CheckResult

_EPILOG = """\
the whole path, on the demo data:
  python -m export data build/data
  python -m export train build/data --out build/run
  python -m export export build/run --name emoji --store build/models
  python -m serving.local --model_name=emoji --model_base_path=$PWD/build/models/emoji
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    return guarded(lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    # What the commands need takes seconds to import, and --help must not.
    from duoserve.artifact.signing import SigningError
    from export.dataset.emoji import EmojiDataError
    from export.dataset.rows import DataError
    from export.errors import ExportError, StoreError
    from export.training.tokenizer import TokenizerError

    try:
        command: Callable[[argparse.Namespace], int] = options.command
        return command(options)
    except (DataError, EmojiDataError, ExportError, SigningError, StoreError, TokenizerError) as error:
        return _failed(error, str(error), options)
    except OSError as error:
        where = error.filename or "the disk"
        message = f"Expected {where} to be read and written. Received: {error.strerror or error}"
        return _failed(error, message, options)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130


def _failed(error: Exception, message: str, options: argparse.Namespace) -> int:
    if options.json:
        findings = {"findings": error.findings} if hasattr(error, "findings") else {}
        record = {"error": type(error).__name__, "message": message, **findings}
        say(json.dumps(record, ensure_ascii=False))
    print(f"error: {message}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m export",
        description="Trains a two-input model (image + text) and publishes it as versions for TensorFlow Serving.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    data = add_command(commands, "data", _data, "make the demo data: emoji as images, their names, their groups")
    data.add_argument("folder", type=Path, help="folder for images/ and manifest.csv")

    add_train(commands)
    add_compare(commands)

    export = add_command(commands, "export", _export, "check a trained model and publish it as the next version")
    add = export.add_argument
    add("run", type=Path, nargs="?", metavar="RUN", help="the folder that `train --out` wrote")
    add("--name", required=True, help="the model's name, which clients ask for")
    _add_store(export)
    add("--version", type=positive, metavar="N", help="default: the next free number")
    default = ",".join(map(str, BATCH_SIZES))
    said = f"sizes to warm up: the server's allowed_batch_sizes (default: {default})"
    add("--batch-sizes", type=sizes, metavar="N,N", default=BATCH_SIZES, help=said)
    add("--explain", action="store_true", help="add the signature `explain`: which parts of the input decided")
    said = "how to store them; the cost is measured (default: %(default)s; see export/LARGE.md)"
    add("--weights-as", choices=WEIGHTS, default="float32", help=said)
    said = "for servers with --mixed_precision=bfloat16: measure the cost (see export/FAST.md)"
    add("--bfloat16", action="store_true", help=said)
    add("--as-is", action="store_true", help="write the layers unchanged, without graph optimisation")
    said = "measure the cost on its held-out rows (default: golden samples)"
    add("--data", type=Path, metavar="FOLDER", help=said)
    add("--sign-key", type=Path, metavar="PEM", help="sign the version with this private key (EC)")
    add("--dry-run", action="store_true", help="check everything, publish nothing")
    add_arguments(export)
    _add_server_version(export)

    check = add_command(commands, "check", _check, "run the gate on any SavedModel of the contract")
    check.add_argument("folder", type=Path, help="the folder of a version")
    said = "require that one of these keys signed it; may be repeated"
    check.add_argument("--public-key", type=Path, action="append", default=[], metavar="PEM", help=said)
    _add_server_version(check)

    listing = add_command(commands, "list", _list, "list the models and versions in a store")
    _add_store(listing)
    listing.add_argument("--name", help="this model only")

    pruning = add_command(commands, "prune", _prune, "remove old versions, never one that a models.config names")
    add = pruning.add_argument
    _add_store(pruning)
    add("--name", required=True, help="the model's name")
    said = "models.config of servers that use this store; repeat it for every environment"
    add("--config", type=Path, action="append", required=True, metavar="FILE", help=said)
    add("--keep", type=count, default=3, metavar="N", help="newest to keep (default: %(default)s)")
    add("--version", type=positive, action="append", default=[], metavar="N", help="only these")
    add("--dry-run", action="store_true", help="show what would be removed, remove nothing")

    for command in (data, export, check, listing, pruning):
        add_json(command)
    return parser


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", type=Path, default=Path("models"), help="root of all models (default: %(default)s)")


def _add_server_version(parser: argparse.ArgumentParser) -> None:
    said = "the server's TensorFlow release (default: $DUOSERVE_SERVER_VERSION, now %(default)s)"
    parser.add_argument("--server-version", metavar="X.Y", type=release, default=SERVER_VERSION, help=said)


def _data(options: argparse.Namespace) -> int:
    from export.dataset.emoji import make_emoji_dataset

    folder = make_emoji_dataset(options.folder, progress=False if options.json else None)
    _say(options, {"data": str(folder)}, f"Demo data in {folder}: emoji by OpenMoji, CC BY-SA 4.0")
    return 0


def _export(options: argparse.Namespace) -> int:
    own = own_model(options)
    if (options.run is None) == (own is None):
        options.wrong_usage("expected either RUN, the folder that `train --out` wrote, or --model and its options")
    exact = options.weights_as == "float32" and not options.bfloat16
    if options.data is not None and exact:
        options.wrong_usage("expected --data only with --weights-as float16 or int8, or --bfloat16")
    from duoserve.artifact.signing import check_private_key
    from export.publish.cost import held_out_rows
    from export.publish.explain import explained
    from export.publish.savedmodel import export_version
    from export.publish.store import ModelStore
    from export.training.run import TrainedModel

    with tempfile.TemporaryDirectory() if options.dry_run else contextlib.nullcontext(options.store) as root:
        store = ModelStore(root, options.name)
        store.check_target(options.version)  # before the work, not after it
        if options.sign_key is not None:
            check_private_key(options.sign_key)
        if own is None:
            trained = TrainedModel.load(options.run)
        else:
            from export.own.prepare import prepare

            prepared = prepare(own, progress=False if options.json else None)
            trained = prepared.trained
            for what, note in () if options.json else prepared.notes:
                say(f"  {what:<8} {note}")
        measured_on = options.data if own is None else options.data or own.samples
        rows = () if exact or measured_on is None else held_out_rows(measured_on, trained.facts)
        published = export_version(
            trained.model,
            explained(trained.spec) if options.explain else trained.spec,
            trained.samples,
            store,
            version=options.version,
            batch_sizes=options.batch_sizes,
            server_version=options.server_version,
            weights=options.weights_as,
            as_is=options.as_is,
            bfloat16=options.bfloat16,
            held_out=rows,
            facts=trained.facts,
            sign_key=options.sign_key,
            progress=_progress(options),
        )
    outcome: dict[str, Any] = {"digest": published.spec.digest, "dry_run": options.dry_run}
    said = "All checks passed; a dry run publishes nothing"
    if not options.dry_run:
        outcome |= {"version": published.spec.version, "path": str(published.path)}
        said = f"Published version {published.spec.version} of {options.name}: {published.path}"
    _say(options, outcome, said)
    return 0


def _check(options: argparse.Namespace) -> int:
    from export.publish.gate import check

    results = check(
        options.folder,
        server_version=options.server_version,
        public_keys=options.public_key,
        progress=_progress(options),
    )
    passed = all(result.passed for result in results)
    checks = [{"name": each.name, "passed": each.passed, "findings": each.findings} for each in results]
    record = {"path": str(options.folder), "passed": passed, "checks": checks}
    _say(options, record, "All checks passed" if passed else "Checks failed: do not serve this version")
    return 0 if passed else 1


def _list(options: argparse.Namespace) -> int:
    from export.publish.card import list_versions, table

    rows = list_versions(options.store, options.name)
    _say(options, rows, table(rows) if rows else f"No versions in {options.store}")
    return 0


def _prune(options: argparse.Namespace) -> int:
    from export.publish.prune import judge, named_versions, prune
    from export.publish.store import ModelStore

    store = ModelStore(options.store, options.name)

    def named() -> set[int]:
        return named_versions([path.read_bytes() for path in options.config], options.name, store.versions())

    verdicts = judge(store.versions(), named(), keep=options.keep, only=options.version)
    gone = [] if options.dry_run else prune(store, verdicts, named)
    if options.json:
        records = [{"version": one.version, "remove": one.remove, "reason": one.reason} for one in verdicts]
        say(json.dumps({"versions": records, "removed": gone, "dry_run": options.dry_run}))
    else:
        for one in verdicts:
            removed = "removed" if one.version in gone else "would go" if options.dry_run and one.remove else "stays"
            say(f"  {one.version:>6}  {removed:<8}  {one.reason}")
    return 0


def _say(options: argparse.Namespace, record: object, text: str) -> None:
    say(json.dumps(record, ensure_ascii=False) if options.json else text)


def _progress(options: argparse.Namespace) -> Callable[[CheckResult], None]:
    def shown(result: CheckResult) -> None:
        say(f"  {'ok  ' if result.passed else 'FAIL'}  {result.name:<11} {result.seconds:5.1f} s  {result.note}")
        for finding in result.findings:
            say(f"        {finding}")

    return (lambda result: None) if options.json else shown
