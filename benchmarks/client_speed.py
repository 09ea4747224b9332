"""How fast is the client? Against the floor of each task and the existing clients, in one run.

    python -m benchmarks.client_speed [--rounds 7] [--seconds 0.7] [--output results/client_speed.json]

Cases are interleaved, round by round; ratios are taken within a round and given with their
spread. Writes JSON and a plot. Exit code 0 also when an aim is missed: the table says so.
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

from benchmarks._peers import MinTfsClient
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
    print("making the environment of min-tfs-client …", file=sys.stderr)
    peer = MinTfsClient.start()
    report["min-tfs-client"] = peer if isinstance(peer, str) else peer.about
    with EmptyServer() as server:
        for name, run in (
            ("import", lambda: imports(rounds)),
            ("encode", lambda: encode(rounds, peer)),
            ("decode", lambda: decode(rounds, peer)),
            ("images", lambda: images(rounds)),
            ("calls", lambda: calls(rounds, server)),
            ("throughput", lambda: throughput(max(3, rounds // 2), options.seconds, server)),
        ):
            print(f"measuring {name} …", file=sys.stderr)
            report[name] = run()
            for row in report[name]["rows"]:
                print(line(row))
    if isinstance(peer, MinTfsClient):
        peer.close()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1) + "\n")
    plot(report, options.output.with_suffix(".png"))
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


def plot(report: dict[str, Any], path: pathlib.Path) -> None:
    """Ratios beside their aims, and the throughput."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = ("import", "encode", "decode", "images", "calls")
    rows = [row for name in names for row in report[name]["rows"] if row["aim"] is not None]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(16, 7), gridspec_kw={"width_ratios": [3, 2]})
    for y, row in enumerate(reversed(rows)):
        found, aim = row["ratio"], row["aim"]
        colour = "tab:green" if row["met"] else "tab:red"
        left.plot([found["least"], found["most"]], [y, y], color=colour, lw=3, alpha=0.5)
        left.plot(found["median"], y, "o", color=colour)
        left.plot(aim, y, "|", color="black", ms=14, mew=2)
    labels = [f"{row['what']} / {row['to']}{' (more is better)' if row['more_is_better'] else ''}" for row in rows]
    left.set_yticks(range(len(rows)), reversed(labels), fontsize=8)
    left.set_xscale("log")
    left.set_xlabel("ratio: median and spread over the rounds; the black mark is the aim")
    left.grid(axis="x", alpha=0.3)
    for name, by_callers in report["throughput"]["per_second"].items():
        xs = list(map(int, by_callers))
        right.plot(xs, [value["median"] for value in by_callers.values()], "o-", label=name)
        right.fill_between(xs, *[[value[end] for value in by_callers.values()] for end in ("least", "most")], alpha=0.2)
    right.set_xscale("log", base=2)
    right.set_xlabel("callers (threads)")
    right.set_ylabel("calls a second, 150 KB each, to an empty server")
    right.set_ylim(bottom=0)
    right.legend()
    right.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
