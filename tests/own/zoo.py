"""Typical models: other names, orders, dtypes, structures and layers than the contract's, and misfits."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
from keras import Model, layers, ops

IDS = 320


def photo(**options: Any) -> Any:
    return keras.Input(**{"shape": (20, 24, 3), "dtype": "uint8", "name": "photo", **options})


def words(**options: Any) -> Any:
    return keras.Input(**{"shape": (7,), "dtype": "int32", "name": "words", **options})


def colours(image: Any) -> Any:
    return layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3, activation="relu")(image))


def reading(tokens: Any, **options: Any) -> Any:
    return layers.LSTM(6, use_cudnn=False)(layers.Embedding(**{"input_dim": IDS, "output_dim": 6, **options})(tokens))


def joined(image: Any, tokens: Any, activation: str | None = "softmax", classes: int = 3) -> Any:
    both = layers.Concatenate(name="both")([image, tokens])
    return layers.Dense(classes, activation=activation, name="classes")(both)


def scaled(image: Any) -> Any:
    return colours(layers.Rescaling(1 / 255)(image))


# Models that fit.


def answering(columns: int, activation: str | None = None) -> Model:
    """As many columns as it is told, by Dense(columns, activation)."""
    keras.utils.set_random_seed(columns)
    image, tokens = photo(), words()
    return Model([image, tokens], joined(scaled(image), reading(tokens), activation=activation, classes=columns))


def plain() -> Model:
    image, tokens = photo(), words()
    return Model([image, tokens], joined(scaled(image), reading(tokens)))


def swapped_logits() -> Model:
    """Text first, int64 ids, pixels as floats, no softmax."""
    tokens, image = words(dtype="int64"), photo(dtype="float32")
    return Model([tokens, image], joined(scaled(image), reading(tokens, mask_zero=True), activation=None))


def nested_dict() -> Model:
    """Inputs in a nested structure, ids as floats (keras.Input's default), two outputs."""
    tokens, image = words(dtype="float32"), photo(dtype="float32")
    seen, read = scaled(image), reading(tokens)
    outputs = {"mood": layers.Dense(2, name="mood")(read), "answer": joined(seen, read)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras's, that the key "picture" is not the tensor's name
        return Model({"text": {"ids": tokens}, "picture": image}, outputs)


def two_outputs_in_a_list() -> Model:
    image, tokens = photo(), words()
    seen, read = scaled(image), reading(tokens)
    return Model([image, tokens], [layers.Dense(3, name="mood")(read), joined(seen, read)])


def bare() -> Model:
    """Pixels go straight into a convolution: nobody can tell how they should be scaled."""
    image, tokens = photo(dtype="float32"), words()
    return Model([image, tokens], joined(colours(image), reading(tokens)))


def any_size() -> Model:
    image, tokens = photo(shape=(None, None, 3)), words(shape=(None,))
    return Model([image, tokens], joined(scaled(image), reading(tokens)))


def preprocess_input() -> Model:
    """Scaled by the functions of keras.applications, in the graph."""
    image, tokens = photo(dtype="float32"), words()
    seen = colours(keras.applications.mobilenet_v2.preprocess_input(image))
    return Model([image, tokens], joined(seen, reading(tokens)))


def frozen_in_training_mode() -> Model:
    """A BatchNormalization that was called with training=True: Keras serves it as it does every other."""
    image, tokens = photo(), words()
    seen = colours(layers.BatchNormalization()(layers.Rescaling(1 / 255)(image), training=True))
    return Model([image, tokens], joined(seen, reading(tokens)))


@keras.saving.register_keras_serializable(package="zoo")
class Reader(layers.Layer):
    """A small transformer, averaged over the words that are there."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.embedding = layers.Embedding(IDS, 8)
        self.attention = layers.MultiHeadAttention(2, 4)
        self.norm = layers.LayerNormalization()

    def build(self, shape: Any) -> None:
        self.embedding.build(shape)
        inner = (*shape, 8)
        self.attention.build(inner, inner)
        self.norm.build(inner)

    def call(self, tokens: Any) -> Any:
        there = ops.not_equal(tokens, 0)
        read = self.embedding(tokens)
        read = self.norm(read + self.attention(read, read, attention_mask=there[:, None, :]))
        weight = ops.cast(there, read.dtype)[..., None]
        return ops.sum(read * weight, 1) / ops.maximum(ops.sum(weight, 1), 1)

    def compute_output_shape(self, shape: Any) -> Any:
        return (shape[0], 8)


class Scaler(layers.Layer):
    """A layer in a layer, and a weight, with names that TensorFlow refuses."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.inner = layers.Dense(6, name="_dentro (é)")

    def build(self, shape: Any) -> None:
        self.inner.build(shape)
        self.weight = self.add_weight(shape=(6,), initializer="ones", name="_größe (1)")

    def call(self, inputs: Any) -> Any:
        return self.inner(inputs) * self.weight

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


def names_of_any_kind() -> Model:
    """Names that Keras takes and TensorFlow refuses: layers that are shared, nested, masked, optimised and custom."""
    image, tokens = photo(name="_my photo"), words(name="les mots (é)")
    seen = layers.Conv2D(6, 3, name="convolución")(layers.Rescaling(1 / 255, name="_x")(image))
    seen = layers.BatchNormalization(name="-norm")(seen)
    features = keras.Input(seen.shape[1:])
    pooled = layers.GlobalAveragePooling2D(name="Größe & Maß")(features)
    seen = Scaler(name="_scaler")(Model(features, pooled, name="_inner net")(seen))
    ids = layers.Embedding(IDS, 6, mask_zero=True, name="_ids & masks")(tokens)
    read = layers.LSTM(3, use_cudnn=False, name="_vorwärts")
    read = layers.Bidirectional(read, name="beide Wege")(ids)
    shared = layers.Dense(6, name="_shared")
    both = layers.Concatenate(name="_both (2)")([shared(seen), shared(read)])
    return Model([image, tokens], layers.Dense(3, activation="softmax", name="_classes é")(both), name="_mine")


def models_of_one_name() -> Model:
    """Models in models, all with the name of the outer one, and a layer with a name of the contract's."""
    pixels = keras.Input((20, 24, 3), name="image")
    seen = layers.BatchNormalization()(layers.Conv2D(6, 3)(pixels))
    inner = Model(pixels, layers.GlobalAveragePooling2D(name="probabilities")(seen), name="functional")
    scaled = layers.Rescaling(1 / 255, name="image")(features := keras.Input((20, 24, 3), name="features"))
    middle = Model(features, inner(scaled), name="functional")
    image, tokens = photo(), words()
    return Model([image, tokens], joined(middle(image), reading(tokens)), name="inner")


class Unregistered(Reader):
    """As people forget it."""


def transformer(reader: type[Reader] = Reader) -> Model:
    image, tokens = photo(), words()
    read = reader(name="reader")(tokens)
    return Model([image, tokens], layers.Softmax()(joined(scaled(image), read, activation=None)))


def with_unregistered_layer() -> Model:
    return transformer(Unregistered)


@keras.saving.register_keras_serializable(package="zoo")
class Code(Model):
    """Not a graph of layers but Python code, called with a dict."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.see, self.read, self.norm = layers.Conv2D(4, 3), Reader(), layers.BatchNormalization()
        self.classes = layers.Dense(3, activation="softmax")

    def features(self, image: Any, tokens: Any) -> Any:
        return ops.concatenate([ops.mean(self.see(image / 255), (1, 2)), self.read(tokens)], -1)

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.classes(self.norm(self.features(inputs["picture"], inputs["ids"]), training=training))


class PositionalCode(Code):
    """Called with two arguments."""

    def call(self, picture: Any, ids: Any) -> Any:
        return super().call({"picture": picture, "ids": ids})


class ListCode(Code):
    """Called with a list."""

    def call(self, inputs: Any) -> Any:
        return super().call({"picture": inputs[1], "ids": inputs[0]})


ROWS = {"picture": np.zeros((2, 20, 24, 3), np.float32), "ids": np.zeros((2, 7), np.int32)}


def code() -> Model:
    model = Code()
    model(ROWS)
    return model


def code_with_two_arguments() -> Model:
    model = PositionalCode()
    model(ROWS["picture"], ROWS["ids"])
    return model


def code_with_a_list() -> Model:
    model = ListCode()
    model([ROWS["ids"], ROWS["picture"]])
    return model


def never_called() -> Model:
    return Code()


def in_half_precision(policy: str = "mixed_float16") -> Model:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        return swapped_logits()
    finally:
        keras.config.set_dtype_policy(before)


# Models that don't.


def one_input() -> Model:
    image = photo()
    return Model(image, layers.Dense(3, activation="softmax")(scaled(image)))


def three_inputs() -> Model:
    image, tokens, places = photo(), words(), words(name="position_ids")
    return Model([image, tokens, places], joined(scaled(image), reading(tokens * places)))


def two_pictures() -> Model:
    image, other = photo(), photo(name="other")
    return Model([image, other], joined(scaled(image), scaled(other)))


def ragged() -> Model:
    image, tokens = photo(), words(shape=(None,), ragged=True)
    return Model([image, tokens], [layers.Dense(3, name="classes")(scaled(image)), layers.Identity(name="x")(tokens)])


def fixed_batch() -> Model:
    image, tokens = photo(batch_size=4), words(batch_size=4)
    return Model([image, tokens], joined(scaled(image), reading(tokens)))


def grey_channels_first_and_texts() -> Model:
    """Everything at once: grey pictures, texts in place of ids, two outputs."""
    image, texts = photo(shape=(20, 24, 1), dtype="float32"), words(shape=(), dtype="string")
    return Model([image, texts], [layers.Flatten(name="flat")(image), layers.Identity(name="same")(texts)])


def four_classes() -> Model:
    image, tokens = photo(), words()
    return Model([image, tokens], joined(scaled(image), reading(tokens), classes=4))


def one_probability() -> Model:
    image, tokens = photo(), words()
    return Model([image, tokens], joined(scaled(image), reading(tokens), activation="sigmoid", classes=1))


def several_at_once() -> Model:
    image, tokens = photo(), words()
    return Model([image, tokens], joined(scaled(image), reading(tokens), activation="sigmoid"))


def unlike_probabilities() -> Model:
    image, tokens = photo(), words()
    return Model([image, tokens], joined(scaled(image), reading(tokens), activation="relu"))


def a_sequence() -> Model:
    image, tokens = photo(), words()
    each = layers.Embedding(IDS, 3)(tokens) + layers.Dense(3)(scaled(image))[:, None, :]
    return Model([image, tokens], layers.Dense(3, activation="softmax", name="classes")(each))


def few_ids() -> Model:
    image, tokens = photo(), words()
    return Model([image, tokens], joined(scaled(image), reading(tokens, input_dim=100)))


def no_words_no_answer() -> Model:
    """The average over no words is 0 / 0."""
    image, tokens = photo(), words()
    weight = ops.cast(ops.not_equal(tokens, 0), "float32")[..., None]
    read = ops.sum(layers.Embedding(IDS, 6)(tokens) * weight, 1) / ops.sum(weight, 1)
    return Model([image, tokens], joined(scaled(image), read))


def rounded_ids() -> Model:
    """Float ids above 2048 under mixed precision: Keras rounds them on the way into the embedding."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        image, tokens = photo(), words(dtype="float32")
        return Model([image, tokens], joined(scaled(image), reading(tokens, input_dim=5000)))
    finally:
        keras.config.set_dtype_policy(before)


class Leaky(Code):
    """Normalises by the batch that a row happens to be in."""

    def call(self, inputs: Any) -> Any:
        return self.classes(self.norm(self.features(inputs["picture"], inputs["ids"]), training=True))


class Dicing(Code):
    """Drops features at random when it serves."""

    def build(self, _: Any) -> None:
        """Nothing: its layers are built when they are called."""

    def call(self, inputs: Any) -> Any:
        dropped = keras.random.dropout(self.features(inputs["picture"], inputs["ids"]), 0.5)
        return self.classes(dropped)


def leaky() -> Model:
    model = Leaky()
    model(ROWS)
    return model


def dicing() -> Model:
    model = Dicing()
    model(ROWS)
    return model


def fails() -> Model:
    raise RuntimeError("no GPU")


def not_a_model() -> dict[str, int]:
    return {"layers": 3}
