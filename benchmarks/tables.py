"""The results as the Markdown tables of benchmarks/FIGURES.md.

    python -m benchmarks.tables NAME

NAME is a file of results/ without its extension. Each row is a record, each column one of its figures.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from benchmarks._report import RESULTS, markdown, parser

TABLES: Final[Mapping[str, Sequence[str]]] = {
    "compare": ["models"],
    "fusion_accuracy": ["models"],
    "client_speed": [f"{each}/rows" for each in ("import", "encode", "decode", "images", "calls", "throughput")],
    "embed_explain": [""],
    "large_model": ["models", "trainings", "versions", "latencies"],
    "rollout": ["", "acts"],
    "server_speed_demo": ["ratios"],
    "server_speed_reference": ["ratios"],
}
"""By name: where the records are in the JSON; "" is the whole file, as a table of two columns."""

_LEFT_OUT: Final = ("when", "at_s", "run", "pairs")


def tables(name: str, found: Mapping[str, Any]) -> str:
    """The tables of one result."""
    return "\n\n".join(_table(found, where) for where in TABLES[name])


def _table(found: Any, where: str) -> str:
    for key in filter(None, where.split("/")):
        found = found[key]
    if isinstance(found, dict):
        return markdown([["what", "figure"], *([name, text] for name, text in _figures(found))])
    records = [dict(_figures(each)) for each in found]
    columns = list(dict.fromkeys(name for record in records for name in record))
    return markdown([columns, *([record.get(name, "-") for name in columns] for record in records)])


def _figures(record: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Headings and cells. Nested figures give one cell each; curves are left out."""
    for key, value in record.items():
        name = f"{before} {key}".strip().replace("_", " ")
        if key in _LEFT_OUT or value is None or isinstance(value, bool):
            continue
        if isinstance(value, dict) and value.keys() == {"median", "least", "most"}:
            yield name, "{median:,.4g} ({least:,.4g} to {most:,.4g})".format(**value)
        elif isinstance(value, dict) and value.keys() == {"value", "low", "high"}:
            sign = "+" if "gain" in name else ""
            yield name, "{value:{s}.1%} ({low:{s}.1%} to {high:{s}.1%})".format(s=sign, **value)
        elif isinstance(value, dict):
            yield from _figures(value, name)
        elif isinstance(value, str):
            yield name, value
        elif isinstance(value, (int, float)):
            yield name, f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
        elif name == "findings":
            yield "first finding", value[0] if value else "-"


def main(arguments: Sequence[str] | None = None) -> int:
    made = parser(__doc__)
    made.add_argument("name", choices=sorted(TABLES))
    options = made.parse_args(arguments)
    print(tables(options.name, json.loads((RESULTS / f"{options.name}.json").read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
