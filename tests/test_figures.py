"""benchmarks/FIGURES.md has every table of the stored results."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks import graph_speed, whole_path
from benchmarks._report import RESULTS
from benchmarks.tables import TABLES, main

FIGURES = RESULTS.with_name("FIGURES.md")


@pytest.mark.parametrize("name", TABLES)
def test_the_document_has_the_figures_of_the_results(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name]) == 0
    printed = capsys.readouterr().out.split("\n\n")
    text = FIGURES.read_text(encoding="utf-8")
    assert all(len(table.splitlines()) > 2 for table in printed)
    assert [table for table in printed if table.strip() not in text] == []


@pytest.mark.parametrize(("name", "tables"), [("graph_speed", graph_speed.tables), ("whole_path", whole_path.table)])
def test_the_document_has_the_tables_that_commands_print(name: str, tables: Callable[[Any], str]) -> None:
    text, found = (
        FIGURES.read_text(encoding="utf-8"),
        json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8")),
    )
    assert [table for table in tables(found).split("\n\n") if table.strip() not in text] == []


def test_every_result_in_the_repository_is_quoted() -> None:
    ours = {"graph_speed", "whole_path"}  # print their tables themselves
    assert {path.stem for path in RESULTS.glob("*.json")} <= TABLES.keys() | ours
    for path in RESULTS.glob("*.json"):
        json.loads(path.read_text(encoding="utf-8"))
    quoted = "".join(path.read_text(encoding="utf-8") for path in (FIGURES, *RESULTS.parents[1].glob("*/*.md")))
    quoted += (RESULTS.parents[1] / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in RESULTS.glob("*.png") if path.name not in quoted] == []
