"""`train --search` chooses by rows taken out of the training rows, and ends in time."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import export.selection.search
import export.training.cli
from export.cli import main
from export.dataset.data import Dataset
from export.errors import ExportError
from export.selection.search import grid, search, table
from export.training.presets import PRESETS, Preset
from export.training.run import TrainedModel

PRESET = PRESETS["compact"]
FUSIONS = ("concat", "weighted_sum", "attention")  # a search of 12 settings, whatever other fusions there are


class Trainings:
    """Stands in for `train`: accuracy as a function of the setting, seconds on its own clock."""

    def __init__(self, accuracy: Callable[[str, Preset], float], seconds_an_epoch: float) -> None:
        self.calls: list[tuple[Dataset, str, Preset, int | None]] = []
        self.now = 0.0
        self._accuracy = accuracy
        self._seconds = seconds_an_epoch

    def __call__(self, dataset: Dataset, *, preset: Preset, fusion: str, epochs: int | None = None, **_: Any) -> Any:
        self.calls.append((dataset, fusion, preset, epochs))
        self.now += (epochs or preset.epochs) * self._seconds
        return SimpleNamespace(facts={"metrics": {"accuracy": self._accuracy(fusion, preset), "loss": 1.0}})

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    """Attention at half the learning rate is best; an epoch takes a second."""
    found = Trainings(lambda fusion, preset: 0.5 + 0.1 * (fusion == "attention") - 10 * preset.learning_rate, 1.0)
    monkeypatch.setattr(export.selection.search, "train", found)
    monkeypatch.setattr(export.selection.search, "time", found)
    return found


def test_the_best_continues_and_is_trained_on_all_rows(trainings: Trainings, dataset: Dataset) -> None:
    settings = grid(PRESET, FUSIONS)
    facts = search(dataset, settings).facts["search"]
    assert len(settings) == 12
    assert [epochs for *_, epochs in trainings.calls] == [6] * 12 + [12] * 4 + [None]
    last, fusion, preset, _ = trainings.calls[-1]
    assert last is dataset and (fusion, preset.learning_rate) == ("attention", PRESET.learning_rate / 2)
    assert facts["tried"][0]["fusion"] == "attention" and len(facts["tried"]) == 12
    assert [len(each["qualities"]) for each in facts["tried"]] == [2] * 4 + [1] * 8
    assert len(table(facts).splitlines()) == 13


def test_the_held_out_rows_take_no_part_and_groups_stay_whole(trainings: Trainings, dataset: Dataset) -> None:
    dataset = dataclasses.replace(
        dataset, rows=tuple(dataclasses.replace(row, group=str(row.line // 2)) for row in dataset.rows)
    )
    search(dataset, grid(PRESET, ["concat"]))
    inner = {id(given): given for given, *_ in trainings.calls[:-1]}
    (given,) = inner.values()
    lines = {split: {row.line for row in given.select(split)} for split in ("train", "test")}
    assert lines["train"] | lines["test"] == {row.line for row in dataset.select("train")}
    assert len(lines["test"]) >= 6 and not {line // 2 for line in lines["test"]} & {
        line // 2 for line in lines["train"]
    }
    assert given.digest != dataset.digest and given.labels == dataset.labels


@pytest.mark.parametrize("budget", [31, 60, 100, 200])
def test_it_ends_in_time_with_a_full_training(trainings: Trainings, dataset: Dataset, budget: float) -> None:
    """A full training takes 24 seconds; the first one of the search takes 6 whatever the budget is."""
    facts = search(dataset, grid(PRESET, FUSIONS), budget=budget).facts["search"]
    assert trainings.now <= budget and facts["seconds"] == trainings.now
    assert trainings.calls[-1][-1] is None
    assert len(facts["tried"]) >= 1 and (len(facts["tried"]) == 12) == (budget >= 100)


def test_nothing_to_choose_by_is_refused(trainings: Trainings, dataset: Dataset) -> None:
    with pytest.raises(ExportError, match="at least one setting"):
        search(dataset, [])
    one = dataclasses.replace(
        dataset, rows=tuple(dataclasses.replace(row, group=row.label + row.split) for row in dataset.rows)
    )
    with pytest.raises(ExportError, match="to set some aside"):
        search(one, grid(PRESET, ["concat"]))


@pytest.mark.slow
def test_the_command_searches_reports_and_keeps_the_best(
    squares: Path, small: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(export.training.cli, "PRESETS", {"compact": small})
    monkeypatch.setattr(export.selection.search, "KNOBS", {"learning_rate": lambda usual: (1e-6, usual)})
    arguments = ["train", str(squares), "--out", str(tmp_path / "run"), "--fusion", "concat", "--search"]
    assert main([*arguments, "--epochs", "4", "--budget", "1h"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[0].split() == ["FUSION", "LEARNING", "RATE", "ROUND", "1", "ROUND", "2"]
    assert "Training the best on all rows" in said.err
    facts = TrainedModel.load(tmp_path / "run").facts
    assert facts["search"] == json.loads(json.dumps(facts["search"]))
    assert facts["settings"]["learning_rate"] == small.learning_rate and facts["rows"] == {"train": 45, "test": 9}


def test_a_budget_without_a_search_is_wrong_usage() -> None:
    with pytest.raises(SystemExit) as caught:
        main(["train", "data", "--out", "run", "--budget", "10m"])
    assert caught.value.code == 2
