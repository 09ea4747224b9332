"""The model: two frozen encoders and what was learnt on top of them. `export --model demo.pretrained.joined:build`."""

from typing import Final

import keras
from keras import layers

from demo.pretrained.efficientnet_lite import image_encoder
from demo.pretrained.head import Head
from demo.pretrained.minilm import text_encoder
from demo.pretrained.weights import Weights, assign

SIZE: Final = 128
"""Pixels: of the demo's images. ImageNet's 224 cost three times as much, for the same accuracy here."""

LENGTH: Final = 24
"""Token ids, marks among them. The demo's longest text has 12."""

READ: Final = (0, 3, 6)
"""Layers of MiniLM that are read: the words as such, half-way, and the meaning of the whole."""


def encoders(text: Weights | None = None, image: Weights | None = None) -> keras.Model:
    """Pixels and token ids to one vector for each of READ and one for the image.

    Args:
        text, image: The encoders' weights; None: random ones.
    """
    ids = keras.Input((LENGTH,), dtype="int32", name="input_ids")
    pixels = keras.Input((SIZE, SIZE, 3), name="image")
    read = text_encoder(LENGTH, text)(ids)
    return keras.Model([pixels, ids], [*(read[layer] for layer in READ), image_encoder(SIZE, image)(pixels)])


def build(classes: int, rows: int) -> keras.Model:
    """Image and token ids in, probabilities of classes out; `demo.pretrained.head` explains the layers.

    Args:
        classes: Columns of the output.
        rows: That the head was fitted on: each is a centre.
    """
    frozen = encoders()
    parts = []
    for number, part in enumerate(frozen.outputs):
        standard = layers.BatchNormalization(center=False, scale=False, epsilon=1e-12, name=f"standard_{number}")
        parts.append(layers.UnitNormalization()(standard(part)))
    joined = layers.Concatenate(name="joined")(parts)
    near = layers.Dense(rows, activation="exponential", name="near")(joined)
    return keras.Model(frozen.inputs, layers.Dense(classes, activation="softmax", name="classes")(near))


def assemble(head: Head, frozen: keras.Model) -> keras.Model:
    """What `build` gives, with the weights of a head and of `encoders`."""
    kernel, _ = head.classes
    model = build(kernel.shape[1], kernel.shape[0])
    for layer in frozen.layers:
        if isinstance(layer, keras.Model):
            model.get_layer(layer.name).set_weights(layer.get_weights())
    for number, (mean, variance) in enumerate(zip(head.means, head.variances, strict=True)):
        assign(model.get_layer(f"standard_{number}"), [mean, variance])
    assign(model.get_layer("near"), list(head.near))
    assign(model.get_layer("classes"), list(head.classes))
    return model
