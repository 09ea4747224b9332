"""Texts to token ids inside the graph, for the signature `serving_bytes`.

The twin of `duoserve.preprocessing.tokenizers`: the ids are identical for any text. A kind of tokenizer
without an equivalent here is refused, with the reason; its versions are published without the signature.
"""

import json
from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tensorflow_text as tf_text

from duoserve.contract import SENTENCEPIECE, TEXT, WORDPIECE, PreprocessingSpec, unpack_tokenizer
from duoserve.preprocessing.tokenizers.kinds import load_tokenizer
from export.errors import ExportError
from export.graph.wordpiece import WordPiece


class GraphTokenizer:
    """Turns texts into rows of token ids, like the client.

    Attributes:
        resources: What the SavedModel has to track.

    Raises:
        ExportError: The graph can't compute the ids of the spec's tokenizer; the message has the reason.
    """

    def __init__(self, spec: PreprocessingSpec) -> None:
        self._spec = spec
        self._client = load_tokenizer(spec)
        self._tokenize, self.resources = _of_kind(spec)
        # Where a text may be missing, no bytes mean that it is; elsewhere they are a text without words.
        self._missing = TEXT in spec.optional and bool(self._client.prefix or self._client.suffix)

    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]  # TensorFlow has no types
    def __call__(self, text: tf.Tensor) -> tf.Tensor:
        """int32 array of shape (batch, token_length): ids, padded with `pad_id` or cut.

        Args:
            text: string array of shape (batch,), UTF-8.
        """
        length, pad_id = self._spec.token_length, self._spec.pad_id
        prefix, suffix = self._client.prefix, self._client.suffix
        ids = self._tokenize(text)[:, : length - len(prefix) - len(suffix)]
        if prefix or suffix:
            before, after = (
                tf.repeat(tf.constant([each], tf.int32), tf.size(text), axis=0) for each in (prefix, suffix)
            )
            ids = tf.concat([before, ids, after], axis=1)
        found = ids.to_tensor(pad_id, shape=[None, length])
        if not self._missing:
            return found
        return tf.where(tf.strings.length(text)[:, tf.newaxis] == 0, pad_id, found)


def _of_kind(spec: PreprocessingSpec) -> tuple[Callable[[tf.Tensor], tf.RaggedTensor], Any]:
    if spec.tokenizer_kind == SENTENCEPIECE:
        tokenizer = tf_text.SentencepieceTokenizer(model=spec.tokenizer, out_type=tf.int32)
        return tokenizer.tokenize, tokenizer
    if spec.tokenizer_kind == WORDPIECE:
        return WordPiece(json.loads(unpack_tokenizer(spec.tokenizer))), None
    raise ExportError(f"TensorFlow Text has no operation for tokenizers of the kind {spec.tokenizer_kind}")
