"""What do users notice of a rollout? Five replicas under constant load: a good version, and every kind of faulty one.

    python -m benchmarks.rollout_plot [--rate 30]

The acts of tests/rollout/scenario.py, on embedded servers, under the production client's load: label routing, one call
in five to the canary. It counts failed calls, answers that are wrong or from a version that the label did not name, and
the time of a rollback. Writes results/rollout.json and .png beside this file.
"""

import json
import logging
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks._report import RESULTS, parser, write
from tests.rollout import models
from tests.rollout.load import Call, Load
from tests.rollout.scenario import FAULTS, Act, copy_half, play
from tests.rollout.site import running


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
    return {
        "replicas": len(FAULTS),
        "calls": len(load.calls),
        "calls_per_second": rate,
        "failed_calls": len(load.failed()),
        "wrong_answers": len(load.wrong()),
        **percentiles(load.calls),
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


def percentiles(calls: Sequence[Call]) -> dict[str, float | None]:
    """Latency of the answered calls; None where there are none."""
    times = [call.seconds * 1e3 for call in calls if not call.error]
    return {f"p{share}_ms": round(float(np.percentile(times, share)), 2) if times else None for share in (50, 99)}


def bins(calls: Sequence[Call]) -> list[dict[str, Any]]:
    """Answers by version, errors and latency, second by second."""
    found = []
    numbers = sorted({call.version for call in calls if call.version is not None})
    for second in range(int(max(call.at for call in calls)) + 1):
        inside = [call for call in calls if second <= call.at < second + 1]
        found.append(
            {
                "second": second,
                "answers": {version: sum(call.version == version for call in inside) for version in numbers},
                "errors": sum(bool(call.error) for call in inside),
                **percentiles(inside),
            }
        )
    return found


def plot(figures: dict[str, Any], path: pathlib.Path) -> None:
    """Versions answering, errors and latency over time, the acts behind them."""
    rows = figures["bins"]
    seconds = [row["second"] for row in rows]
    figure = Figure(figsize=(11, 7), layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, sharex=True, gridspec_kw={"height_ratios": [3, 1, 2]})
    numbers = list(rows[0]["answers"])
    counts = [[row["answers"][version] for row in rows] for version in numbers]
    top.stackplot(seconds, counts, labels=[f"version {version}" for version in numbers], step="post", alpha=0.85)
    top.set_ylabel("answers per second")
    top.legend(loc="lower left", ncols=len(numbers), fontsize=8)
    middle.step(seconds, [row["errors"] for row in rows], where="post", color="tab:red")
    middle.set_ylabel("failed calls")
    middle.set_ylim(0, max(1, *(row["errors"] for row in rows)) * 1.1)
    for name, style in (("p50_ms", "-"), ("p99_ms", ":")):
        bottom.plot(seconds, [row[name] or np.nan for row in rows], style, label=name[:3], color="tab:blue")
    bottom.set(yscale="log", ylabel="latency, ms", xlabel="seconds")
    bottom.legend(loc="upper left", fontsize=8)
    for number, act in enumerate(figures["acts"]):
        begin, end = act["at_s"], act["at_s"] + act["seconds"]
        for axes in (top, middle, bottom):
            axes.axvspan(begin, end, color="0.9" if number % 2 else "0.8", zorder=0)
        top.text(
            (begin + end) / 2, top.get_ylim()[1] * 1.02, f"{act['name']}:\n{act['ended']}",
            rotation=35, ha="left", va="bottom", fontsize=7,
        )  # fmt: skip
    figure.suptitle(
        f"{figures['calls']} calls, {figures['failed_calls']} failed, {figures['wrong_answers']} from a wrong version",
        fontsize=10,
    )
    figure.savefig(path, dpi=110)


def main() -> None:
    asked = parser(__doc__)
    asked.add_argument("--rate", type=float, default=30.0, help="calls per second (default: %(default)s)")
    asked.add_argument("--out", type=pathlib.Path, default=RESULTS, help="folder for the JSON and the plot")
    options = asked.parse_args()
    load, acts = measure(options.rate)
    figures = summary(load, acts, options.rate)
    write(figures, options.out / "rollout.json")
    plot(figures, options.out / "rollout.png")
    print(json.dumps({key: value for key, value in figures.items() if key not in ("bins", "acts")}, indent=1))
    backs = [act.undone for act in acts if act.undone is not None]
    print(f"seconds to roll back, every replica's proof included: {', '.join(f'{back:.1f}' for back in backs)}")


if __name__ == "__main__":
    main()
