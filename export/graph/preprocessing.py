"""Text preprocessing inside the graph, for the `serving_bytes` signature.

The twin of `duoserve.preprocessing.preprocessor`: token ids are identical. Whoever changes one
changes both; the gate and `tests/export/test_parity.py` compare them. For images see `export.graph.images`.
"""

from __future__ import annotations

import tensorflow as tf
import tensorflow_text as tf_text

from duoserve.contract import PreprocessingSpec

__all__ = ["make_tokenizer", "tokenize"]


def make_tokenizer(spec: PreprocessingSpec) -> tf_text.SentencepieceTokenizer:
    """The spec's SentencePiece model as TensorFlow Text ops. The SavedModel has to track it."""
    return tf_text.SentencepieceTokenizer(model=spec.tokenizer, out_type=tf.int32)


def tokenize(tokenizer: tf_text.SentencepieceTokenizer, spec: PreprocessingSpec, text: tf.Tensor) -> tf.Tensor:
    """int32 array of shape (batch, token_length): ids, padded with `pad_id` or cut.

    Args:
        text: string array of shape (batch,), UTF-8.
    """
    ids = tokenizer.tokenize(text)[:, : spec.token_length]
    return ids.to_tensor(spec.pad_id, shape=[None, spec.token_length])
