"""Tables, and what each benchmark's JSON says as tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Final

__all__ = [
    "Cell",
    "Table",
    "client_speed",
    "comparison",
    "interval",
    "memory",
    "number",
    "rollout",
    "server_speed",
    "spread",
    "table",
    "text",
]

Json = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Cell:
    """What is shown, and the figures behind it, unrounded, as the JSON has them.

    Attributes:
        shown: The text.
        values: The figures that the text shows.
        good: Whether it is as it should be, None where nothing says so.
    """

    shown: str
    values: tuple[float, ...] = ()
    good: bool | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """Columns and rows."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def text(value: object) -> Cell:
    """A cell that is no figure."""
    return Cell("-" if value is None else str(value))


def number(value: float | None, digits: int = 2, unit: str = "", *, scale: float = 1, good: bool | None = None) -> Cell:
    """One figure."""
    if value is None:
        return Cell("-")
    return Cell(f"{value * scale:,.{digits}f}{unit}", (value,), good)


def spread(
    found: Mapping[str, float], digits: int | None = None, *, scale: float = 1, good: bool | None = None
) -> Cell:
    """Median, least and most over the rounds."""
    middle, low, high = found["median"], found["least"], found["most"]
    if digits is None:
        digits = 4 if abs(middle) < 0.1 else 2
    shown = [f"{value * scale:,.{digits}f}" for value in (middle, low, high)]
    return Cell(f"{shown[0]} ({shown[1]} to {shown[2]})", (middle, low, high), good)


def interval(found: Mapping[str, float] | None, *, signed: bool = False) -> Cell:
    """A share with its 95 % interval; in points where it is a difference."""
    if found is None:
        return Cell("-")
    values = found["value"], found["low"], found["high"]
    sign, unit = ("+", "") if signed else ("", " %")
    shown = [f"{value * 100:{sign}.1f}" for value in values]
    return Cell(f"{shown[0]}{unit} ({shown[1]} to {shown[2]})", values)


def table(caption: str, columns: Iterable[str], rows: Iterable[Iterable[Cell]]) -> Table:
    """A table of whatever can be gone through once."""
    return Table(caption, tuple(columns), tuple(tuple(row) for row in rows))


def comparison(found: Json) -> list[Table]:
    """`python -m export compare`."""
    optional = sorted({name for model in found["models"] for name in model["without"]})
    sizes = list(found["models"][0]["latency"]) if found["models"] else []
    columns = ["model", f"{found['figure'].replace('_', ' ')} (95 %)", f"points against {found['yardstick']}"]
    columns += [f"without {name}" for name in optional]
    columns += ["calibration error", "loss", "weights", "SavedModel", "memory", "loads in", "trained in"]
    columns += [f"{size} row{'' if size == '1' else 's'}, p50 and p95" for size in sizes] + ["rows a second"]
    rows = [
        [
            text(model["name"] + (" *" if model["name"] == found["choice"] else "")),
            interval(model["quality"]),
            interval(model["gain"], signed=True),
            *(interval(model["without"].get(name)) for name in optional),
            number(model["calibration_error"], 3),
            number(model["loss"], 3),
            number(model["parameters"], 0),
            number(model["size"], 1, " MB", scale=1e-6),
            number(model["memory"], 0, " MB", scale=1e-6),
            number(model["load_seconds"], 1, " s"),
            number(model["train_seconds"], 0, " s"),
            *(_milliseconds(model["latency"][size]) for size in sizes),
            number(model["throughput"], 0),
        ]
        for model in found["models"]
    ]
    caption = f"On {found['rows']} held-out rows. * is the fastest within one standard error of the best."
    if found["left_out"]:
        caption += f" The budget had no time for {', '.join(found['left_out'])}."
    return [table(caption, columns, rows)]


def _milliseconds(found: Mapping[str, float]) -> Cell:
    return Cell(f"{found['p50']:.1f} and {found['p95']:.1f} ms", (found["p50"], found["p95"]))


_IN_SHORT: Final = (
    ("import, time, how many times less", "tensorflow-serving-api"),
    ("import, RSS, how many times less", "tensorflow-serving-api"),
    ("import, time", "floor"),
    ("build and serialise 1x224x224x3 float32, p50", "memcpy"),
    ("decode 64x1000, float_val", "np.frombuffer"),
    ("JPEG 12 megapixels to request", "usual Pillow path"),
    ("a whole call, sync", "raw stub"),
    ("a whole call, async", "raw stub"),
    ("throughput, 1 callers", "official sample"),
    ("throughput, 8 callers", "official sample"),
    ("throughput, 64 callers", "official sample"),
)
"""The ratios of `benchmarks.client_speed` that a README has room for."""


