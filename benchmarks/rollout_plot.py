"""What do users notice of a rollout? Five replicas under constant load: a good version, and every kind of faulty one.

    python -m benchmarks.rollout_plot [--rate 30]

The acts of tests/rollout/scenario.py, on embedded servers, under the production client's load:
label routing, one call in five to the canary. It counts failed calls, answers that are wrong or
from a version that the label did not name, and the time of a rollback. Writes
results/rollout.json and .png beside this file.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from tests.rollout import models
from tests.rollout.load import Call, Load
from tests.rollout.scenario import FAULTS, Act, copy_half, play
from tests.rollout.site import running

RESULTS = pathlib.Path(__file__).with_name("results")


def measure(rate: float) -> tuple[Load, list[Act]]:
    """Plays the acts under load."""
    with tempfile.TemporaryDirectory(prefix="rollout-") as scratch:
        folder = pathlib.Path(scratch)
        print("exporting the versions, starting five servers", flush=True)
        logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns of tracing, as each version is a new model
        models.publish(folder / "store")
        copy_half(folder / "store")
        with running(folder / "store", folder, FAULTS) as site:
            acts = []
            with Load([replica.address for replica in site.replicas], site.store, site.config, rate=rate) as load:
                for act in play(site):
                    acts.append(act)
                    print(f"  {act.name:<30} {act.ended:<18} {act.seconds:5.1f} s", flush=True)
            return load, acts


def summary(load: Load, acts: Sequence[Act], rate: float) -> dict[str, Any]:
    """The figures."""
    milliseconds = [call.seconds * 1e3 for call in load.calls if not call.error]
    return {
        "replicas": len(FAULTS),
        "calls": len(load.calls),
        "calls_per_second": rate,
        "failed_calls": len(load.failed()),
        "wrong_answers": len(load.wrong()),
        "p50_ms": round(float(np.percentile(milliseconds, 50)), 2),
        "p99_ms": round(float(np.percentile(milliseconds, 99)), 2),
        "acts": [
            {
                "name": act.name,
                "ended": act.ended,
                "at_s": round(act.begin - load.began, 1),
                "seconds": round(act.seconds, 1),
                "rollback_s": act.undone,
                "findings": [line[:200] for line in act.findings],
            }
            for act in acts
        ],
        "bins": bins(load.calls),
    }


def bins(calls: Sequence[Call]) -> list[dict[str, Any]]:
    """Answers by version, errors and latency, second by second."""
    found = []
    for second in range(int(max(call.at for call in calls)) + 1):
        inside = [call for call in calls if second <= call.at < second + 1]
        times = [call.seconds * 1e3 for call in inside if not call.error]
        counts = {version: sum(call.version == version for call in inside) for version in sorted(versions(calls))}
        found.append(
            {
                "second": second,
                "answers": counts,
                "errors": sum(bool(call.error) for call in inside),
                "p50_ms": round(float(np.percentile(times, 50)), 2) if times else None,
                "p99_ms": round(float(np.percentile(times, 99)), 2) if times else None,
            }
        )
    return found


def versions(calls: Sequence[Call]) -> set[int]:
    """Every version that answered."""
    return {call.version for call in calls if call.version is not None}


def plot(load: Load, acts: Sequence[Act], figures: dict[str, Any], path: pathlib.Path) -> None:
    """Versions answering, errors and latency over time, the acts behind them."""
    rows = figures["bins"]
    seconds = [row["second"] for row in rows]
    figure, (top, middle, bottom) = plt.subplots(
        3, 1, sharex=True, figsize=(11, 7), gridspec_kw={"height_ratios": [3, 1, 2]}, layout="constrained"
    )
    numbers = sorted(versions(load.calls))
    counts = [[row["answers"][version] for row in rows] for version in numbers]
    top.stackplot(seconds, counts, labels=[f"version {version}" for version in numbers], step="post", alpha=0.85)
    top.set_ylabel("answers per second")
    top.legend(loc="lower left", ncols=len(numbers), fontsize=8)
    middle.step(seconds, [row["errors"] for row in rows], where="post", color="tab:red")
    middle.set_ylabel("failed calls")
    middle.set_ylim(0, max(1, *(row["errors"] for row in rows)) * 1.1)
    for name, style in (("p50_ms", "-"), ("p99_ms", ":")):
        bottom.plot(seconds, [row[name] or np.nan for row in rows], style, label=name[:3], color="tab:blue")
    bottom.set_yscale("log")
    bottom.set_ylabel("latency, ms")
    bottom.set_xlabel("seconds")
    bottom.legend(loc="upper left", fontsize=8)
    for number, act in enumerate(acts):
        begin = act.begin - load.began
        for axes in (top, middle, bottom):
            axes.axvspan(begin, begin + act.seconds, color="0.9" if number % 2 else "0.8", zorder=0)
        top.text(
            begin + act.seconds / 2, top.get_ylim()[1] * 1.02, f"{act.name}:\n{act.ended}",
            rotation=35, ha="left", va="bottom", fontsize=7,
        )  # fmt: skip
    figure.suptitle(
        f"{figures['calls']} calls, {figures['failed_calls']} failed, {figures['wrong_answers']} from a wrong version",
        fontsize=10,
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=30.0, help="calls per second (default: %(default)s)")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS, help="folder for the JSON and the plot")
    options = parser.parse_args()
    options.out.mkdir(exist_ok=True)
    load, acts = measure(options.rate)
    figures = summary(load, acts, options.rate)
    (options.out / "rollout.json").write_text(json.dumps(figures, indent=1) + "\n")
    plot(load, acts, figures, options.out / "rollout.png")
    shown = {key: value for key, value in figures.items() if key not in ("bins", "acts")}
    print(json.dumps(shown, indent=1))
    backs = [act.undone for act in acts if act.undone is not None]
    print(f"seconds to roll back, every replica's proof included: {', '.join(f'{back:.1f}' for back in backs)}")


if __name__ == "__main__":
    main()
