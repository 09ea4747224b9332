"""A kill, streaming, devices and accumulation do not change the result of a training."""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from export.cli import main
from export.dataset.data import Dataset, load_dataset
from export.dataset.rows import DataError
from export.errors import ExportError
from export.training import checkpoint as _checkpoint
from export.training.presets import PRESETS, Running
from export.training.run import TrainedModel
from export.training.train import train
from tests import forked
from tests.training.conftest import SMALL, make_squares
from tests.training.running import FEW_EPOCHS, WITHOUT_CHANCE

Arrays = list[np.ndarray]
ROOT = Path(__file__).parents[2]


def in_another_process(folder: Path, out: Path, **options: Any) -> int:
    command = [sys.executable, "-m", "tests.training.running", str(folder), str(out), json.dumps(options)]
    return forked.run(command, cwd=ROOT).returncode


def same(one: Arrays, other: Arrays) -> None:
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.fixture(scope="module")
def whole(dataset: Dataset) -> TrainedModel:
    """Trained in one go, in memory, in float32."""
    return train(dataset, preset=FEW_EPOCHS, seed=3)


def test_a_killed_training_resumes_to_the_same_weights(squares: Path, whole: TrainedModel, tmp_path: Path) -> None:
    state, out = tmp_path / "state", tmp_path / "weights.npz"
    options = {"checkpoint": str(state)}
    assert in_another_process(squares, out, **options, kill_in_write=9) == -signal.SIGKILL
    assert not out.exists()
    with np.load(state) as kept:
        step = json.loads(str(kept["record"]))["step"]
    assert step == 8, "in the second epoch of six steps"
    assert in_another_process(squares, out, **options) == 0
    with np.load(out) as found:
        assert json.loads(str(found["history"])) == whole.facts["history"]
        same([found[f"arr_{number}"] for number in range(len(found.files) - 1)], whole.model.get_weights())


@pytest.mark.parametrize(
    ("stop", "options"),
    [
        (6, {"stream": True}),
        (7, {"precision": "float16", "accumulate": 4}),
    ],
    ids=["after-an-epoch", "while-gradients-add-up"],
)
def test_it_resumes_wherever_it_was_stopped(
    dataset: Dataset,
    whole: TrainedModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop: int,
    options: dict[str, Any],
) -> None:
    given = {"preset": FEW_EPOCHS, "fusion": "image_only", "seed": 3}  # the quickest to build
    run = Running(**options, checkpoint=tmp_path / "state", checkpoint_every=0.0)
    write = _checkpoint.Checkpoint.write

    def stopping(self: _checkpoint.Checkpoint) -> None:
        write(self)
        if self.step == stop:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_checkpoint.Checkpoint, "write", stopping)
        with pytest.raises(KeyboardInterrupt):
            train(dataset, **given, run=run)
    went_on = train(dataset, **given, run=run)
    in_one_go = train(dataset, **given, run=Running(**{**options, "stream": False}))
    same(went_on.model.get_weights(), in_one_go.model.get_weights())
    assert went_on.facts["history"] == in_one_go.facts["history"]


def test_a_completed_training_is_not_repeated_and_another_is_refused(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Running(checkpoint=tmp_path / "state")
    preset = dataclasses.replace(FEW_EPOCHS, epochs=1)
    done = train(dataset, preset=preset, fusion="image_only", run=run)
    monkeypatch.setattr(keras.Model, "train_step", lambda *_: pytest.fail("a step more"))
    same(train(dataset, preset=preset, fusion="image_only", run=run).model.get_weights(), done.model.get_weights())
    with pytest.raises(
        ExportError, match=r"of this training .* epochs 1, now 2; precision 'float32', now 'bfloat16'; seed 0, now 4"
    ):
        other = dataclasses.replace(run, precision="bfloat16")
        train(dataset, preset=FEW_EPOCHS, fusion="image_only", seed=4, run=other)
    (tmp_path / "state").write_bytes((tmp_path / "state").read_bytes()[:-200])
    with pytest.raises(ExportError, match="to be a whole checkpoint"):
        train(dataset, preset=preset, fusion="image_only", run=run)


def test_batches_that_are_added_up_are_one_of_their_size(dataset: Dataset) -> None:
    plain = dataclasses.replace(
        PRESETS["reference"], image_size=16, filters=(4, 4), embedding=4, text_units=4, width=4, epochs=2, batch_size=45
    )
    whole = train(dataset, preset=plain, fusion="image_only")
    thirds = train(
        dataset, preset=dataclasses.replace(plain, batch_size=15), fusion="image_only", run=Running(accumulate=3)
    )
    for one, other in zip(whole.model.get_weights(), thirds.model.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_two_devices_learn_what_one_learns(squares: Path, dataset: Dataset, tmp_path: Path) -> None:
    one = train(dataset, preset=WITHOUT_CHANCE, fusion="image_only", seed=3)
    assert in_another_process(squares, tmp_path / "two.npz", devices=2, without_chance=True) == 0
    with np.load(tmp_path / "two.npz") as found:
        history = json.loads(str(found["history"]))
    np.testing.assert_allclose(history["loss"], one.facts["history"]["loss"], atol=1e-2)


def test_an_image_that_changed_under_a_stream_is_named(tmp_path: Path) -> None:
    dataset = load_dataset(make_squares(tmp_path / "squares"))
    (row,) = [row for row in dataset.select("train") if row.image.name == "red-7.png"]
    row.image.write_bytes(b"")
    with pytest.raises(DataError, match=rf"line {row.line}: "):
        train(dataset, preset=FEW_EPOCHS, fusion="image_only", run=Running(stream=True))


def test_devices_come_before_tensorflow(dataset: Dataset) -> None:
    with pytest.raises(ExportError, match="Expected to divide the CPU into 2 devices before TensorFlow runs"):
        train(dataset, preset=FEW_EPOCHS, run=Running(devices=2))


@pytest.mark.parametrize("wrong", [{"precision": "int8"}, {"accumulate": 0}, {"devices": 0}])
def test_wrong_ways_to_run_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ExportError, match=f"Expected {next(iter(wrong))}"):
        Running(**wrong)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--accumulate", "999"], "Expected accumulate to be at most 48, all batches. Received: 999"),
        (["--devices", "33"], "Expected at most 32 devices, rows of a batch. Received: 33"),
    ],
)
def test_more_than_there_are_batches_or_rows_is_refused(
    squares: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert main(["train", str(squares), "--out", str(tmp_path / "run"), *options]) == 1
    assert said in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_by_the_command_line_in_half_precision(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It learns, is kept in float32, and its checkpoint is gone."""
    monkeypatch.setattr("export.training.cli.PRESETS", {**PRESETS, "compact": dataclasses.replace(SMALL, epochs=8)})
    command = ["train", str(squares), "--out", str(tmp_path / "run"), "--precision", "bfloat16", "--stream", "--json"]
    assert main([*command, "--checkpoint", str(tmp_path / "state"), "--checkpoint-every", "1s"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["metrics"]["accuracy"] > 0.8
    assert facts["running"] == {"precision": "bfloat16", "accumulate": 1, "devices": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    model = TrainedModel.load(tmp_path / "run").model
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    assert keras.config.dtype_policy().name == "float32", "as before"


def test_searching_does_not_go_with_ways_to_run(squares: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["train", str(squares), "--out", str(tmp_path / "run"), "--search", "--stream"])
    assert caught.value.code == 2
