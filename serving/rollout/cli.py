"""The command line: status, plan, canary, promote, rollback, retire, run, history."""

import argparse
import contextlib
import json
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from duoserve.arguments import positive
from duoserve.console import put
from serving.rollout.errors import RolloutError
from serving.rollout.reporter import ConsoleReporter
from serving.rollout.rollout import Rollout
from serving.rollout.settings import read_settings
from serving.rollout.tables import history_lines, status_json, status_lines

_DEFAULT = Path("rollout.toml")
_OUT_OF_SYNC = 6
_OVERRIDING = ("model", "config", "replicas", "store", "context")
_INTERRUPTED = (
    "interrupted; nothing is rolled back: `status` shows the state, the same command continues, `rollback` undoes"
)

_EPILOG = """\
a version goes to production:
  python -m serving.rollout plan 8          what would be edited
  python -m serving.rollout run 8           everything, with a rollback if 8 is worse; or step by step:
  python -m serving.rollout canary 8        load, check, move the canary label
  python -m serving.rollout promote         bake, check again, move the stable label, watch
  python -m serving.rollout retire 7        unload the old one, days later
  python -m serving.rollout rollback        at any time: one edit makes 7 stable again

Every command can be run again after an interruption: it continues from the state of the
file and the replicas. The settings are explained in serving/config/rollout.toml.

exit codes: 0 done; 1 an error; 2 wrong usage or settings; 3 stopped and rolled back, because
the version is worse or did not arrive; 4 refused, nothing changed; 5 another rollout is running,
or somebody edited the config; 6 the replicas are out of sync with the file; 130 interrupted,
143 by SIGTERM.
"""


_UNDER_WAY: Final = "default: the version being rolled out"
_CANARY: Final = "default: the canary's version"
_REQUIRED: Final = ""
_DRY: Final = "--dry-run"
_FORWARD: Final = (_DRY, "--allow-contract-change")

# Name, also of the method of `Rollout`; summary; help of VERSION, if it takes one; options.
_COMMANDS: Final[tuple[tuple[str, str, str | None, Sequence[str]], ...]] = (
    ("status", "every replica: versions, labels, and whether it is in sync with the file", None, ()),
    ("plan", "the edits of a whole rollout, as diffs; changes nothing", _UNDER_WAY, ()),
    ("adopt", "name what serves, to start from the policies latest and all", None, (_DRY,)),
    ("canary", "load a version, check it, move the canary label", _REQUIRED, _FORWARD),
    ("promote", "bake, check again, move the stable label, watch", _CANARY, _FORWARD),
    ("run", "canary and promote, unattended", _REQUIRED, _FORWARD),
    (
        "rollback",
        "roll a version back in one edit, in any state of the replicas",
        f"{_UNDER_WAY}, or else the stable one",
        (_DRY,),
    ),
    ("retire", "unload an old version that no label uses", _REQUIRED, (_DRY,)),
    ("history", "who did what, when, and with which figures", None, ("--last",)),
)


_OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "--dry-run": {"action": "store_true", "help": "check and show the edits, change nothing"},
    "--allow-contract-change": {
        "action": "store_true",
        "help": "continue although clients may not be able to follow",
    },
    "--last": {"type": positive, "metavar": "N", "help": "only the newest N entries"},
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        path = options.settings or (_DEFAULT if _DEFAULT.exists() else None)
        settings = read_settings(path, {name: getattr(options, name) for name in _OVERRIDING})
        how = {"allow_contract": options.allow_contract_change, "dry_run": options.dry_run}
        with _sigterm_interrupts(), Rollout(settings, reporter=ConsoleReporter(), **how) as rollout:
            return _run(rollout, options)
    except RolloutError as error:
        if options.json:
            _print_json(
                {"error": type(error).__name__, "message": error.message, "findings": error.findings, **error.facts}
            )
        end = ""
        if error.undone is not None:
            end = "\nthe version was rolled back" if error.undone else f"\nNOT rolled back: {error.advice}"
        put(sys.stderr, f"error: {error}{end}\n")
        return error.exit_code
    except KeyboardInterrupt as received:
        if options.json:
            _print_json({"error": "Interrupted", "message": _INTERRUPTED, "findings": []})
        put(sys.stderr, f"\n{_INTERRUPTED}\n")
        return 143 if isinstance(received, _Terminated) else 130


