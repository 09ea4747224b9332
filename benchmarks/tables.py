"""The results as Markdown tables, as benchmarks/FIGURES.md has them.

    python -m benchmarks.tables NAME [--file FILE]

NAME is a file of results/ without its ending. A column is a heading and a format of the record's fields.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

RESULTS: Final = pathlib.Path(__file__).with_name("results")
Columns = Mapping[str, str]


def _spread(field: str, digits: int = 2) -> str:
    median, least, most = (f"{{{field}[{end}]:,.{digits}f}}" for end in ("median", "least", "most"))
    return f"{median} ({least} to {most})"


def _share(field: str, sign: str = "") -> str:
    value, low, high = (f"{{{field}[{end}]:{sign}.1%}}" for end in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


_MODEL: Final = {"model": "{name}", "held out": _share("accuracy"), "against the yardstick": _share("gain", "+")}
_TRAINED: Final = {"training rows": "{train_accuracy:.1%}", "trained in": "{seconds:.0f} s"}
_USES: Final = {
    "model": "{name}",
    **{
        f"right by the {one}, {rows}": f"{{right_by[{which}][{key}]:.1%}}"
        for key, one in (("text", "text"), ("image", "image"))
        for which, rows in (("train", "training rows"), ("test", "held out"))
    },
}
_RATIOS: Final = {"what": "{what}", "against": "{to}", "ratio": _spread("ratio"), "aim": "{aim}"}
_VERSION: Final = {"preset": "{preset}", "weights": "{weights}"}

TABLES: Final[Mapping[str, Sequence[tuple[str, Columns]]]] = {
    "compare": [
        (
            "models",
            {
                "model": "{name}",
                "accuracy (95 %)": _share("accuracy"),
                "against the yardstick": _share("gain", "+"),
                "calibration error": "{calibration_error:.3f}",
                "loss": "{loss:.3f}",
                "weights": "{parameters:,}",
                "loads in": "{load_seconds:.1f} s",
                "trained in": "{train_seconds:.0f} s",
                "1 row, p50": "{latency[1][p50]:.1f} ms",
                "32 rows, p50": "{latency[32][p50]:.1f} ms",
                "rows a second": "{throughput:,.0f}",
            },
        )
    ],
    "fusion_accuracy": [
        ("models", {**_MODEL, "by the bootstrap": _share("gain_bootstrap", "+"), **_TRAINED}),
        ("models", _USES),
    ],
    "fusion_ablation": [
        ("models", {"training": "{name}", "held out": "{accuracy:.1%}", **dict([*_MODEL.items()][2:]), **_TRAINED}),
        ("models", _USES),
        (
            "models",
            {
                "how far it moves the logits": "{name}",
                "the text": "{loudness[text]:.2f}",
                "the image": "{loudness[image]:.2f}",
                "text over image": "{loudness[text_over_image]:.2f}",
            },
        ),
    ],
    "client_speed": [
        *((f"{name}/rows", _RATIOS) for name in ("import", "encode", "decode", "images", "calls", "throughput")),
        ("import/measured", {"import": "{}", "seconds": _spread("seconds"), "MiB of memory": _spread("mib", 1)}),
    ],
    "embed_explain": [
        (
            "",
            {
                "class predicted right": "{predicted_class_right:.1%}",
                "nearest training pair is of its class": "{nearest_of_its_class:.1%}",
                "a copy finds its original": "{copy_finds_original:.1%}",
                "probability of the class": "{probability:.1%}",
                "without the most relevant patches": "{without_most_relevant_patches:.1%}",
                "without random ones": "{without_random_patches:.1%}",
                "without the most relevant word": "{without_most_relevant_word:.1%}",
                "without a random one": "{without_random_word:.1%}",
                "explain against predict": _spread("explain_over_predict", 1),
            },
        )
    ],
    "large_model": [
        (
            "models",
            {
                "preset": "{preset}",
                "parameters": "{parameters:,}",
                "epochs": "{epochs}",
                "held out": "{accuracy:.3f}",
                "trained in": "{train_seconds:.0f} s",
            },
        ),
        (
            "trainings",
            {
                "preset": "{preset}",
                "way": "{way}",
                "a batch": "{step_seconds:.3f} s",
                "rows a second": "{rows_per_second:,.1f}",
                "CPU a row": "{cpu_ms_per_row:.1f} ms",
                "most memory": "{peak_gb:.2f} GB",
                "checkpoint": "{checkpoint_gb:.3f} GB",
            },
        ),
        (
            "versions",
            {
                **_VERSION,
                "variables": "{variables_mb:.2f} MB",
                "exported in": "{export_seconds:.0f} s",
                "a probability is off by": "{difference:.4f}",
                "same class": "{agreement:.3f}",
                "held out": "{accuracy:.3f}",
                "loads in": "{load_seconds:.1f} s",
                "memory": "{memory_gb:.2f} GB",
                "memory of the server": "{server_gb:.2f} GB",
            },
        ),
        (
            "latencies",
            {
                **_VERSION,
                "where": "{where}",
                "rows": "{rows}",
                "ms": _spread("ms", 1),
                "against float32": _spread("to_float32"),
            },
        ),
    ],
    "rollout": [
        (
            "",
            {
                "replicas": "{replicas}",
                "calls": "{calls:,}",
                "calls a second": "{calls_per_second:.0f}",
                "failed calls": "{failed_calls}",
                "answers of a wrong version": "{wrong_answers}",
                "p50": "{p50_ms:.1f} ms",
                "p99": "{p99_ms:.1f} ms",
            },
        ),
        (
            "acts",
            {
                "version": "{name}",
                "ended": "{ended}",
                "took": "{seconds:.1f} s",
                "rolled back in": "{rollback_s:.1f} s",
                "first finding": "{findings[0]}",
            },
        ),
    ],
    "server_memory": [
        (
            "",
            {
                "growth over the hot loads": "{growth_over_loads_mb:.2f} MB",
                "growth over the calls": "{growth_over_calls_mb:.2f} MB",
                "calls a second": "{calls_per_second:,.0f}",
            },
        )
    ],
    "server_speed_emoji": [("ratios", {"what": "{}", "figure": _spread("of")})],
    "server_speed_reference": [("ratios", {"what": "{}", "figure": _spread("of")})],
}
"""By name: where the records are in the JSON ("" is the whole), and their columns."""


def tables(name: str, found: Mapping[str, Any]) -> str:
    """The tables of one result."""
    return "\n\n".join(_table(columns, list(_records(found, where))) for where, columns in TABLES[name])


def _records(found: Any, where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Records with their names, where they have some outside."""
    for key in filter(None, where.split("/")):
        found = found[key]
    if not where:
        yield "", found
    elif isinstance(found, list):
        yield from (("", each) for each in found)
    else:
        yield from ((name, {"of": each, **each}) for name, each in found.items())


def _table(columns: Columns, records: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    lines = [list(columns), ["---"] * len(columns)]
    lines += [[_cell(form, name, record) for form in columns.values()] for name, record in records]
    lines = [line for line in lines if set(line[1:]) != {"-"}]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(form: str, name: str, record: Mapping[str, Any]) -> str:
    try:
        return form.format(name, **record) if form != "{aim}" or record["aim"] is not None else "-"
    except (KeyError, TypeError, IndexError):
        return "-"


def _numbered(fields: dict[str, Any]) -> dict[Any, Any]:
    """A format takes a number in brackets as a number."""
    return {int(key) if key.isdigit() else key: value for key, value in fields.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(TABLES))
    parser.add_argument("--file", type=pathlib.Path, help="default: results/NAME.json")
    options = parser.parse_args(arguments)
    path = options.file or RESULTS / f"{options.name}.json"
    found = json.loads(path.read_text(), object_hook=_numbered)
    print(tables(options.name, found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
