"""The signatures of a model with a `PreprocessingSpec`: names, dtypes and shapes."""

import dataclasses
from typing import Final

from duoserve.contract.spec import PreprocessingSpec

__all__ = [
    "DESCRIBE",
    "EMBED",
    "EXPLAIN",
    "SERVING_BYTES",
    "SERVING_DEFAULT",
    "SignatureSpec",
    "TensorSpec",
    "answer_tensor",
    "signatures",
]

SERVING_DEFAULT: Final = "serving_default"
"""Tensors in: preprocessed by the caller. A quarter of the bytes of float32 pixels."""

SERVING_BYTES: Final = "serving_bytes"
"""Encoded image or clip and raw text in: preprocessed in the graph. See `PreprocessingSpec.serving_bytes`."""

DESCRIBE: Final = "describe"
"""A dummy row in (a batching server refuses a signature without inputs), the `PreprocessingSpec` as JSON out."""

EMBED: Final = "embed"
"""Tensors in, a vector out: the features where both inputs are joined. Of length 1: a dot product is a cosine."""

EXPLAIN: Final = "explain"
"""Tensors and a column of the answer in; how much its value falls without each patch, word and input out.

`class_id` is the column of the class, tag or score, or -1 for the most probable one (or the first score)."""


@dataclasses.dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, dtype and shape of one input or output of a signature.

    Attributes:
        name: The key in the request or reply.
        dtype: numpy's name of the dtype, or "string".
        shape: One entry for each dimension; None for any size (only the batch dimension).
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        dims = ", ".join("batch" if dim is None else str(dim) for dim in self.shape)
        comma = "," if len(self.shape) == 1 else ""
        return f"{self.dtype} array of shape ({dims}{comma})"


@dataclasses.dataclass(frozen=True, slots=True)
class SignatureSpec:
    """Inputs and outputs of one signature, by name."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def answer_tensor(spec: PreprocessingSpec, rows: int | None = None) -> TensorSpec:
    """The output with the answer of a model with this spec, for this number of rows."""
    return TensorSpec(spec.answer.output, "float32", (rows, len(spec.labels)))


def signatures(spec: PreprocessingSpec) -> dict[str, SignatureSpec]:
    """Every signature of a model with this spec, by name: names, dtypes and shapes."""
    image = TensorSpec("image", "uint8", (None, spec.image_height, spec.image_width, 3))
    tokens = TensorSpec("tokens", "int32", (None, spec.token_length))
    answer = answer_tensor(spec)

    def strings(name: str) -> TensorSpec:
        return TensorSpec(name, "string", (None,))

    decided = () if spec.answer.decided is None else (strings(spec.answer.decided),)
    found = [
        SignatureSpec(SERVING_DEFAULT, (image, tokens), (answer,)),
        SignatureSpec(DESCRIBE, (strings("key"),), (strings("spec"),)),
    ]
    if spec.serving_bytes:
        inputs = strings(spec.bytes_input), strings("text")
        found.insert(1, SignatureSpec(SERVING_BYTES, inputs, (answer, *decided)))
    if spec.embedding_length:
        embedding = TensorSpec("embedding", "float32", (None, spec.embedding_length))
        found.append(SignatureSpec(EMBED, (image, tokens), (embedding,)))
    if spec.explain_grid is not None:
        class_id = TensorSpec("class_id", "int32", (None,))
        relevances = (
            TensorSpec("image_relevance", "float32", (None, *spec.explain_grid)),
            TensorSpec("token_relevance", "float32", (None, spec.token_length)),
            TensorSpec("input_relevance", "float32", (None, 2)),
        )
        value = TensorSpec(spec.answer.value, "float32", (None,))
        found.append(SignatureSpec(EXPLAIN, (image, tokens, class_id), (class_id, value, *relevances)))
    return {signature.name: signature for signature in found}
