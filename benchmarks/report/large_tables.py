"""What `benchmarks.large_model` says as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.report.tables import Cell, Table, number, spread, table, text

__all__ = ["large"]

Json = Mapping[str, Any]
Column = tuple[str, str, int, str]
"""Heading, key, digits and unit."""

_MODELS: Sequence[Column] = (
    ("parameters", "parameters", 0, ""),
    ("pixels", "image_size", 0, ""),
    ("tokens", "token_length", 0, ""),
    ("epochs", "epochs", 0, ""),
    ("held out", "accuracy", 3, ""),
    ("trained in", "train_seconds", 0, " s"),
    ("run", "run_gb", 2, " GB"),
)
_TRAININGS: Sequence[Column] = (
    ("a batch", "step_seconds", 3, " s"),
    ("rows a second", "rows_per_second", 1, ""),
    ("cores at work", "cores", 2, ""),
    ("CPU a row", "cpu_ms_per_row", 1, " ms"),
    ("most memory", "peak_gb", 2, " GB"),
    ("checkpoint", "checkpoint_gb", 3, " GB"),
    ("written in", "checkpoint_seconds", 2, " s"),
)
_EXPORTS: Sequence[Column] = (
    ("variables", "variables_mb", 2, " MB"),
    ("graph", "graph_mb", 2, " MB"),
    ("run loaded in", "load_run_seconds", 1, " s"),
    ("exported in", "export_seconds", 0, " s"),
    ("of which the gate", "gate_seconds", 0, " s"),
    ("most memory", "export_peak_gb", 2, " GB"),
)
_COSTS: Sequence[Column] = (
    ("most a probability is off", "difference", 4, ""),
    ("same class", "agreement", 3, ""),
    ("held out", "accuracy", 3, ""),
    ("the Keras model", "keras_accuracy", 3, ""),
)
_SERVERS: Sequence[Column] = (
    ("loads in", "load_seconds", 1, " s"),
    ("memory of the model", "memory_gb", 2, " GB"),
    ("server ready in", "ready_seconds", 0, " s"),
    ("memory of the server", "server_gb", 2, " GB"),
    ("most, with calls", "server_peak_gb", 2, " GB"),
)


def large(found: Json) -> list[Table]:
    """Models, ways to train, versions by their weights, and their calls."""
    versions, packed = found["versions"], [each for each in found["versions"] if each["difference"] is not None]
    return [
        _table(f"What was trained ({found['machine']})", ("preset",), found["models"], _MODELS),
        _table("Ways to train", ("preset", "way"), found["trainings"], _TRAININGS),
        _table("Exports", ("preset", "weights"), versions, _EXPORTS),
        _table("What the weights cost, on the held-out rows", ("preset", "weights"), packed, _COSTS),
        _table("Served", ("preset", "weights"), versions, _SERVERS),
        _calls(found["latencies"]),
    ]


def _table(caption: str, names: Sequence[str], records: Sequence[Json], columns: Sequence[Column]) -> Table:
    rows = [
        [
            *(text(record[name]) for name in names),
            *(number(record.get(key), digits, unit) for _, key, digits, unit in columns),
        ]
        for record in records
    ]
    return table(caption, (*names, *(heading for heading, *_ in columns)), rows)


def _calls(latencies: Sequence[Json]) -> Table:
    rows = [
        [
            *(text(each[name]) for name in ("preset", "weights", "where", "rows")),
            _milliseconds(each["ms"]),
            spread(each["to_float32"]),
        ]
        for each in sorted(latencies, key=lambda each: (each["preset"] != "large", each["where"], each["rows"]))
    ]
    return table("A call", ("preset", "weights", "where", "rows", "ms", "against float32"), rows)


def _milliseconds(found: Mapping[str, float]) -> Cell:
    return spread(found, 1)
