"""A comparison as a table for the terminal, and as a plot."""

import io
import json
from collections.abc import Callable
from pathlib import Path

from duoserve.console import aligned
from export.measures import FIGURES, as_text
from export.selection.compare import Comparison, Measured
from export.selection.served import BATCH
from export.selection.statistics import Interval


def table(comparison: Comparison) -> str:
    """One line for each candidate, the best first."""
    optional = sorted({name for model in comparison.models for name in model.without})
    head = [
        "MODEL",
        f"{FIGURES[comparison.figure].upper()} (95 %)",
        f"AGAINST {comparison.yardstick}",
        *(f"NO {name.upper()}" for name in optional),
    ]
    head += ["ECE", "LOSS", "WEIGHTS", "SIZE", "MEMORY", "1 ROW, p50 p95", f"{BATCH} ROWS, p50 p95", "ROWS/s"]
    return aligned([head, *(_line(model, optional, comparison.figure) for model in comparison.models)])


def summary(comparison: Comparison) -> str:
    """Notes on the figures."""
    lines = [
        f"On {comparison.rows} held-out rows; rows of a group are not independent, and the intervals allow for that.",
        f"Fastest of those within one standard error of the best: {comparison.choice}",
    ]
    for model in comparison.models:
        if model.same_data is False:
            lines.append(
                f"Note: {model.name} was trained on other data or another split; it may have seen the held-out rows."
            )
        elif model.same_data is None:
            lines.append(f"Note: the training data of {model.name} is unknown; it may have seen these rows.")
    if comparison.left_out:
        lines.append(f"Skipped, as the budget was used up: {', '.join(comparison.left_out)}.")
    return "\n".join(lines)


def _line(model: Measured, optional: list[str], figure: str) -> list[str]:
    one, many = (f"{model.latency[size]['p50']:.1f} {model.latency[size]['p95']:.1f} ms" for size in (1, BATCH))
    return [
        model.name,
        _interval(figure, model.quality),
        "-" if model.gain is None else _interval(figure, model.gain, _points),
        *(as_text(figure, model.without[name].value) if name in model.without else "-" for name in optional),
        "-" if model.calibration_error is None else f"{model.calibration_error:.3f}",
        f"{model.loss:.3f}",
        "-" if model.parameters is None else f"{model.parameters:,}",
        f"{model.size / 1e6:.1f} MB",
        f"{model.memory / 1e6:.0f} MB",
        one,
        many,
        f"{model.throughput:,.0f}",
    ]


def _points(figure: str, difference: float) -> str:
    """Of shares in percentage points, of others unchanged."""
    return f"{difference * 100:+.1f}" if figure == "accuracy" else f"{difference:+.3f}"


def _interval(figure: str, interval: Interval, shown: Callable[[str, float], str] = as_text) -> str:
    value, low, high = (shown(figure, each) for each in interval)
    return f"{value} ({low} to {high})"


def keep(comparison: Comparison, folder: Path) -> None:
    """Writes `compare.json` and `compare.png`.

    Raises:
        OSError: They can't be written; older files are unchanged.
    """
    figures = json.dumps(comparison.to_json(), ensure_ascii=False, indent=1) + "\n"
    for name, data in (("compare.json", figures.encode("utf-8")), ("compare.png", _draw(comparison))):
        scratch = folder / f".{name}"
        scratch.write_bytes(data)
        scratch.replace(folder / name)


def _draw(comparison: Comparison) -> bytes:
    """A PNG: the figure with its interval, the figure against latency, and the reliability diagram."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 4.8), layout="constrained")
    bars, speed, reliability = figure.subplots(1, 3)
    for position, model in enumerate(reversed(comparison.models)):
        colour = f"C{(len(comparison.models) - 1 - position) % 10}"
        value, low, high = model.quality
        reach = [[value - low], [high - value]]
        bars.errorbar(value, position, xerr=reach, fmt="o", capsize=4, color=colour)
        milliseconds = model.latency[1]["p50"]
        speed.errorbar(milliseconds, value, yerr=reach, fmt="o", capsize=4, color=colour)
        speed.plot([], [], "o", color=colour, label=model.name)
        reliability.plot(
            [each.confidence for each in model.bins], [each.accuracy for each in model.bins],
            "o-", color=colour, ms=3, lw=1, label=f"{model.name}: {model.calibration_error or 0:.3f}",
        )  # fmt: skip
    bars.set_yticks(range(len(comparison.models)), [model.name for model in reversed(comparison.models)])
    figure_name = FIGURES[comparison.figure]
    bars.set_xlabel(f"{figure_name} on {comparison.rows} held-out rows, 95 % interval")
    bars.grid(axis="x", alpha=0.3)
    speed.set(xlabel="milliseconds for one row (p50)", ylabel=figure_name, xscale="log")
    speed.xaxis.set_major_formatter("{x:g}")
    speed.xaxis.set_minor_formatter("{x:g}")
    speed.grid(alpha=0.3)
    speed.legend(fontsize=8)
    reliability.plot([0, 1], [0, 1], "--", color="0.6", lw=1)
    reliability.set(xlabel="probability of the answer", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1))
    if comparison.models[0].bins:
        reliability.legend(title="calibration error (ECE)", fontsize=8, title_fontsize=8)
    else:
        reliability.set_visible(False)  # scores have no probability
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=110)
    return png.getvalue()
