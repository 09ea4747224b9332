"""Training learns, gives the same model for the same seed, and leaves a folder that can be exported."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from duoserve.preprocessing.preprocessor import Preprocessor
from export.dataset.data import Dataset, load_dataset
from export.errors import ExportError
from export.publish.savedmodel import export_version
from export.publish.store import ModelStore
from export.training.presets import FUSIONS, Preset
from export.training.run import TrainedModel, check_target
from export.training.tokenizer import train_tokenizer
from export.training.train import train


def answers(trained: TrainedModel) -> np.ndarray:
    preprocessor = Preprocessor(trained.spec)
    return trained.model(
        {
            "image": np.stack([preprocessor.image(image) for image, _ in trained.samples]),
            "tokens": np.stack([preprocessor.tokens(text) for _, text in trained.samples]),
        },
        training=False,
    ).numpy()


@pytest.fixture(scope="module")
def few(small: Preset) -> Preset:
    """Too few epochs to learn much, and enough to be compared."""
    return dataclasses.replace(small, epochs=2)


@pytest.fixture(scope="module")
def trained(dataset: Dataset, few: Preset) -> TrainedModel:
    return train(dataset, preset=few, fusion="concat", seed=3)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_fusion_learns_is_kept_and_passes_the_gate(
    dataset: Dataset, small: Preset, fusion: str, tmp_path: Path
) -> None:
    trained = train(dataset, preset=small, fusion=fusion)
    assert trained.facts["metrics"]["accuracy"] > 0.8
    trained.save(tmp_path / "run")
    loaded = TrainedModel.load(tmp_path / "run")
    np.testing.assert_array_equal(answers(trained), answers(loaded))
    published = export_version(
        loaded.model, loaded.spec, loaded.samples, ModelStore(tmp_path / "store", "squares"), batch_sizes=(1,)
    )
    assert all(check.passed for check in published.checks)


def test_the_same_seed_gives_the_same_model(dataset: Dataset, few: Preset, trained: TrainedModel) -> None:
    again = train(dataset, preset=few, fusion="concat", seed=3)
    for one, other in zip(trained.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert {**trained.facts, "seconds": 0} == {**again.facts, "seconds": 0}
    other_seed = train(dataset, preset=few, fusion="concat", seed=4, epochs=1)
    assert not np.array_equal(answers(trained), answers(other_seed))


def test_the_tokenizer_and_the_weights_never_see_held_out_rows(
    dataset: Dataset, few: Preset, trained: TrainedModel
) -> None:
    texts = [row.text for row in dataset.select("train")]
    assert trained.spec.tokenizer == train_tokenizer(texts, vocabulary=few.vocabulary)
    spoilt = dataclasses.replace(
        dataset,
        rows=tuple(
            dataclasses.replace(row, text="?", label="red") if row.split == "test" else row for row in dataset.rows
        ),
    )
    other = train(spoilt, preset=few, fusion="concat", seed=3)
    for one, weight in zip(trained.model.get_weights(), other.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, weight)


def test_facts_say_how_it_was_trained(dataset: Dataset, few: Preset, trained: TrainedModel) -> None:
    facts = json.loads(json.dumps(trained.facts))
    assert (facts["preset"], facts["fusion"], facts["seed"]) == ("compact", "concat", 3)
    assert facts["data_digest"] == dataset.digest
    assert facts["rows"] == {"train": 45, "test": 9}
    assert facts["settings"]["image_size"] == 32 and facts["seconds"] > 0
    assert len(facts["history"]["loss"]) == len(facts["history"]["accuracy"]) == few.epochs
    predicted = [trained.spec.labels[position] for position in answers(trained).argmax(axis=-1)]
    rows = {(row.image.read_bytes(), row.text): row.label for row in dataset.select("test")}
    right = [rows[sample] == label for sample, label in zip(trained.samples, predicted, strict=True)]
    assert facts["metrics"]["accuracy"] == pytest.approx(np.mean(right))


def test_the_token_length_fits_the_texts(dataset: Dataset, small: Preset, trained: TrainedModel) -> None:
    assert trained.spec.token_length % 8 == 0
    longest = max(len(row.text) for row in dataset.rows)
    assert trained.spec.token_length <= longest + 8
    cut = train(dataset, preset=dataclasses.replace(small, most_tokens=4), fusion="text_only", epochs=1)
    assert cut.spec.token_length == 4


def test_samples_are_held_out_rows_of_every_class(dataset: Dataset, trained: TrainedModel) -> None:
    label_of = {(row.image.read_bytes(), row.text): row.label for row in dataset.select("test")}
    assert [label_of[sample] for sample in trained.samples[:3]] == ["red", "green", "blue"]


def test_training_is_quiet_without_a_terminal(
    dataset: Dataset, small: Preset, capfd: pytest.CaptureFixture[str]
) -> None:
    train(dataset, preset=small, fusion="image_only", epochs=1)
    assert "epoch" not in "".join(capfd.readouterr())
    train(dataset, preset=small, fusion="image_only", epochs=2, progress=True)
    assert "epoch 2 of 2" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"preset": "huge"}, "Expected preset"),
        ({"fusion": "sum"}, "Expected fusion"),
        ({"epochs": 0}, "at least one epoch"),
        ({"seed": -1}, "Expected seed"),
    ],
)
def test_wrong_options_are_refused(dataset: Dataset, small: Preset, wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        train(dataset, **{"preset": small, **wrong})


def test_a_training_that_diverges_is_refused(dataset: Dataset, small: Preset) -> None:
    wild = dataclasses.replace(small, learning_rate=float("nan"), epochs=1)
    with pytest.raises(ExportError, match="not a number"):
        train(dataset, preset=wild, fusion="image_only")


def test_saving_again_replaces_the_run(trained: TrainedModel, tmp_path: Path) -> None:
    trained.save(tmp_path / "run")
    (tmp_path / "run" / "stale").write_text("from before")
    trained.save(tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["model.keras", "run.json", "samples"]
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_failed_save_leaves_the_old_run(
    trained: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained.save(tmp_path / "run")

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(type(trained.model), "save", fail)
        with pytest.raises(OSError, match="No space left"):
            trained.save(tmp_path / "run")
    np.testing.assert_array_equal(answers(TrainedModel.load(tmp_path / "run")), answers(trained))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_folder_that_is_not_a_run_is_left_alone(trained: TrainedModel, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ExportError, match="new, empty or a run"):
        trained.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no file system that refuses even root")
def test_a_folder_that_can_not_be_written_is_found_before_the_training() -> None:
    with pytest.raises(ExportError, match="a writable folder"):
        check_target("/proc/runs/first")


def test_a_damaged_run_is_refused(trained: TrainedModel, tmp_path: Path) -> None:
    trained.save(tmp_path / "run")

    def damaged(name: str, change: object) -> Path:
        copy = shutil.copytree(tmp_path / "run", tmp_path / name)
        change(copy)  # type: ignore[operator]
        return copy

    def edit(copy: Path, **changes: object) -> None:
        record = json.loads((copy / "run.json").read_text(encoding="utf-8"))
        (copy / "run.json").write_text(json.dumps({**record, **changes}), encoding="utf-8")

    cases = {
        "no-model": lambda copy: (copy / "model.keras").unlink(),
        "cut": lambda copy: (copy / "model.keras").write_bytes((copy / "model.keras").read_bytes()[:-9]),
        "no-json": lambda copy: (copy / "run.json").write_text("{"),
        "list": lambda copy: (copy / "run.json").write_text("[]"),
        "newer": lambda copy: edit(copy, format=2),
        "spec": lambda copy: edit(copy, spec={}),
        "sample": lambda copy: (copy / "samples" / "0").unlink(),
    }
    for name, change in cases.items():
        with pytest.raises(ExportError, match="Expected"):
            TrainedModel.load(damaged(name, change))
    with pytest.raises(ExportError, match="nowhere"):
        TrainedModel.load(tmp_path / "nowhere")


@pytest.mark.slow
def test_the_demo_learns_from_real_images_and_words(emoji: Path) -> None:
    """A third of the usual epochs: far better than always saying the largest class."""
    metrics = train(load_dataset(emoji), fusion="concat", epochs=6).facts["metrics"]
    assert metrics["accuracy"] > 0.55 > 2 * metrics["largest_class"]
