"""How fast is the client? Compared with the floor of each task and with TensorFlow's tools, in one run.

    python -m benchmarks.client_speed [--rounds 7] [--seconds 0.7] [--output results/client_speed.json]

Cases are interleaved, round by round; ratios are taken within a round and given with their
spread. Writes JSON. The exit code is 0 even if an aim is missed; the table shows it.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import sys
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

from benchmarks.client_calls import EmptyServer, calls, throughput
from benchmarks.client_codec import decode, encode
from benchmarks.client_images import images
from benchmarks.client_import import imports

RESULTS = pathlib.Path(__file__).with_name("results")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.7, help="for each point of the throughput")
    parser.add_argument("--output", type=pathlib.Path, default=RESULTS / "client_speed.json")
    options = parser.parse_args()
    rounds = options.rounds
    report: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "python": sys.version.split()[0],
    }
    with EmptyServer() as server:
        for name, run in (
            ("import", lambda: imports(rounds)),
            ("encode", lambda: encode(rounds)),
            ("decode", lambda: decode(rounds)),
            ("images", lambda: images(rounds)),
            ("calls", lambda: calls(rounds, server)),
            ("throughput", lambda: throughput(max(3, rounds // 2), options.seconds, server)),
        ):
            print(f"measuring {name} …", file=sys.stderr)
            report[name] = run()
            for row in report[name]["rows"]:
                print(line(row))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1) + "\n")
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
