"""From a user's own `.keras` file to an answer over the wire, by the command line alone."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from duoserve import Client
from duoserve.preprocessing.preprocessor import Preprocessor
from export.cli import main
from export.dataset.data import encode, load_dataset
from export.own.prepare import prepare
from export.own.settings import OwnModel
from serving.local.testing import LocalServer
from tests.own import zoo


@pytest.fixture(scope="module")
def home(shelf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `mine.keras`, text first and without a softmax, trained on the squares, and its settings."""
    root = tmp_path_factory.mktemp("home")
    keras.utils.set_random_seed(1)
    model = zoo.swapped_logits()
    (root / "mine.toml").write_text(
        f'model = "mine.keras"\ntokenizer = "{shelf}/spm.model"\nlabels = "{shelf}/labels.txt"\n'
        f'samples = "{shelf}/squares"\n'
    )
    described = OwnModel(
        "tests.own.zoo:swapped_logits",
        tokenizer=shelf / "spm.model",
        labels=shelf / "labels.txt",
        samples=shelf / "squares",
    )
    spec = prepare(described).trained.spec
    arrays = encode(load_dataset(shelf / "squares").select("train"), Preprocessor(spec))
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit([arrays.tokens, arrays.images], arrays.classes, epochs=25, batch_size=16, verbose=0)
    model.save(root / "mine.keras")
    return root


def export(home: Path, *more: str) -> list[str]:
    arguments = ["export", "--settings", str(home / "mine.toml"), "--name", "mine", "--store", str(home / "store")]
    return [*arguments, "--batch-sizes", "1,2", *more]


def test_it_is_published_served_and_right(
    home: Path, shelf: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(export(home)) == 0
    said = capsys.readouterr().out
    assert "input 'photo', float32, 20x24, pixels as 0..255" in said
    assert "9 held-out rows, 100.0% right" in said
    assert "Published version 1 of mine" in said
    card = json.loads((home / "store" / "mine" / "1" / "assets.extra" / "card.json").read_text())
    assert card["training"]["understood"]["output"] == "'classes', logits of 3 classes; a softmax follows"
    model = keras.saving.load_model(home / "mine.keras", compile=False)
    with (
        LocalServer("--model_name=mine", f"--model_base_path={home / 'store' / 'mine'}") as server,
        Client(server.address, model="mine") as client,
    ):
        for row in load_dataset(shelf / "squares").select("test"):
            answer = client.predict(image=row.image, text=row.text)
            assert answer.label == row.label
        preprocessor = Preprocessor(client.describe())
    logits = model([preprocessor.tokens(row.text)[None], preprocessor.image(row.image)[None].astype(np.float32)])
    probabilities = keras.ops.softmax(logits)[0]
    np.testing.assert_allclose(answer.probability, np.max(probabilities), atol=1e-5)


def test_a_dry_run_checks_all_and_publishes_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = sorted(home.rglob("*"))
    assert main(export(home, "--dry-run", "--json")) == 0
    assert json.loads(capsys.readouterr().out)["dry_run"] is True
    assert main(export(home, "--dry-run", "--explain", "--embed", "both")) == 0
    said = capsys.readouterr().out
    assert "5 signatures" in said and "vectors of 12 numbers equal the Keras model's" in said
    assert "relevances equal the change of the model's answer without each patch" in said
    assert sorted(home.rglob("*")) == there


@pytest.mark.parametrize("more", [["--embed", "_both (2)"], ["--as-is", "--weights-as", "int8"]])
def test_names_that_tensorflow_refuses_are_exported(
    home: Path, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    assert main(export(home, "--model", "tests.own.zoo:names_of_any_kind", "--dry-run", *more)) == 0
    said = capsys.readouterr().out
    assert "equals the Keras model at batch sizes 1, 2" in said and "'_classes é', probabilities of 3 classes" in said


def test_a_misfit_ends_with_1_and_a_list_and_publishes_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = sorted(home.rglob("*"))
    assert main(export(home, "--model", "tests.own.zoo:grey_channels_first_and_texts", "--json")) == 1
    said = capsys.readouterr()
    record = json.loads(said.out)
    assert record["error"] == "MisfitError" and len(record["findings"]) == 4
    assert said.err.count("To fix") == 4
    assert sorted(home.rglob("*")) == there


@pytest.mark.parametrize("more", [[], ["run", "--model", "m:f"]])
def test_a_run_or_a_model_of_your_own_but_not_both(more: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["export", *more, "--name", "x"])
    assert caught.value.code == 2
