"""The rules of `export.optimise`: the same answers from fewer operations, and layers that do not fit stay unchanged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from keras import layers

from duoserve.contract import SERVING_BYTES, SERVING_DEFAULT
from export.errors import ExportError
from export.optimise import Optimised, optimise
from export.optimise.lstm import block_lstm
from export.publish.card import read_card
from export.publish.ops import reachable
from export.publish.savedmodel import Published
from export.publish.session import SessionModel

TOLERANCE = 1e-6
BATCH_SIZES = (1, 2, 3, 8, 32)


def varied(model: keras.Model | keras.Layer, seed: int = 0) -> Any:
    """With weights, statistics and biases that a training could have left, not those it starts with."""
    draw = np.random.default_rng(seed)
    for variable in model.variables:
        low = 0.5 if "variance" in variable.path or "gamma" in variable.path else -0.5
        if "seed" not in variable.path:
            variable.assign(draw.uniform(low, low + 1, variable.shape))
    return model


def masks(batch: int, steps: int) -> st.SearchStrategy[np.ndarray]:
    """Any steps may be hidden: the last ones, all, none, some between others."""
    row = st.one_of(
        st.integers(0, steps).map(lambda length: [step < length for step in range(steps)]),
        st.lists(st.booleans(), min_size=steps, max_size=steps),
    )
    return st.lists(row, min_size=batch, max_size=batch).map(lambda rows: np.array(rows, bool))


# Not Phase.explain, which traces every line of Keras.
@settings(max_examples=40, deadline=None, phases=(Phase.explicit, Phase.generate, Phase.shrink))
@given(data=st.data())
def test_an_lstm_gives_the_same_in_one_operation(data: st.DataObject) -> None:
    batch, steps, features, units = (data.draw(st.integers(1, most)) for most in (4, 6, 3, 4))
    options: dict[str, Any] = {
        name: data.draw(st.booleans()) for name in ("return_sequences", "use_bias", "unroll", "unit_forget_bias")
    }
    merge = data.draw(st.sampled_from(["concat", "sum", "mul", "ave", None, "alone"]))
    if merge == "alone":
        backwards, zeros = data.draw(st.booleans()), options["return_sequences"] and data.draw(st.booleans())
        options["unroll"] &= not zeros  # together they are left as they are
        layer = layers.LSTM(units, go_backwards=backwards, zero_output_for_mask=zeros, **options)
    else:
        options["unroll"] &= not options["return_sequences"]
        layer = layers.Bidirectional(layers.LSTM(units, **options), merge_mode=merge)
    layer.build((None, steps, features))
    varied(layer, data.draw(st.integers(0, 99)))
    given_steps = np.random.default_rng(1).normal(size=(batch, steps, features)).astype(np.float32)
    mask = data.draw(st.one_of(st.none(), masks(batch, steps)))
    made = block_lstm(layer)
    assert made is not None
    with patch("export.optimise.lstm._HEAVY", data.draw(st.sampled_from([10**9, 1, 2 * units * (features + units)]))):
        expected, found = layer(given_steps, mask=mask), made(given_steps, mask=mask)
    for one, other in zip(keras.tree.flatten(expected), keras.tree.flatten(found), strict=True):
        np.testing.assert_allclose(other, one, atol=TOLERANCE)
    symbolic = keras.Input((steps, features))
    assert keras.tree.map_structure(lambda each: each.shape, made(symbolic)) == (
        keras.tree.map_structure(lambda each: each.shape, layer(symbolic))
    )
    assert type(made.compute_mask(given_steps, mask)) is type(layer.compute_mask(given_steps, mask))


@pytest.mark.parametrize(
    "layer",
    [
        layers.LSTM(3, return_state=True),
        layers.LSTM(3, stateful=True),
        layers.LSTM(3, activation="relu"),
        layers.LSTM(3, recurrent_activation="hard_sigmoid"),
        layers.LSTM(3, zero_output_for_mask=True),
        layers.LSTM(3, dtype="mixed_bfloat16"),
        layers.Bidirectional(layers.LSTM(3, unroll=True, return_sequences=True)),
        layers.Bidirectional(layers.LSTM(3, go_backwards=True), backward_layer=layers.LSTM(3)),
        layers.Bidirectional(layers.GRU(3)),
        layers.Bidirectional(layers.LSTM(3), backward_layer=layers.GRU(3, go_backwards=True)),
        layers.RNN(layers.LSTMCell(3)),
        layers.GRU(3),
        type("Mine", (layers.LSTM,), {})(3),
    ],
    ids=lambda layer: f"{type(layer).__name__} {layer.name}",
)
def test_an_lstm_of_another_kind_stays_as_it_is(layer: keras.Layer) -> None:
    tokens = keras.Input(batch_shape=(2, 4), dtype="int32")
    embedded = layers.Embedding(9, 3, mask_zero=True)(tokens)
    model = keras.Model(tokens, layer(embedded))
    assert optimise(model) == Optimised(model, {})


def test_an_lstm_with_a_state_to_start_from_stays_as_it_is() -> None:
    given_steps, state = keras.Input((4, 3)), keras.Input((5,))
    layer = layers.LSTM(5)
    model = keras.Model([given_steps, state], layer(given_steps, initial_state=[state, state]) + layer(given_steps))
    assert not optimise(model).applied


CONVOLUTIONS: list[tuple[tuple[int, ...], Callable[[], keras.Layer]]] = [
    ((8, 9, 3), lambda: layers.Conv2D(6, 3, strides=2, padding="same", use_bias=False)),
    ((8, 9, 4), lambda: layers.Conv2D(6, 3, groups=2, kernel_initializer="he_normal", kernel_regularizer="l2")),
    ((8, 9, 3), lambda: layers.DepthwiseConv2D(3, depth_multiplier=2)),
    ((8, 9, 3), lambda: layers.SeparableConv2D(6, 3, depth_multiplier=2)),
    ((12, 3), lambda: layers.Conv1D(6, 3, padding="causal")),
    ((12, 3), lambda: layers.DepthwiseConv1D(3, use_bias=False)),
    ((12, 3), lambda: layers.SeparableConv1D(6, 3)),
    ((4, 5, 6, 2), lambda: layers.Conv3D(4, 2)),
    ((7,), lambda: layers.Dense(5)),
    ((4, 7), lambda: layers.Dense(5, use_bias=False)),
]


@pytest.mark.parametrize("norm", [{}, {"scale": False, "epsilon": 0.1}, {"center": False}])
@pytest.mark.parametrize(("shape", "layer"), CONVOLUTIONS)
def test_a_batch_norm_becomes_part_of_the_layer_before(
    shape: tuple[int, ...], layer: Callable[[], keras.Layer], norm: dict[str, Any]
) -> None:
    image = keras.Input(shape)
    after = layers.BatchNormalization(**norm, name="norm")(layer()(image))
    model = varied(keras.Model(image, layers.ReLU()(after)))
    found = optimise(model)
    assert list(found.applied) == ["batch_norm"] and "norm" not in {each.name for each in found.model.layers}
    for rows in BATCH_SIZES:
        pixels = np.random.default_rng(rows).uniform(-1, 1, (rows, *shape)).astype(np.float32)
        np.testing.assert_allclose(found.model(pixels), model(pixels), atol=1e-5, rtol=1e-5)


def _between(join: Callable[[Any, Any], Any]) -> keras.Model:
    image = keras.Input((8, 8, 3))
    seen = layers.Conv2D(3, 3, name="conv")(image)
    return varied(keras.Model(image, join(seen, layers.BatchNormalization())))


SHARED = layers.BatchNormalization()


@pytest.mark.parametrize(
    "join",
    [
        pytest.param(lambda seen, norm: seen + norm(seen), id="something else takes the convolution's output"),
        pytest.param(lambda seen, norm: [seen, norm(seen)], id="it is an output of the model"),
        pytest.param(lambda seen, norm: norm(layers.ReLU()(seen)), id="an activation is between"),
        pytest.param(lambda seen, norm: norm(seen[..., :2]), id="only a part is normalised"),
        pytest.param(lambda seen, norm: norm(layers.Conv2D(3, 1, activation="relu")(seen)), id="relu in the layer"),
        pytest.param(lambda seen, norm: layers.BatchNormalization(axis=1)(seen), id="rows are normalised"),
        pytest.param(lambda seen, norm: SHARED(layers.Conv2D(3, 1)(seen)) + SHARED(seen), id="two share the norm"),
        pytest.param(lambda seen, norm: layers.BatchNormalization(dtype="float16")(seen), id="half precision"),
        pytest.param(lambda seen, norm: layers.LayerNormalization()(seen), id="of another kind"),
    ],
)
def test_a_batch_norm_elsewhere_stays_as_it_is(join: Callable[[Any, Any], Any]) -> None:
    model = _between(join)
    assert optimise(model) == Optimised(model, {})


def test_weights_too_large_to_scale_stay_as_they_are() -> None:
    model = _between(lambda seen, norm: norm(seen))
    model.layers[-1].gamma.assign(np.full(3, 3e38))
    model.layers[1].bias.assign(np.full(3, 100.0))
    assert not optimise(model).applied


@pytest.fixture(scope="module")
def nested() -> keras.Model:
    """A backbone in a nested model, called twice; a Sequential reader; stacked LSTMs under dropout; a subclass."""
    pixels = keras.Input((12, 12, 3))
    backbone = keras.Model(pixels, layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3, name="seen")(pixels))))
    backbone.compile(loss=lambda true, found: 0.0)
    reader = keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            layers.Embedding(50, 5, mask_zero=True),
            layers.Dropout(0.5),
            layers.Bidirectional(layers.LSTM(4, return_sequences=True), merge_mode="sum", name="first"),
            layers.Dropout(0.5),
            layers.LSTM(5, recurrent_dropout=0.3, use_cudnn=False, name="second"),
        ]
    )
    image = keras.Input((12, 12, 3), dtype="uint8", name="image")
    tokens = keras.Input((6,), dtype="int32", name="tokens")
    scaled = layers.Rescaling(1 / 255)(image)
    seen = layers.GlobalAveragePooling2D()(layers.Concatenate()([backbone(scaled), backbone(1 - scaled)]))
    fused = layers.Concatenate()([seen, reader(tokens), CodeOfItsOwn()(tokens)])
    return varied(keras.Model({"image": image, "tokens": tokens}, layers.Dense(3, activation="softmax")(fused)))


class CodeOfItsOwn(layers.Layer):
    """Has an LSTM that no graph of layers shows."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.lstm = layers.Embedding(50, 3, mask_zero=True), layers.LSTM(3)

    def build(self, input_shape: Any) -> None:
        self.embedding.build(input_shape)
        self.lstm.build((*input_shape, 3))
        self.built = True

    def call(self, tokens: Any) -> Any:
        return self.lstm(self.embedding(tokens))