def client_speed(found: Json) -> list[Table]:
    """`benchmarks.client_speed`; the last table is the first one in short."""
    ratios = {
        (row["what"], row["to"]): [text(row["what"]), text(row["to"]), spread(row["ratio"], good=row["met"]), _aim(row)]
        for name in ("import", "encode", "decode", "images", "calls", "throughput")
        for row in found[name]["rows"]
    }
    caption, columns = "Ratios: median (least to most) over the rounds", ("what", "against", "ratio", "aim")
    tables = [table(caption, columns, ratios.values())]
    times = [
        [text(where), text(case), number(each["p50"], 0, " µs"), number(each["p95"], 0, " µs")]
        for name in ("encode", "decode", "images", "calls")
        for where, case, each in _timed(name, found[name]["microseconds"])
    ]
    tables.append(table("The times behind them", ("what", "who", "p50", "p95"), times))
    measured = found["import"]["measured"]
    imports = [[text(who), spread(each["seconds"]), spread(each["mib"], 1)] for who, each in measured.items()]
    tables.append(table("Importing it", ("who", "seconds", "MiB of memory"), imports))
    per_second = found["throughput"]["per_second"]
    callers = list(next(iter(per_second.values())))
    rates = [[text(who), *(spread(each[n], 0) for n in callers)] for who, each in per_second.items()]
    tables.append(table("Calls a second, by callers", ("who", *callers), rates))
    tables.append(table("The ratios, in short", columns, [ratios[key] for key in _IN_SHORT if key in ratios]))
    return tables


def _aim(row: Json) -> Cell:
    if row["aim"] is None:
        return Cell("-")
    return Cell(f"at {'least' if row['more_is_better'] else 'most'} {row['aim']:g}", (row["aim"],))


def _timed(name: str, found: Json) -> Iterable[tuple[str, str, Json]]:
    for key, each in found.items():
        if "p50" in each:
            yield name, key, each
        else:
            yield from ((f"{name}, {key}", who, times) for who, times in each.items())


_SERVER_IN_SHORT: Final = frozenset(
    {
        "added at batch 1, 1 caller, median, ms",
        "of which an empty gRPC call, ms",
        "throughput, server / in-process, 8 callers",
        "throughput, batching server / in-process at its batch size, 8 callers",
    }
)
"""The figures of `benchmarks.server_speed` that a README has room for."""


def server_speed(found: Json) -> list[Table]:
    """`benchmarks.server_speed`; the second table is the first one in short."""
    rows = [[text(what), spread(ratio)] for what, ratio in found["ratios"].items()]
    caption = f"Model {found['model']}, {found['request_bytes']:,} bytes a request: median (least to most)"
    columns = ("what", "figure")
    short = [row for row in rows if row[0].shown in _SERVER_IN_SHORT]
    return [table(caption, columns, rows), table(f"{caption}, in short", columns, short)]


def memory(found: Json) -> list[Table]:
    """`benchmarks.server_memory`."""
    loads, calls = found["loads_mb"], found["calls_mb"]
    rows = [
        [
            text(f"{len(loads)} hot loads"),
            number(found["growth_over_loads_mb"], 2, " MB"),
            number(max(loads), 1, " MB"),
            Cell("-"),
        ],
        [
            text("calls"),
            number(found["growth_over_calls_mb"], 2, " MB"),
            number(max(calls), 1, " MB"),
            number(found["calls_per_second"], 0),
        ],
    ]
    columns = ("over", "growth from the second to the last quarter", "most", "calls a second")
    return [table("Resident memory of the embedded server", columns, rows)]


def rollout(found: Json) -> list[Table]:
    """`benchmarks.rollout_plot`."""
    counted = [
        ("replicas", number(found["replicas"], 0)),
        ("calls", number(found["calls"], 0)),
        ("calls a second", number(found["calls_per_second"], 0)),
        ("failed calls", number(found["failed_calls"], 0, good=found["failed_calls"] == 0)),
        ("answers of a wrong version", number(found["wrong_answers"], 0, good=found["wrong_answers"] == 0)),
        ("latency, p50", number(found["p50_ms"], 1, " ms")),
        ("latency, p99", number(found["p99_ms"], 1, " ms")),
    ]
    acts = [
        [
            text(act["name"]),
            text(act["ended"]),
            number(act["seconds"], 1, " s"),
            number(act["rollback_s"], 1, " s"),
            text(act["findings"][0] if act["findings"] else None),
        ]
        for act in found["acts"]
    ]
    columns = ("version", "ended", "took", "rolled back in", "first finding")
    return [
        table("What the callers noticed", ("what", "figure"), [[text(name), cell] for name, cell in counted]),
        table("What became of each version", columns, acts),
    ]


def anything(found: Any) -> list[Table]:
    """A JSON that no part of the report knows: its figures, by their place."""
    return [table("Its figures", ("where", "value"), [[text(where), cell] for where, cell in _leaves(found, "")])]


def _leaves(found: Any, where: str) -> Iterable[tuple[str, Cell]]:
    if isinstance(found, dict):
        for key, value in found.items():
            yield from _leaves(value, f"{where}.{key}" if where else str(key))
    elif isinstance(found, list):
        if len(found) > 20 and not any(isinstance(item, (dict, list)) for item in found):
            yield where, text(f"{len(found)} values")
        else:
            for position, value in enumerate(found):
                yield from _leaves(value, f"{where}[{position}]")
    elif isinstance(found, (int, float)) and not isinstance(found, bool):
        yield where, Cell(f"{found:,.4g}" if isinstance(found, float) else f"{found:,}", (found,))
    else:
        yield where, text(found)
