"""A comparison as a table for the terminal, and as a plot."""

from __future__ import annotations

import io
import json
from pathlib import Path

from export.selection.compare import Comparison, Measured
from export.selection.served import BATCH
from export.selection.statistics import Interval
from export.table import aligned

__all__ = ["keep", "summary", "table"]


def table(comparison: Comparison) -> str:
    """One line a candidate, the most accurate first."""
    optional = sorted({name for model in comparison.models for name in model.without})
    head = ["MODEL", "ACCURACY (95 %)", f"AGAINST {comparison.yardstick}", *(f"NO {name.upper()}" for name in optional)]
    head += ["ECE", "LOSS", "WEIGHTS", "SIZE", "MEMORY", "1 ROW, p50 p95", f"{BATCH} ROWS, p50 p95", "ROWS/s"]
    return aligned([head, *(_line(model, optional) for model in comparison.models)])


def summary(comparison: Comparison) -> str:
    """What the figures say, and what to mind about them."""
    lines = [
        f"On {comparison.rows} held-out rows, the rows of a group counted as one where they go together.",
        f"Fastest of those that are within one standard error of the most accurate: {comparison.choice}",
    ]
    for model in comparison.models:
        if model.same_data is False:
            lines.append(
                f"Mind: {model.name} was trained on other data or another split; it may know the held-out rows."
            )
        elif model.same_data is None:
            lines.append(f"Mind: what {model.name} was trained on is not known; it may know these rows.")
    if comparison.left_out:
        lines.append(f"The budget had no time for {', '.join(comparison.left_out)}.")
    return "\n".join(lines)


def _line(model: Measured, optional: list[str]) -> list[str]:
    one, many = (f"{model.latency[size]['p50']:.1f} {model.latency[size]['p95']:.1f} ms" for size in (1, BATCH))
    return [
        model.name,
        _percent(model.accuracy),
        "-" if model.gain is None else _points(model.gain),
        *(f"{model.without[name].value:.1%}" if name in model.without else "-" for name in optional),
        f"{model.calibration_error:.3f}",
        f"{model.loss:.3f}",
        "-" if model.parameters is None else f"{model.parameters:,}",
        f"{model.size / 1e6:.1f} MB",
        f"{model.memory / 1e6:.0f} MB",
        one,
        many,
        f"{model.throughput:,.0f}",
    ]


def _percent(interval: Interval) -> str:
    return f"{interval.value:.1%} ({interval.low:.1%} to {interval.high:.1%})"


def _points(interval: Interval) -> str:
    return f"{interval.value * 100:+.1f} ({interval.low * 100:+.1f} to {interval.high * 100:+.1f})"


def keep(comparison: Comparison, folder: Path) -> None:
    """Writes `compare.json` and `compare.png`.

    Raises:
        OSError: They can't be written; what was there before is untouched.
    """
    figures = json.dumps(comparison.to_json(), ensure_ascii=False, indent=1) + "\n"
    for name, data in (("compare.json", figures.encode("utf-8")), ("compare.png", _draw(comparison))):
        scratch = folder / f".{name}"
        scratch.write_bytes(data)
        scratch.replace(folder / name)


def _draw(comparison: Comparison) -> bytes:
    """A PNG: accuracy with its interval, accuracy against latency, and the reliability diagram."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 4.8), layout="constrained")
    bars, speed, reliability = figure.subplots(1, 3)
    for position, model in enumerate(reversed(comparison.models)):
        colour = f"C{(len(comparison.models) - 1 - position) % 10}"
        value, low, high = model.accuracy
        reach = [[value - low], [high - value]]
        bars.errorbar(value, position, xerr=reach, fmt="o", capsize=4, color=colour)
        milliseconds = model.latency[1]["p50"]
        speed.errorbar(milliseconds, value, yerr=reach, fmt="o", capsize=4, color=colour)
        speed.plot([], [], "o", color=colour, label=model.name)
        points = [(each.confidence, each.accuracy) for each in model.bins]
        reliability.plot(
            *zip(*points, strict=True), "o-", color=colour, ms=3, lw=1,
            label=f"{model.name}: {model.calibration_error:.3f}",
        )  # fmt: skip
    bars.set_yticks(range(len(comparison.models)), [model.name for model in reversed(comparison.models)])
    bars.set_xlabel(f"accuracy on {comparison.rows} held-out rows, 95 % interval")
    bars.grid(axis="x", alpha=0.3)
    speed.set(xlabel="milliseconds a call of one row (p50)", ylabel="accuracy", xscale="log")
    speed.xaxis.set_major_formatter("{x:g}")
    speed.xaxis.set_minor_formatter("{x:g}")
    speed.grid(alpha=0.3)
    speed.legend(fontsize=8)
    reliability.plot([0, 1], [0, 1], "--", color="0.6", lw=1)
    reliability.set(xlabel="probability of the answer", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1))
    reliability.legend(title="calibration error (ECE)", fontsize=8, title_fontsize=8)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=110)
    return png.getvalue()