def rows_of(rows: int) -> dict[str, np.ndarray]:
    """Rows that are full, empty, padded, and with padding between tokens."""
    draw = np.random.default_rng(rows)
    tokens = draw.integers(1, 50, (rows, 6)).astype(np.int32)
    for row in range(rows):
        tokens[row, (6, 0, 2, 4)[row % 4] :] = 0
    tokens[3::8, 1] = 0
    return {"image": draw.integers(0, 256, (rows, 12, 12, 3), np.uint8), "tokens": tokens}


def test_models_in_models_are_entered_and_the_one_given_is_left_alone(nested: keras.Model) -> None:
    before = nested(rows_of(8), training=False)
    found = optimise(nested)
    assert dict(found.applied) == {"lstm": ("first", "second"), "batch_norm": ("seen",)}
    run = tf.function(lambda inputs: (nested(inputs, training=False), found.model(inputs, training=False)))
    for rows in BATCH_SIZES:
        expected, received = run(rows_of(rows))
        np.testing.assert_allclose(received, expected, atol=TOLERANCE)
    np.testing.assert_array_equal(nested(rows_of(8), training=False), before)
    assert dict(optimise(nested).applied) == dict(found.applied), "a second export finds the same"


def test_a_model_of_code_stays_as_it_is() -> None:
    class Mine(keras.Model):
        def call(self, inputs: Any) -> Any:
            return inputs

    model = Mine()
    model(np.zeros((1, 2)))
    assert optimise(model) == Optimised(model, {})


