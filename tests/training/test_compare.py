"""`python -m export compare`: every kind of candidate is measured as it is served."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from tensorflow.core.protobuf import saved_model_pb2

import export.selection.candidates
import export.selection.compare
from export.cli import main
from export.dataset.data import Dataset, load_dataset
from export.errors import ExportError
from export.publish.savedmodel import Published
from export.selection.budget import Budget
from export.selection.candidates import Candidate, parse_candidates, prepare
from export.selection.compare import Comparison, Measured, choose, compare
from export.selection.report import summary, table
from export.selection.served import ServedModel
from export.selection.statistics import Bin, Interval, gain
from export.training.run import TrainedModel

OPTIONS: dict[str, Any] = {"seed": 0, "epochs": 1, "progress": False}


def relabelled(folder: Path, to: Path, old: str, new: str) -> Path:
    """A copy of the data with another manifest."""
    shutil.copytree(folder, to)
    manifest = (to / "manifest.csv").read_text(encoding="utf-8")
    (to / "manifest.csv").write_text(manifest.replace(old, new), encoding="utf-8")
    return to


@pytest.fixture(scope="module")
def run(trained_optional: TrainedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "first"
    trained_optional.save(folder)
    return folder


@pytest.fixture(scope="module")
def out(squares: Path, run: Path, published_optional: Published, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a comparison of all kinds of candidates has written."""
    folder = tmp_path_factory.mktemp("compared")
    candidates = [str(run), str(published_optional.path), "text_only"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export.selection.compare, "_ROUNDS", 1)
        patch.setattr(export.selection.compare, "_SLICE", 0.05)
        assert main(["compare", str(squares), *candidates, "--epochs", "1", "--out", str(folder), "--json"]) == 0
    return folder


@pytest.fixture
def figures(out: Path) -> dict[str, Any]:
    return json.loads((out / "compare.json").read_bytes())


def test_all_kinds_of_candidates_are_measured(
    figures: dict[str, Any], trained_optional: TrainedModel, run: Path, published_optional: Published
) -> None:
    models, facts = {model["name"]: model for model in figures["models"]}, trained_optional.facts
    assert set(models) == {str(run), str(published_optional.path), "text_only"}
    for path in (run, published_optional.path):
        one = models[str(path)]
        assert one["quality"]["value"] == pytest.approx(facts["metrics"]["accuracy"])
        assert one["loss"] == pytest.approx(facts["metrics"]["loss"], abs=1e-5)
        for name in ("image", "text"):
            assert one["without"][name]["value"] == pytest.approx(facts["missing"][name]["accuracy"])
        assert one["parameters"] == trained_optional.model.count_params()
        assert one["size"] > 4 * one["parameters"] and one["memory"] > 0 < one["throughput"]
        assert 0 < one["latency"]["1"]["p50"] <= one["latency"]["1"]["p95"]
        assert sum(each["rows"] for each in one["bins"]) == figures["rows"] == 9
        assert one["same_data"] is True


def test_the_single_input_is_the_yardstick_and_the_order_is_by_accuracy(figures: dict[str, Any]) -> None:
    assert figures["yardstick"] == "text_only"
    gains = {model["name"]: model["gain"] for model in figures["models"]}
    accuracies = {model["name"]: model["quality"]["value"] for model in figures["models"]}
    assert list(accuracies.values()) == sorted(accuracies.values(), reverse=True)
    for name, found in gains.items():
        assert (
            found is None
            if name == "text_only"
            else found["value"] == pytest.approx(accuracies[name] - accuracies["text_only"])
        )


def test_a_faster_model_is_chosen_only_if_it_is_as_accurate() -> None:
    groups = [str(row) for row in range(100)]
    best = np.arange(100) < 75
    nearly = (np.arange(100) < 70) | (np.arange(100) >= 96)  # 1 point behind: 5 rows lost, 4 won
    behind = (np.arange(100) < 50) | (np.arange(100) >= 84)  # 9 points behind: 25 rows lost, 16 won
    assert gain([best], [behind], [groups]).low < 0, "it may be chance"
    near = [gain([best], [other], [groups]).within_an_error for other in (best, nearly, behind)]
    assert near == [True, True, False]
    assert choose(near, [3.0, 2.0, 1.0]) == 1
    assert choose(near, [2.0, 3.0, 1.0]) == 0
    assert choose([True, True], [2.0, 1.0]) == 1


def test_the_outcome_is_kept_as_figures_and_plot(out: Path) -> None:
    assert sorted(path.name for path in out.iterdir()) == ["compare.json", "compare.png", "runs"]
    assert (out / "compare.png").read_bytes().startswith(b"\x89PNG")


