"""The command line: status, plan, canary, promote, rollback, retire, run, history."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from duoserve.console import put
from serving.rollout.command import Outcome
from serving.rollout.errors import Refused, RolloutError, Stopped
from serving.rollout.interrupts import Terminated, sigterm_interrupts
from serving.rollout.reporter import ConsoleReporter
from serving.rollout.rollout import Rollout
from serving.rollout.settings import read_settings
from serving.rollout.tables import history_lines, status_json, status_lines

__all__ = ["main"]

_DEFAULT = Path("rollout.toml")
_OUT_OF_SYNC = 6
_INTERRUPTED = (
    "interrupted; nothing is rolled back: `status` shows the state, the same command continues, `rollback` undoes"
)

_EPILOG = """\
a version goes to production:
  python -m serving.rollout plan 8          what would be edited
  python -m serving.rollout run 8           everything, with a rollback if 8 is worse; or step by step:
  python -m serving.rollout canary 8        load, check, move the canary label
  python -m serving.rollout promote         watch, check again, move the stable label, watch
  python -m serving.rollout retire 7        unload the old one, days later
  python -m serving.rollout rollback        at any time: one edit makes 7 stable again

Every command can be run again after an interruption: it continues from the state of the
file and the replicas. The settings are explained in serving/config/rollout.toml.

exit codes: 0 done; 1 an error; 2 wrong usage or settings; 3 stopped and rolled back, because
the version is worse or did not arrive; 4 refused, nothing changed; 5 another rollout is running,
or somebody edited the config; 6 the replicas are out of sync with the file; 130 interrupted,
143 by SIGTERM.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        path = options.settings or (_DEFAULT if _DEFAULT.exists() else None)
        settings = read_settings(path, _overrides(options))
        with (
            sigterm_interrupts(),
            Rollout(
                settings,
                reporter=ConsoleReporter(),
                allow_contract=getattr(options, "allow_contract_change", False),
                dry_run=getattr(options, "dry_run", False),
            ) as rollout,
        ):
            command: Callable[[Rollout, argparse.Namespace], int] = options.command
            return command(rollout, options)
    except RolloutError as error:
        return _fail(options, error)
    except KeyboardInterrupt as signal:
        if options.json:
            _print(json.dumps({"error": "Interrupted", "message": _INTERRUPTED, "findings": []}))
        put(sys.stderr, f"\n{_INTERRUPTED}\n")
        return 143 if isinstance(signal, Terminated) else 130


def _fail(options: argparse.Namespace, error: RolloutError) -> int:
    if options.json:
        facts: dict[str, Any] = {"error": type(error).__name__, "message": error.message, "findings": error.findings}
        if isinstance(error, Refused):
            facts["reason"] = error.reason
        if isinstance(error, Stopped):
            facts["step"] = error.step
        if error.undone is not None:
            facts["undone"] = error.undone
        _print(json.dumps(facts, ensure_ascii=False))
    end = ""
    if error.undone is not None:
        end = "\nthe version was rolled back" if error.undone else f"\nNOT rolled back: {error.advice}"
    put(sys.stderr, f"error: {error}{end}\n")
    return error.exit_code


def _print(text: str) -> bool:
    """Prints a result; returns whether it could. A closed pipe is not an error."""
    error = put(sys.stdout, f"{text}\n")
    if error is None or isinstance(error, BrokenPipeError):
        return True
    put(sys.stderr, f"warning: the result could not be printed: {error}\n")
    return False


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving.rollout",
        description="Takes a model version to production behind checks, and back.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    newest, current = "default: the version being rolled out", "default: the canary's version"
    _command(commands, "status", _status, "every replica: versions, labels, and whether it is in sync with the file")
    _command(commands, "plan", _plan, "the edits of a whole rollout, as diffs; changes nothing", newest)
    adopt = _command(commands, "adopt", _adopt, "name what serves, to start from the policies latest and all")
    canary = _command(commands, "canary", _change, "load a version, check it, move the canary label", "")
    promote = _command(commands, "promote", _change, "watch, check again, move the stable label, watch", current)
    run = _command(commands, "run", _change, "canary and promote, unattended", "")
    summary = "roll a version back in one edit, in any state of the replicas"
    back = _command(commands, "rollback", _change, summary, f"{newest}, or else the stable one")
    retire = _command(commands, "retire", _change, "unload an old version that no label uses", "")
    history = _command(commands, "history", _history, "who did what, when, and with which figures")
    history.add_argument("--last", type=_version, metavar="N", help="only the newest N entries")
    for changing in (adopt, canary, promote, run, back, retire):
        changing.add_argument("--dry-run", action="store_true", help="check and show the edits, change nothing")
    for forward in (canary, promote, run):
        forward.add_argument(
            "--allow-contract-change", action="store_true", help="continue although clients may not be able to follow"
        )
    return parser