def _ops(folder: Path, signature: str) -> set[str]:
    with SessionModel(folder) as model:
        return reachable(
            model.meta_graph, [info.name for info in model.meta_graph.signature_def[signature].outputs.values()]
        )


def test_the_published_version_runs_them_and_says_so(published: Published) -> None:
    for signature in (SERVING_DEFAULT, SERVING_BYTES):
        assert "BlockLSTMV2" in _ops(published.path, signature)
    assert not _ops(published.path, SERVING_DEFAULT) & {"While", "ReadVariableOp", "ResourceGather"}
    graph = read_card(published.path)["graph"]
    assert graph["weights_in"] == "constants" and [len(names) for names in graph["rules"].values()] == [1]
    assert list(graph["rules"]) == ["lstm"]


def test_as_is_leaves_everything_out(export: Callable[..., Published]) -> None:
    published = export(as_is=True)
    assert {"While", "ReadVariableOp"} <= _ops(published.path, SERVING_DEFAULT)
    assert read_card(published.path)["graph"] == {"rules": {}, "weights_in": "variables"}


def test_the_cost_of_bfloat16_is_on_the_card(export: Callable[..., Published]) -> None:
    if "avx512f" in Path("/proc/cpuinfo").read_text():
        published = export(bfloat16=True)
        cost = read_card(published.path)["graph"]["bfloat16"]
        assert cost["rows"] == 4 and 0 < cost["difference"] < 0.05 and cost["agreement"] == 1
        assert published.checks[-1].name == "bfloat16"
    else:
        with pytest.raises(ExportError, match="on a processor without AVX-512"):
            export(bfloat16=True)