def test_a_second_comparison_trains_only_what_has_changed(
    out: Path, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepared(**changes: Any) -> object:
        options = {**OPTIONS, "runs": out / "runs", "budget": Budget(None), **changes}
        return prepare(Candidate("text_only", preset="compact", fusion="text_only"), dataset, tmp_path, **options)

    class TrainsError(Exception):
        pass

    def fail(*_: object, **__: object) -> None:
        raise TrainsError

    monkeypatch.setattr(export.selection.candidates, "train", fail)
    assert prepared() is not None
    for changed in ({"seed": 1}, {"epochs": 2}, {"runs": None}):
        with pytest.raises(TrainsError):
            prepared(**changed)
    spent = Budget(60)
    spent.spend(50)
    assert prepared(seed=1, budget=spent) is None
    assert prepared(budget=spent) is not None, "what is there costs nothing"


def test_a_model_of_other_data_is_marked(run: Path, squares: Path, tmp_path: Path) -> None:
    changed = load_dataset(relabelled(squares, tmp_path / "data", "a red tile", "one red tile"))
    (tmp_path / "scratch").mkdir()
    options = {**OPTIONS, "runs": None, "budget": Budget(None)}
    found = prepare(Candidate("mine", run), changed, tmp_path / "scratch", **options)
    assert found is not None and found.same_data is False


def test_the_report_has_notes() -> None:
    def model(name: str, accuracy: float, **changes: Any) -> Measured:
        known: dict[str, Any] = {
            "quality": Interval(accuracy, accuracy - 0.1, accuracy + 0.1),
            "gain": Interval(0.05, -0.01, 0.11),
            "without": {},
            "loss": 0.7,
            "calibration_error": 0.05,
            "bins": [Bin(0.8, 0.75, 10)],
            "parameters": 1234,
            "size": 5_600_000,
            "memory": 78_000_000,
            "load_seconds": 0.1,
            "latency": {1: {"p50": 1.5, "p95": 2.5}, 32: {"p50": 10.0, "p95": 12.0}},
            "throughput": 3210.0,
            "train_seconds": 60.0,
            "same_data": True,
        }
        return Measured(name, **{**known, **changes})

    models = (
        model("both", 0.8, without={"text": Interval(0.6, 0.5, 0.7)}),
        model("old", 0.7, same_data=False),
        model("found", 0.6, same_data=None, parameters=None),
        model("image_only", 0.55, gain=None),
    )
    comparison = Comparison("accuracy", models, "image_only", "both", ("attention",), 10, "digest")
    head, first, *_, last = table(comparison).splitlines()
    assert "AGAINST image_only" in head and "NO TEXT" in head
    for figure in ("80.0% (70.0% to 90.0%)", "+5.0 (-1.0 to +11.0)", "60.0%", "1,234", "5.6 MB", "1.5 2.5 ms", "3,210"):
        assert figure in first
    assert last.startswith("image_only") and "+" not in last
    said = summary(comparison)
    assert "Note: old was trained on other data" in said and "Note: the training data of found is unknown" in said
    assert "both" in said and "the budget was used up: attention" in said


def test_a_budget_is_spent_once() -> None:
    budget = Budget(100)
    assert budget.fits(), "how long the first takes nobody knows"
    budget.spend(30)
    assert budget.fits() and budget.left == 70
    budget.spend(45)
    assert not budget.fits() and budget.fits(0.5), "a half of the longest, 45 s, would fit in 25"
    budget.spend(60, share=0.5)
    assert budget.left == 0 and not budget.fits(0.01)


def test_an_invalid_candidate_is_refused(dataset: Dataset, run: Path) -> None:
    assert parse_candidates(["concat", "reference/concat", str(run)], preset="compact") == [
        Candidate("concat", preset="compact", fusion="concat"),
        Candidate("reference/concat", preset="reference", fusion="concat"),
        Candidate(str(run), run),
    ]
    for wrong in ("sum", "huge/concat", str(run.parent)):
        with pytest.raises(ExportError, match=f"Expected a candidate .* Received: '{wrong}'"):
            parse_candidates([wrong], preset="compact")
    with pytest.raises(ExportError, match="once"):
        parse_candidates(["concat", "concat"], preset="compact")
    with pytest.raises(ExportError, match="at least one candidate"):
        compare(dataset, [])


def test_an_error_in_the_process_is_reported(published_optional: Published, squares: Path, tmp_path: Path) -> None:
    changed = load_dataset(relabelled(squares, tmp_path / "data", ",red,", ",scarlet,"))
    with ServedModel(published_optional.path) as served:
        with pytest.raises(ExportError, match=r"Expected .* to fit the data. Received: (.|\n)*label 'scarlet'"):
            served.answers(changed.select("test"))
        for child in psutil.Process().children(recursive=True):
            if "spawn_main" in " ".join(child.cmdline()):
                child.kill()
        with pytest.raises(ExportError, match="Expected the process that measures"):
            served.latencies(1, 0.1)


def test_a_version_without_the_output_of_its_spec_is_refused(
    published_optional: Published, dataset: Dataset, tmp_path: Path
) -> None:
    file = shutil.copytree(published_optional.path, tmp_path / "1") / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    outputs = model.meta_graphs[0].signature_def["serving_default"].outputs
    outputs["classes"].CopyFrom(outputs["probabilities"])
    del outputs["probabilities"]
    file.write_bytes(model.SerializeToString())
    with ServedModel(tmp_path / "1") as served:
        expected = r"serving_default: expected the output 'probabilities'. Received: \['classes'"
        with pytest.raises(ExportError, match=expected):
            served.answers(dataset.select("test"))
