"""`python -m benchmarks.report`: measures what is not measured yet and writes the page."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import machine
from benchmarks.report.figures import update
from benchmarks.report.page import page, sections
from benchmarks.report.parts import PARTS
from benchmarks.report.running import measure

STORED = Path("benchmarks/results")
FRESH = Path("build/report")

_EPILOG = """\
A part that was measured at this commit is not measured again, so a run that was interrupted goes on where it was.
Nothing else should run on the machine meanwhile.

Exit codes: 0 the page is whole, 1 it is written but a part is missing, broken or failed, 2 wrong usage, 130 stopped.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; the exit code."""
    options = _parser().parse_args(arguments)
    os.chdir(machine.ROOT)
    parts = [part for part in PARTS if not options.only or part.name in options.only]
    folder = STORED if options.stored else options.results
    try:
        if not options.stored:
            measure(parts, folder, quick=options.quick, again=options.again, say=_say)
    except KeyboardInterrupt:
        _say("interrupted; what is measured stays, and the same command goes on from there")
        return 130
    found = sections(PARTS, folder)
    output = options.output or FRESH / "report.html"
    output.parent.mkdir(parents=True, exist_ok=True)
    draft = output.with_name(f".{output.name}")
    draft.write_text(page(found, machine.facts()), encoding="utf-8")
    draft.replace(output)
    print(output)
    for path in options.figures:
        _say(f"{path}: {'updated' if update(path, found) else 'up to date'}")
    lacking = [section for section in found if section.trouble]
    for section in lacking:
        _say(f"{section.name}: {(section.trouble or '').splitlines()[0]}")
    return 1 if lacking else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.report",
        description="Runs the benchmarks and writes one HTML page with their tables and plots, and nothing to fetch.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    names = [part.name for part in PARTS]
    add("--only", nargs="+", choices=names, metavar="PART", help=f"measure only these of {', '.join(names)}")
    add("--quick", action="store_true", help="fewer rounds and trainings: some minutes, rough figures")
    add("--again", action="store_true", help="measure also what has been measured at this commit")
    add("--stored", action="store_true", help=f"measure nothing: a page from {STORED}")
    add("--results", type=Path, default=FRESH, metavar="FOLDER", help="where the JSON goes (default: %(default)s)")
    add("--output", type=Path, metavar="FILE", help=f"the page (default: {FRESH / 'report.html'})")
    add(
        "--figures", type=Path, nargs="+", default=[], metavar="FILE",
        help="Markdown files whose tables between <!-- report PART --> and <!-- /report --> are written anew",
    )  # fmt: skip
    return parser


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
