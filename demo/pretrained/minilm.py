"""MiniLM, a small BERT that gives sentences of like meaning like vectors, in plain Keras.

Wang et al., "MiniLM" (2020); the weights are those of sentence-transformers/all-MiniLM-L6-v2.
"""

from typing import Final

import keras
from keras import layers, ops

from demo.pretrained.weights import Array, Named, Weights, assign

WIDTH: Final = 384
_LAYERS, _HEADS, _HIDDEN, _VOCABULARY = 6, 12, 1536, 30522


def text_encoder(
    length: int,
    weights: Weights | None = None,
    *,
    width: int = WIDTH,
    depth: int = _LAYERS,
    heads: int = _HEADS,
    hidden: int = _HIDDEN,
    vocabulary: int = _VOCABULARY,
) -> keras.Model:
    """Token ids to the mean of a layer over the tokens, for every layer.

    Args:
        length: Ids a row, at most what the weights have positions for (512).
        weights: Named as Hugging Face names those of a `BertModel`. None: random ones.
        width, depth, heads, hidden, vocabulary: Of the architecture.

    Returns:
        A model of int32 ids (batch, length), 0 where there is no token, to depth + 1 float32 arrays of shape
        (batch, width): of the embeddings and of each layer. The last one is what sentence-transformers gives,
        before it scales it to length 1.

    Raises:
        WeightsError: A weight is missing or has another shape.
    """
    ids = keras.Input((length,), dtype="int32", name="input_ids")
    mask = ops.not_equal(ids, 0)
    positions = ops.cumsum(ops.ones_like(ids), axis=1) - 1
    x = layers.Embedding(vocabulary, width, name="words")(ids)
    x = _norm("embeddings_norm")(x + layers.Embedding(length, width, name="positions")(positions))
    read = [x]
    for number in range(depth):
        attention = layers.MultiHeadAttention(heads, width // heads, name=f"attention_{number}")
        seen = attention(x, x, attention_mask=ops.expand_dims(mask, 1))
        x = _norm(f"attention_norm_{number}")(x + seen)
        wide = ops.gelu(layers.Dense(hidden, name=f"wide_{number}")(x), approximate=False)
        x = _norm(f"norm_{number}")(x + layers.Dense(width, name=f"narrow_{number}")(wide))
        read.append(x)
    there = ops.expand_dims(ops.cast(mask, x.dtype), -1)
    count = ops.maximum(ops.sum(there, axis=1), 1)
    model = keras.Model(ids, [ops.sum(each * there, axis=1) / count for each in read], name="minilm")
    if weights is not None:
        for name, values in _arrays(Named(weights), length, depth, heads).items():
            assign(model.get_layer(name), values)
    return model


def _norm(name: str) -> layers.Layer:
    return layers.LayerNormalization(epsilon=1e-12, name=name)


def _arrays(weights: Weights, length: int, depth: int, heads: int) -> dict[str, list[Array]]:
    """The weights of each layer, as Keras orders and shapes them."""

    def norm(name: str) -> list[Array]:
        return [weights[f"{name}.LayerNorm.weight"], weights[f"{name}.LayerNorm.bias"]]

    def dense(name: str) -> list[Array]:
        return [weights[f"{name}.weight"].T, weights[f"{name}.bias"]]

    def split(name: str) -> list[Array]:  # by head
        kernel, bias = dense(name)
        return [kernel.reshape(len(kernel), heads, -1), bias.reshape(heads, -1)]

    # All text is of the first segment, so its vector is a part of every position's.
    positions = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    found = {
        "words": [weights["embeddings.word_embeddings.weight"]],
        "positions": [positions[:length]],
        "embeddings_norm": norm("embeddings"),
    }
    for number in range(depth):
        here = f"encoder.layer.{number}"
        kernel, bias = dense(f"{here}.attention.output.dense")
        parts = [array for name in ("query", "key", "value") for array in split(f"{here}.attention.self.{name}")]
        found |= {
            f"attention_{number}": [*parts, kernel.reshape(heads, -1, kernel.shape[1]), bias],
            f"attention_norm_{number}": norm(f"{here}.attention.output"),
            f"wide_{number}": dense(f"{here}.intermediate.dense"),
            f"narrow_{number}": dense(f"{here}.output.dense"),
            f"norm_{number}": norm(f"{here}.output"),
        }
    return found
