"""`python -m serving.capacity`."""

import argparse
import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from duoserve.console import guarded, put, say
from duoserve.errors import DuoserveError
from duoserve.hosts import is_loopback
from serving.capacity import CapacityPlan, Load, Measured, PlanError, plan
from serving.capacity.plan import memory_mb

_EPILOG = """\
measure a running server for 40 seconds, without other callers:
  python -m serving.capacity --server HOST:8500 --model emoji --cpus 2 --store models --rate 400

try settings of embedded servers on this machine, and plot throughput against p99:
  python -m serving.capacity --tune --store models --model emoji --rate 400 --out tune.png

plan with numbers that you have:
  python -m serving.capacity --rate 1000 --latency-ms 3.7 --cpus 2 --model-mb 20 \\
      --curve 1:3.7,8:17,32:66

exit codes: 0 planned, 1 the server can't be measured, 2 wrong usage or numbers that no plan fits,
130 interrupted
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a plan; returns the exit code."""
    return guarded(lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    _check_usage(parser, options)
    try:
        load = Load(options.rate, options.quiet_rate, options.target_ms, options.utilization, options.spare)
        for folder in (options.patches, options.tune and options.out.parent):  # before minutes of work
            if folder:
                folder.mkdir(parents=True, exist_ok=True)
                tempfile.TemporaryFile(dir=folder).close()
        if options.tune:
            return _tune(options, load)
        return _measure(options, load) if options.server else _calculate(options, load)
    except (PlanError, DuoserveError, OSError, RuntimeError) as error:
        put(sys.stderr, f"error: {error}\n")
        return 2 if isinstance(error, PlanError) else 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving.capacity",
        description="Replicas, threads, memory and batching settings, measured on a running server or from numbers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument_group("the load").add_argument
    add(
        "--rate",
        type=float,
        help="calls of one row a second at the peak (default, when measured: what one replica carries)",
    )
    add("--quiet-rate", type=float, default=0.0, help="calls a second at the quietest time (default: 0)")
    add("--target-ms", type=float, default=200.0, help="time limit for nearly every call (default: 200)")
    add("--utilization", type=float, default=0.6, help="planned share of the throughput (default: 0.6)")
    add("--spare", type=int, default=1, help="replicas that may be missing (default: 1)")
    add = parser.add_argument_group("measure").add_argument
    add("--server", metavar="HOST:PORT", help="measure this server, under its CPU limit")
    add("--model", help="the model's name")
    add("--label", help="the version of this label (default: the latest version)")
    add("--seconds", type=float, metavar="S", help="time to measure (default: 40; with --tune 120)")
    add("--tune", action="store_true", help="start embedded servers with different settings here")
    add("--store", type=Path, metavar="FOLDER", help="root of the model store: gives --model-mb")
    add("--out", type=Path, metavar="PNG", default=Path("capacity.png"), help="of --tune (default: capacity.png)")
    add("--ca", type=Path, metavar="PEM", help="for TLS, with --cert and --key for mutual TLS")
    for name in ("--cert", "--key"):
        add(name, type=Path, metavar="PEM", help=argparse.SUPPRESS)
    add = parser.add_argument_group("numbers, in place of measuring").add_argument
    add("--latency-ms", type=float, help="median latency with one caller, in milliseconds")
    add(
        "--throughput",
        type=float,
        help="calls of one row a second from many callers (default: of the curve, or as if calls did not overlap)",
    )
    text = "time of a run by batch size, with as many runs at once as CPUs"
    add("--curve", type=_curve, default={}, metavar="ROWS:MS,…", help=text)
    add("--cpus", type=int, help="CPU limit of the server (default for a server here: this machine's)")
    add("--model-mb", type=float, help="size of a version on disk (du -sm)")
    add("--row-mb", type=float, default=4.0, help="memory of a row while it is computed (default: 4)")
    parser.add_argument("--patches", type=Path, metavar="FOLDER", help="write the plan as a kustomize component")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _check_usage(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.server and options.tune:
        parser.error("Expected --server or --tune. Received: both")
    wanted = {"--latency-ms": options.latency_ms, "--cpus": options.cpus, "--rate": options.rate}
    if options.server or options.tune:
        wanted = {"--model": options.model}
        local = options.tune or is_loopback(options.server.rpartition(":")[0].strip("[]"))
        wanted["--cpus"] = options.cpus = options.cpus or (len(os.sched_getaffinity(0)) if local else None)
        if options.tune:
            wanted["--store"] = options.store
    if missing := [name for name, value in wanted.items() if value is None]:
        parser.error(f"Expected {', '.join(missing)} (or --server, or --tune). Received: nothing")
    if options.seconds is not None and not 2 <= options.seconds <= 3600:
        parser.error(f"Expected --seconds between 2 and 3600. Received: {options.seconds:g}")
    if options.store is not None and options.model is None:
        parser.error("Expected --model, for the size of its newest version in --store. Received: nothing")
    if options.store is not None and not _versions(options):
        parser.error(f"Expected versions in {options.store / options.model}. Received: none")


def _calculate(options: argparse.Namespace, load: Load) -> int:
    numbers = (options.latency_ms, options.cpus, _model_mb(options), options.curve, options.row_mb, options.throughput)
    return _print(options, lambda: plan(Measured(*numbers), load))


def _measure(options: argparse.Namespace, load: Load) -> int:
    from duoserve import TLS, Client
    from serving.capacity.measuring import measure

    tls = TLS(options.ca, options.cert, options.key) if options.ca or options.cert or options.key else None
    with Client(options.server, model=options.model, label=options.label, timeout=60, tls=tls) as client:
        found = measure(client, options.cpus, options.seconds or 40.0, _progress)
    numbers = (found.levels[0].p50, options.cpus, _model_mb(options), found.curve, options.row_mb)
    rates = (found.full.throughput, 1000 / found.empty_calls)
    facts = {"measured": dataclasses.asdict(found)}
    return _print(options, lambda: plan(Measured(*numbers, *rates), load), str(found), facts)


def _tune(options: argparse.Namespace, load: Load) -> int:
    from serving.capacity import tuning
    from serving.capacity.measuring import SIZES

    tried = tuning.settings(options.cpus, SIZES)
    found = tuning.tune(options.store, options.model, tried, options.seconds or 120.0, _progress)
    chosen = tuning.best(found, load.target_ms)
    tuning.draw(found, load.target_ms, options.out)

    def planned() -> CapacityPlan:
        level = chosen.within(load.target_ms) if chosen else None
        if chosen is None or level is None:
            raise PlanError(f"Expected a setting with a p99 within {load.target_ms:g} ms. Received: none")
        alone = chosen.levels[0].p50
        measured = Measured(alone, options.cpus, _model_mb(options), {}, options.row_mb, level.throughput)
        made, setting = plan(measured, load), chosen.setting
        threads = {"tensorflow_intra_op_parallelism": setting.intra, "tensorflow_inter_op_parallelism": setting.inter}
        flags, memory = {**made.flags, **threads}, memory_mb(measured, setting.batching)
        return dataclasses.replace(made, flags=flags, batching=setting.batching, memory_mb=memory)

    facts = {"settings": [dataclasses.asdict(tuned) for tuned in found], "plot": str(options.out)}
    return _print(options, planned, f"{tuning.text(found, load.target_ms)}\n\nplot: {options.out}", facts)


def _print(
    options: argparse.Namespace, planned: Callable[[], CapacityPlan], text: str = "", facts: Mapping[str, Any] = {}
) -> int:
    """Prints measurements and a plan; the measurements also if no plan fits them."""
    from serving.capacity.patches import batching_config, write_patches

    try:
        made = planned()
    except PlanError:
        if text:
            say(json.dumps(facts, indent=2) if options.json else text)
        raise
    written = write_patches(made, options.cpus, options.patches) if options.patches else []
    if options.json:
        config = batching_config(made.batching) if made.batching else None
        record = {**dataclasses.asdict(made), "cpus": options.cpus, "batching_config": config, **facts}
        say(json.dumps(record, indent=2))
        return 0
    parts = [text, made.text(options.cpus), "\n".join(f"written: {path}" for path in written)]
    say("\n\n".join(part for part in parts if part))
    return 0


def _progress(what: str, share: float) -> None:
    """A bar on stderr: redrawn on a terminal, left out elsewhere."""
    if sys.stderr is not None and sys.stderr.isatty():
        filled, end = int(30 * share), "\n" if what == "done" else ""
        put(sys.stderr, f"\r\x1b[K[{'#' * filled}{'.' * (30 - filled)}] {share:4.0%}  {what}{end}")


def _model_mb(options: argparse.Namespace) -> float | None:
    """The size of a version in megabytes: as given, or of the newest one in the store."""
    if options.model_mb is not None or options.store is None:
        return None if options.model_mb is None else float(options.model_mb)
    newest = max(_versions(options), key=lambda path: int(path.name))
    return float(sum(file.stat().st_size for file in newest.rglob("*") if file.is_file()) / 2**20)


def _versions(options: argparse.Namespace) -> list[Path]:
    """The versions of the model in the store."""
    return [path for path in (options.store / options.model).glob("*") if path.name.isdecimal()]


def _curve(text: str) -> dict[int, float]:
    try:
        pairs = [(int(rows), float(time)) for rows, time in (part.split(":") for part in text.split(","))]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"Expected ROWS:MS,ROWS:MS. Received: {text!r}") from error
    if len(dict(pairs)) < len(pairs):
        raise argparse.ArgumentTypeError(f"Expected each number of rows once. Received: {text!r}")
    return dict(pairs)


if __name__ == "__main__":
    sys.exit(main())
