"""Weights in fewer bytes: the same classes from a smaller file, at a measured and limited cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from duoserve import Client
from duoserve.contract import SERVING_DEFAULT
from export.cli import main
from export.dataset.data import Dataset
from export.dataset.rows import DataError, Row
from export.errors import ExportError
from export.publish import cost
from export.publish.card import read_card
from export.publish.gate import check
from export.publish.savedmodel import Published
from export.publish.session import SessionModel
from export.publish.store import ModelStore
from export.publish.weights import PackedWeights
from export.training.run import TrainedModel
from export.training.train import train
from serving.local.testing import LocalServer
from tests.client.fake import wait_until
from tests.training.conftest import SMALL

KINDS = {"float16": 1, "int8": 2}
"""The version of each."""

FLOAT32 = 4
"""Bytes of a weight."""

CONFIG = """
model_config_list {{ config {{
  name: "squares" base_path: "{base}" model_platform: "tensorflow" model_version_policy {{ all {{}} }}
}} }}
"""


@pytest.fixture(scope="module")
def trained(dataset: Dataset) -> TrainedModel:
    """Wide enough for weights to be most of it."""
    preset = dataclasses.replace(SMALL, embedding=32, text_units=32, filters=(8, 32), epochs=6)
    return train(dataset, preset=preset, fusion="attention")


@pytest.fixture(scope="module")
def store(trained: TrainedModel, squares: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    """A version of each kind, written by the command line."""
    root = tmp_path_factory.mktemp("weights")
    trained.save(root / "run")
    for kind, version in KINDS.items():
        command = ["export", str(root / "run"), "--name", "squares", "--store", str(root), "--version", str(version)]
        assert main([*command, "--weights-as", kind, "--data", str(squares), "--batch-sizes", "1"]) == 0
    return ModelStore(root, "squares")


@pytest.fixture(scope="module")
def server(store: ModelStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    config = tmp_path_factory.mktemp("config") / "models.config"
    config.write_text(CONFIG.format(base=store.path), encoding="utf-8")
    with LocalServer(f"--model_config_file={config}") as started:
        with Client(started.address, model="squares") as client:
            wait_until(lambda: [each.state for each in client.status()] == ["AVAILABLE"] * len(KINDS))
        yield started


def variables(folder: Path) -> int:
    """Bytes of the weights on the disk."""
    return sum(path.stat().st_size for path in (folder / "variables").glob("*.data-*"))


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_served_with_the_same_classes(
    server: LocalServer, trained: TrainedModel, dataset: Dataset, kind: str
) -> None:
    with Client(server.address, model="squares", version=KINDS[kind]) as client:
        answers = [client.predict(row.image, row.text) for row in dataset.select("test")]
        spec = client.describe()
    expected = _by_keras(trained, dataset.select("test"))
    assert [answer.label for answer in answers] == [spec.labels[each] for each in expected.argmax(axis=-1)]
    worst = np.abs(expected - np.stack([answer.probabilities for answer in answers])).max()
    assert 0 < worst <= {"float16": 0.002, "int8": 0.03}[kind]


def _by_keras(trained: TrainedModel, rows: tuple[Row, ...]) -> np.ndarray:
    seen: list[Any] = []

    def keep(image: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        seen.append(trained.model({"image": image, "tokens": tokens}, training=False).numpy())
        return seen[-1]

    cost.measure_cost("int8", trained.spec, rows, keep, keep)
    return np.concatenate(seen[::2])


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_is_smaller_and_the_card_says_what_it_costs(
    store: ModelStore, trained: TrainedModel, dataset: Dataset, kind: str
) -> None:
    card = read_card(store.path_of(KINDS[kind]))
    found, parameters = card["weights"], trained.model.count_params()
    assert found["type"] == kind and found["rows"] == len(dataset.select("test"))
    assert found["agreement"] == 1 and found["accuracy"] == found["keras_accuracy"] > 0.9
    assert 0 < found["difference"] <= cost.LIMITS[kind].difference
    assert card["parameters"] == parameters and 0.9 * parameters < found["packed_parameters"] < parameters
    written = variables(store.path_of(KINDS[kind]))
    assert found["bytes"] <= written < found["bytes"] + 8000
    assert written < {"float16": 0.65, "int8": 0.45}[kind] * FLOAT32 * parameters


def test_float32_is_stored_once(published_optional: Published) -> None:
    card = read_card(published_optional.path)
    assert card["weights"] == {"type": "float32"}
    assert variables(published_optional.path) < 1.5 * FLOAT32 * card["parameters"]


def test_a_loop_over_tokens_converts_its_weights_once_and_lookups_convert_few_rows(store: ModelStore) -> None:
    with SessionModel(store.path_of(KINDS["int8"])) as model:
        functions = model.meta_graph.graph_def.library.function
        assert SERVING_DEFAULT in model.meta_graph.signature_def
    made = {each.signature.name: [node.op for node in each.node_def if _is_made(node)] for each in functions}
    assert any("Cast" in ops for ops in made.values())
    assert not [name for name, ops in made.items() if ops and "while" in name]
    gathers = [node for each in functions for node in each.node_def if node.op == "ResourceGather"]
    assert "DT_INT8" in str([node.attr["dtype"] for node in gathers])


def _is_made(node: Any) -> bool:
    return node.op == "Cast" and node.attr["SrcT"].type == 6  # DT_INT8


def test_more_than_the_limit_does_not_pass_the_gate(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "LIMITS", {"float16": cost.Limit(difference=0.01, quality=0.0)})
    worse = cost.Cost(
        "float16", rows=100, difference=0.0, agreement=0.9, figure="accuracy", quality=0.7, keras_quality=0.75
    )
    (found,) = [each for each in check(store.path_of(1), costs=[worse]) if each.name == "weights"]
    assert found.findings == ("expected to lose at most 0.0% of accuracy on 100 rows. Received: 5.0% (75.0% to 70.0%)",)
    (far,) = dataclasses.replace(worse, difference=0.02, quality=None).findings()
    assert far == "expected answers within 0.01 of the Keras model's. Received: 0.02 off"
    assert list(dataclasses.replace(worse, difference=float("nan"), quality=None).findings()), "not a number"


def _dense(value: float, units: int = 64) -> keras.Model:
    model = keras.Sequential([keras.Input((units,)), keras.layers.Dense(units, name="wide")])
    model.set_weights([np.full((units, units), value), np.zeros(units)])
    return model


@pytest.mark.parametrize(
    ("model", "kind", "expected"),
    [
        ((1e5,), "float16", r"Expected sequential.*/wide/kernel to hold numbers up to 65504. Received: 100000"),
        ((np.nan,), "float16", r"Expected sequential.*/wide/kernel to hold numbers up to 65504. Received: nan"),
        ((np.inf,), "int8", r"Expected sequential.*/wide/kernel to hold finite numbers. Received: inf"),
        ((1.0, 8), "int8", r"Expected a model with float32 matrices of 1024 elements or more"),
        ((1.0,), "int4", r"Expected weights to be one of float32, float16, int8. Received: 'int4'"),
    ],
    ids=["too large", "not a number", "infinite", "too small", "unknown"],
)
def test_weights_out_of_range_are_refused(model: tuple[Any, ...], kind: str, expected: str) -> None:
    with pytest.raises(ExportError, match=expected):
        PackedWeights(_dense(*model), kind)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (keras.layers.Dense(40), (30,)),
        (keras.layers.Conv2D(16, 3), (8, 8, 12)),
        (keras.layers.DepthwiseConv2D(5), (8, 8, 48)),
        (keras.layers.Embedding(300, 8), (4,)),
    ],
    ids=["dense", "convolution", "depthwise", "embedding"],
)
def test_every_channel_has_a_scale(layer: keras.Layer, shape: tuple[int, ...]) -> None:
    """Each channel has its own: one with numbers a million times as large does not reduce the others' precision."""
    model = keras.Sequential([keras.Input(shape), layer])
    kernel = model.layers[0].variables[0]
    values = np.random.default_rng(0).standard_normal(kernel.shape).astype(np.float32)
    channel = {"Embedding": np.s_[3]}.get(type(layer).__name__, np.s_[..., 3])
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        channel = np.s_[:, :, 3]
    values[channel] *= 1e6
    kernel.assign(values)
    (packed,) = PackedWeights(model, "int8")._packed.values()
    error = np.abs(packed.unpack().numpy() - values)
    error[channel] /= 1e6
    assert error.max() <= 5 / 127 / 2


def test_other_data_than_the_trainings_is_refused(
    trained: TrainedModel, dataset: Dataset, squares: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cost.held_out_rows(squares, trained.facts) == dataset.select("test")
    other = {**trained.facts, "data_digest": "another"}
    with pytest.raises(ExportError, match="Expected the data that the model was trained on"):
        cost.held_out_rows(squares, other)
    assert cost.held_out_rows(squares, {}) == dataset.select("test"), "of a model that says nothing of its data"
    row = dataclasses.replace(dataset.rows[0], label="mauve")
    unknown = r"Expected every label to be one of blue, green, red\. Received:\s+line 2: label 'mauve'"
    with pytest.raises(DataError, match=unknown):
        cost.measure_cost("int8", trained.spec, [row], None, None)  # type: ignore[arg-type]
    with pytest.raises(SystemExit) as caught:
        main(["export", str(tmp_path), "--name", "squares", "--data", str(squares)])
    assert caught.value.code == 2 and "expected --data only with --weights-as" in capsys.readouterr().err