class _Terminated(KeyboardInterrupt):
    """SIGTERM was received, as when a Job's pod is evicted."""


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does; a second one is ignored. Has an effect in the main thread only."""

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving.rollout",
        description="Takes a model version to production behind checks, and back.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(allow_contract_change=False, dry_run=False)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", dest="command")
    for name, summary, version, switches in _COMMANDS:
        command = commands.add_parser(name, help=summary, description=f"{summary.capitalize()}.")
        if version is not None:
            command.add_argument("version", type=positive, nargs="?" if version else None, help=version or None)
        add = command.add_argument_group("settings, in place of the file's").add_argument
        add("--settings", type=Path, metavar="TOML", help="settings file (default: rollout.toml, if it is here)")
        add("--model", help="the model's name")
        add("--config", metavar="PLACE", help="path of models.config, or configmap:NAMESPACE/NAME[/KEY]")
        sources = "HOST:PORT, dns:NAME:PORT or pods:NAMESPACE/SELECTOR:PORT; may be repeated"
        add("--replica", action="append", dest="replicas", metavar="WHERE", help=sources)
        add("--store", type=lambda path: Path(path).absolute(), metavar="FOLDER", help="root of the model store")
        add("--context", metavar="NAME", help="kubeconfig context")
        as_json = "print the outcome as one JSON object; progress is on stderr"
        command.add_argument("--json", action="store_true", help=as_json)
        for switch in switches:
            command.add_argument(switch, **_OPTIONS[switch])
    return parser


def _run(rollout: Rollout, options: argparse.Namespace) -> int:
    if options.command == "status":
        found = rollout.status()
        _, views, differing = found
        printed = _print_json(status_json(*found)) if options.json else _print("\n".join(status_lines(*found)))
        return _OUT_OF_SYNC if differing or not views else int(not printed)
    if options.command == "history":
        records = rollout.history()[-(options.last or 0) :]
        return int(not (_print_json(records) if options.json else _print("\n".join(history_lines(records)))))
    if options.command == "plan":
        edits = rollout.plan(options.version)
        text = _shown(edits) or "no edit to make: the version is stable"
        return int(not (_print_json({"edits": _edits_json(edits)}) if options.json else _print(text)))
    outcome = getattr(rollout, options.command)(*([options.version] if "version" in options else []))
    if options.json:
        _print_json(
            {
                "outcome": outcome.text,
                "dry_run": outcome.dry_run,
                "edits": _edits_json(outcome.edits),
                "checks": [check.as_json() for check in outcome.checks],
                "warnings": outcome.warnings,
            }
        )
        return 0
    for warning in outcome.warnings:
        put(sys.stderr, f"warning: {warning}\n")
    shown = f"{_shown(outcome.edits)}\n" if outcome.dry_run and outcome.edits else ""
    _print(f"{shown}{outcome.text}")
    return 0


def _print_json(record: object) -> bool:
    return _print(json.dumps(record, ensure_ascii=False))


def _print(text: str) -> bool:
    """Prints a result; returns whether it could. A closed pipe is not an error."""
    error = put(sys.stdout, f"{text}\n")
    if error is None or isinstance(error, BrokenPipeError):
        return True
    put(sys.stderr, f"warning: the result could not be printed: {error}\n")
    return False


def _edits_json(edits: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"step": step, "diff": diff} for step, diff in edits]


def _shown(edits: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"# {number}. {step}\n{diff}" for number, (step, diff) in enumerate(edits, 1)).rstrip()