def _command(
    commands: Any,
    name: str,
    function: Callable[[Rollout, argparse.Namespace], int],
    summary: str,
    version: str | None = None,
) -> argparse.ArgumentParser:
    """A command.

    Args:
        commands: Where it is added.
        name: Name of the command, and of the method of `Rollout` that `_change` calls.
        function: Runs it.
        summary: For the help.
        version: None: it takes no version; empty: it needs one; else the help of an optional one.
    """
    parser: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=summary.capitalize() + ".")
    parser.set_defaults(command=function, name=name)
    if version is not None:
        parser.add_argument("version", type=_version, nargs="?" if version else None, help=version or None)
    add = parser.add_argument_group("settings, in place of the file's").add_argument
    add("--settings", type=Path, metavar="TOML", help="settings file (default: rollout.toml, if it is here)")
    add("--model", help="the model's name")
    add("--config", metavar="PLACE", help="path of models.config, or configmap:NAMESPACE/NAME[/KEY]")
    add(
        "--replica",
        action="append",
        metavar="WHERE",
        help="HOST:PORT, dns:NAME:PORT or pods:NAMESPACE/SELECTOR:PORT; may be repeated",
    )
    add("--store", metavar="FOLDER", help="root of the model store")
    add("--context", metavar="NAME", help="kubeconfig context")
    parser.add_argument(
        "--json", action="store_true", help="print the outcome as one JSON object; progress is on stderr"
    )
    return parser


def _overrides(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "model": options.model,
        "config": options.config,
        "replicas": options.replica,
        "store": None if options.store is None else Path(options.store).absolute(),
        "context": options.context,
    }


def _version(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, received {text!r}")
    return int(text)


def _status(rollout: Rollout, options: argparse.Namespace) -> int:
    state, views, found = rollout.status()
    printed = _print(
        json.dumps(status_json(state, views, found)) if options.json else "\n".join(status_lines(state, views, found))
    )
    return _OUT_OF_SYNC if found or not views else int(not printed)


def _plan(rollout: Rollout, options: argparse.Namespace) -> int:
    edits = rollout.plan(options.version)
    if options.json:
        text = json.dumps({"edits": [{"step": step, "diff": diff} for step, diff in edits]}, ensure_ascii=False)
    else:
        text = _shown(edits) or "no edit to make: the version is stable"
    return int(not _print(text))


def _adopt(rollout: Rollout, options: argparse.Namespace) -> int:
    return _done(rollout.adopt(), options)


def _change(rollout: Rollout, options: argparse.Namespace) -> int:
    return _done(getattr(rollout, options.name)(options.version), options)


def _history(rollout: Rollout, options: argparse.Namespace) -> int:
    records = rollout.history()[-(options.last or 0) :]
    text = json.dumps(records, ensure_ascii=False) if options.json else "\n".join(history_lines(records))
    return int(not _print(text))


def _done(outcome: Outcome, options: argparse.Namespace) -> int:
    if options.json:
        record = {
            "outcome": outcome.text,
            "dry_run": outcome.dry_run,
            "edits": [{"step": step, "diff": diff} for step, diff in outcome.edits],
            "checks": [check.as_json() for check in outcome.checks],
            "warnings": outcome.warnings,
        }
        _print(json.dumps(record, ensure_ascii=False))
        return 0
    for warning in outcome.warnings:
        put(sys.stderr, f"warning: {warning}\n")
    edits = f"{_shown(outcome.edits)}\n" if outcome.dry_run and outcome.edits else ""
    _print(f"{edits}{outcome.text}")
    return 0


def _shown(edits: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"# {number}. {step}\n{diff}" for number, (step, diff) in enumerate(edits, 1)).rstrip()
