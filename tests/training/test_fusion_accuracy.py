"""The benchmark of fusions: the same rows for every model within a seed, and nothing is trained twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import fusion_accuracy
from benchmarks.fusion_accuracy import Collected, collect, parse
from export.dataset.data import Arrays, Dataset
from export.dataset.rows import Row
from export.training.presets import Preset


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, frozenset[str]]]:
    """What was trained: the fusion, the seed, and the groups that were held out."""
    rows = [
        Row(n, Path(f"{n}.png"), f"text {n}", "ab"[n % 2], ("train", "test")[n > 35], f"g{n // 4}") for n in range(40)
    ]
    dataset, calls = Dataset(tuple(rows), ("a", "b"), "digest"), []

    def train(data: Dataset, seed: int, fusion: str, preset: Preset) -> dict[str, Any]:
        calls.append((fusion, seed, frozenset(row.group for row in data.select("test"))))
        return {"seconds": 1.0, "test": {"accuracy": 0.5}, "seed": seed, "fusion": fusion}

    monkeypatch.setattr(fusion_accuracy, "_train", train)
    monkeypatch.setattr(fusion_accuracy, "load_dataset", lambda folder, progress: dataset)
    return calls


def run(folder: Path, *words: str) -> Collected | None:
    options = "--seeds", "3", "--work", f"{folder}/work/trainings.json", "--out", f"{folder}/out"
    return collect(parse(["data", *options, "--fusions", "text_only", "concat", *words]))


def test_models_of_a_seed_share_their_rows_and_seeds_do_not(trained: list[Any], tmp_path: Path) -> None:
    found = run(tmp_path)
    assert found and [name for name, *_ in trained] == ["text_only", "concat"] * 3
    held_out = {seed: {groups for _, each, groups in trained if each == seed} for seed in range(3)}
    assert all(len(groups) == 1 for groups in held_out.values()), "paired"
    assert len(set().union(*held_out.values())) == 3
    assert [len(rows) for rows in found.groups] == [len(data.select("test")) for data in found.splits.values()]
    assert [each["seed"] for each in found.trainings["concat"]] == [0, 1, 2]


def test_a_stopped_run_resumes(trained: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(tmp_path, "--most", "4") is None and len(trained) == 4
    assert not (tmp_path / "out").exists()
    assert run(tmp_path, "--most", "0") is None and len(trained) == 4
    found = run(tmp_path)
    assert found and len(trained) == 6 == len(set(trained))
    assert json.loads((tmp_path / "work" / "trainings.json").read_text())
    assert run(tmp_path) == found and len(trained) == 6
    run(tmp_path, "--seeds", "4")
    assert len(trained) == 8, "more seeds take only what they add"


def test_other_settings_are_another_training(trained: list[Any], tmp_path: Path) -> None:
    run(tmp_path, "--fusions", "concat")
    run(tmp_path, "--fusions", "concat", "--preset", "compact")
    assert len(trained) == 3
    run(tmp_path, "--fusions", "concat", "--preset", "reference")
    assert len(trained) == 6
    run(tmp_path, "--fusions", "concat", "--epochs", "1")
    assert len(trained) == 9


def test_the_split_of_the_manifest_can_stay(trained: list[Any], tmp_path: Path) -> None:
    run(tmp_path, "--keep-split")
    assert {groups for *_, groups in trained} == {frozenset({"g9"})}


class ByPicture:
    """A model that answers by the brightness of the picture, whatever the text says."""

    def predict(self, inputs: dict[str, Any], **options: Any) -> Any:
        return np.eye(2)[inputs["image"].mean(axis=(1, 2, 3)).astype(int)]


def test_an_input_that_does_not_count_can_be_shuffled() -> None:
    classes = np.arange(200) % 2
    images = np.broadcast_to(classes[:, None, None, None], (200, 2, 2, 3)).astype(np.uint8)
    arrays = Arrays(images, np.zeros((200, 8), np.int32), np.eye(2)[classes])
    found = fusion_accuracy._shuffled(ByPicture(), arrays, 5)
    assert found["text_shuffled"] == 1, "by the picture alone"
    assert found["image_shuffled"] == pytest.approx(0.5, abs=0.1), "by chance"
