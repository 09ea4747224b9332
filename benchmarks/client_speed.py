"""How fast is the client? Compared with the floor of each task and with TensorFlow's tools, in one run.

    python -m benchmarks.client_speed [--rounds 7] [--seconds 0.7] [--output results/client_speed.json]

Cases are interleaved, round by round; ratios are taken within a round and given with their
spread. Writes JSON. The exit code is 0 even if an aim is missed; the table shows it.
"""

import os
import pathlib
import platform
import sys
from typing import Any

from benchmarks._report import RESULTS, parser, write
from benchmarks.client_calls import calls, server, throughput
from benchmarks.client_parts import decode, encode, images, imports


def main() -> int:
    made = parser(__doc__, rounds=7, seconds=0.7)
    made.add_argument("--output", type=pathlib.Path, default=RESULTS / "client_speed.json")
    options = made.parse_args()
    rounds = options.rounds
    report: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "python": sys.version.split()[0],
    }
    with server() as address:
        for name, run in {
            "import": lambda: imports(rounds),
            "encode": lambda: encode(rounds),
            "decode": lambda: decode(rounds),
            "images": lambda: images(rounds),
            "calls": lambda: calls(rounds, address),
            "throughput": lambda: throughput(max(3, rounds // 2), options.seconds, address),
        }.items():
            print(f"measuring {name} …", file=sys.stderr)
            report[name] = run()
            for row in report[name]["rows"]:
                print(line(row))
    write(report, options.output)
    return 0


def line(row: dict[str, Any]) -> str:
    """One line of the printed table."""
    found = row["ratio"]
    digits = 4 if found["median"] < 0.1 else 2
    text = f"{row['what']:<48} / {row['to']:<22} {found['median']:8.{digits}f}"
    text += f"  ({found['least']:.{digits}f} to {found['most']:.{digits}f})"
    if row["aim"] is None:
        return text
    bound, met = "at least" if row["more_is_better"] else "at most", "met" if row["met"] else "MISSED"
    return f"{text}  aim {bound} {row['aim']:g}: {met}"


if __name__ == "__main__":
    sys.exit(main())
