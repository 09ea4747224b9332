"""`python -m serving.capacity`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence

from duoserve.console import guarded, say
from serving.capacity import Load, Measured, Plan, PlanError, plan

_EPILOG = """\
measure first, in the container, with its CPU limit:
  duoserve bench --server HOST:8500 --model emoji --concurrency 1     (the median: --latency-ms)

example (3.7 ms alone on 2 CPUs; put in your own curve, measured one run at a time):
  python -m serving.capacity --rate 1000 --latency-ms 3.7 --cpus 2 --model-mb 20 \\
      --curve 1:3.7,8:17,32:66

exit codes: 0 planned, 2 numbers that no plan fits
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a plan; returns the exit code."""
    return guarded(lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m serving.capacity",
        description="Replicas, threads, memory and batching settings from measured latency and load.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rate", type=float, required=True, help="calls of one row a second at the peak")
    parser.add_argument("--latency-ms", type=float, required=True, help="median of one caller, in milliseconds")
    parser.add_argument("--cpus", type=int, required=True, help="CPU limit that it was measured with")
    parser.add_argument("--model-mb", type=float, required=True, help="size of a version on disk (du -sm)")
    parser.add_argument("--curve", type=_curve, default={}, metavar="ROWS:MS,…", help="time of a run by batch size")
    parser.add_argument("--row-mb", type=float, default=4.0, help="memory of a row while it is computed (default: 4)")
    parser.add_argument("--quiet-rate", type=float, default=0.0, help="calls a second when it is quietest (default: 0)")
    parser.add_argument("--target-ms", type=float, default=200.0, help="limit of nearly every call (default: 200)")
    parser.add_argument("--utilization", type=float, default=0.6, help="share to plan with (default: 0.6)")
    parser.add_argument("--spare", type=int, default=1, help="replicas that may be missing (default: 1)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    try:
        measured = Measured(options.latency_ms, options.cpus, options.model_mb, options.curve, options.row_mb)
        load = Load(options.rate, options.quiet_rate, options.target_ms, options.utilization, options.spare)
        made = plan(measured, load)
    except PlanError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    say(json.dumps(dataclasses.asdict(made), indent=2) if options.json else _text(made, options.cpus))
    return 0


def _curve(text: str) -> dict[int, float]:
    try:
        pairs = [(int(rows), float(time)) for rows, time in (part.split(":") for part in text.split(","))]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"Expected ROWS:MS,ROWS:MS. Received: {text!r}") from error
    if len(dict(pairs)) < len(pairs):
        raise argparse.ArgumentTypeError(f"Expected each number of rows once. Received: {text!r}")
    return dict(pairs)


def _text(made: Plan, cpus: int) -> str:
    lines = [
        f"replicas at the peak   {made.replicas}  ({made.per_replica:g} calls/s each)",
        f"busy without the spare {made.busy:.0%}",
        f"autoscaler             minReplicas {made.minimum}, maxReplicas {made.maximum}",
        f"a replica              cpu {cpus}, memory {made.memory_mb}Mi (requests = limits)",
        f"mean time at the peak  {made.expected_ms:g} ms",
        "flags                  " + " ".join(f"--{name}={value}" for name, value in made.flags.items()),
    ]
    for name, value in made.batching.items():
        shown = [f"{name}: {size}" for size in value] if isinstance(value, list) else [f"{name} {{ value: {value} }}"]
        lines += [("batching.config        " if name == "max_batch_size" else " " * 23) + entry for entry in shown]
    if not made.batching:
        lines.append("batching               off")
    return "\n".join([*lines, "", *(f"- {note}" for note in made.notes)])


if __name__ == "__main__":
    sys.exit(main())
